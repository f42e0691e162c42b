"""Durations as option values."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.cli.options.durations import Duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        (".5", 0.5),
        ("90s", 90),
        ("10m", 600),
        ("2H", 7200),
        ("1d", 86400),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        (" 250ms ", 0.25),
    ],
)
def test_duration_accepts_seconds_and_units(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "x", "-5", "-5m", "10 minits", "5 5", "m", "1h30", "nan", "inf", "1e3", "0x10"])
def test_duration_rejects_other_texts_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected a duration such as 90s, 10m or 2h, got"):
        Duration().convert(text, None, None)


def test_duration_rejects_zero_unless_accepted() -> None:
    with pytest.raises(click.BadParameter, match="longer than 0s"):
        Duration().convert("0s", None, None)
    assert Duration(zero=True).convert("0", None, None) == timedelta(0)


def test_duration_rejects_more_than_its_maximum() -> None:
    with pytest.raises(click.BadParameter, match='"2d" is longer than 1d'):
        Duration(maximum=timedelta(days=1)).convert("2d", None, None)
    with pytest.raises(click.BadParameter, match="longer than 3650d"):
        Duration().convert("9" * 400, None, None)


@given(st.text())
def test_duration_reports_any_text_as_bad_parameter_at_most(text: str) -> None:
    with contextlib.suppress(click.BadParameter):
        assert Duration(zero=True).convert(text, None, None) >= timedelta(0)
