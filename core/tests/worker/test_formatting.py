"""Amounts in log lines and error messages of the worker."""

from __future__ import annotations

import pytest

from cloud_tasks.worker.common.formatting import counted, format_bytes, format_duration


def test_counted_uses_the_plural_except_for_one() -> None:
    assert [counted(number, "task") for number in (0, 1, 2, 1155)] == ["0 tasks", "1 task", "2 tasks", "1,155 tasks"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_950, "1.0 MB"),
        (268_435_456, "268.4 MB"),
        (3 * 10**12, "3,000.0 GB"),
    ],
)
def test_format_bytes_uses_the_largest_unit(number, text) -> None:
    assert format_bytes(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (0.25, "0.2s"), (30.0, "30s"), (59.6, "1m"), (133.0, "2m 13s"), (600.0, "10m"), (3600.0, "1h 0m")],
)
def test_format_duration_uses_the_two_largest_units(seconds, text) -> None:
    assert format_duration(seconds) == text
