"""Formatting of quantities."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cloud_tasks.model import Money
from cloud_tasks.quantities import counted, format_cost, format_duration, format_span, without_traceback


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.2, "0.2s"), (1.284, "1.28s"), (9.999, "10s"), (10.4, "10s"), (90, "1m 30s")]
)
def test_format_duration_precise_shows_fractions_of_short_durations(seconds: float, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds), precise=True) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 tasks"), (1, "1 task"), (2, "2 tasks"), (1155, "1,155 tasks")])
def test_counted_uses_singular_and_separators(number: int, text: str) -> None:
    assert counted(number, "task") == text


@pytest.mark.parametrize(
    ("usd", "places", "text"),
    [
        ("0.0003", 2, "$0.0003"),
        ("0.0049", 2, "$0.005"),
        ("0.005", 2, "$0.005"),
        ("0.006", 2, "$0.01"),
        ("0.00026", 2, "$0.0003"),
        ("0.00001234", 4, "$0.00001"),
        ("-0.0003", 2, "$-0.0003"),
        ("0", 2, "$0.00"),
        ("0.00", 4, "$0.0000"),
        ("1234.5", 2, "$1,234.50"),
    ],
)
def test_money_that_is_not_zero_never_reads_as_zero(usd: str, places: int, text: str) -> None:
    assert Money(usd).format(places) == text
    assert places != 2 or str(Money(usd)) == text


@pytest.mark.parametrize(
    ("usd", "text"), [("0", "$0.00"), ("0.0011", "$0.001100"), ("0.01", "$0.01"), ("25", "$25.00")]
)
def test_format_cost_never_shows_a_small_amount_as_zero(usd: str, text: str) -> None:
    assert format_cost(Money(usd)) == text


def test_without_traceback_removes_the_traceback_that_the_worker_printed() -> None:
    assert without_traceback("working\nTraceback: x\n", "Traceback: x") == "working"
    assert without_traceback("working\n", "") == "working"


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
