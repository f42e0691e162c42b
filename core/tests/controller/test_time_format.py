"""Durations in log lines."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cloud_tasks.controller.time_format import format_span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (0.25, "0.2s"),
        (1, "1s"),
        (45.4, "45s"),
        (60, "1m"),
        (400, "6m 40s"),
        (5400, "1h 30m"),
        (90061, "1d 1h"),
    ],
)
def test_format_span_shows_the_two_largest_units(seconds: float, text: str) -> None:
    assert format_span(timedelta(seconds=seconds)) == text
