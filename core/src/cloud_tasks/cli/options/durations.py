"""Durations as option values: ``90s``, ``10m``, ``1h30m``, or a number of seconds."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click

__all__ = ["Duration", "wait_option"]

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|[smhd])\s*")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_LONGEST = timedelta(days=3650)


class Duration(click.ParamType[timedelta]):
    """A duration as `timedelta`.

    Args:
        maximum: Longest duration accepted.
        zero: Whether zero is accepted.
    """

    name = "duration"

    def __init__(self, *, maximum: timedelta = _LONGEST, zero: bool = False) -> None:
        self.maximum = maximum
        self.zero = zero

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        seconds = value.total_seconds() if isinstance(value, timedelta) else _parse(str(value).strip().lower())
        if seconds is None:
            self.fail(f'expected a duration such as 90s, 10m or 2h, got "{value}"', param, ctx)
        if seconds > self.maximum.total_seconds():
            self.fail(f'"{value}" is longer than {self.maximum.days}d', param, ctx)
        if seconds == 0 and not self.zero:
            self.fail("expected a duration longer than 0s", param, ctx)
        return timedelta(seconds=seconds)


def _parse(text: str) -> float | None:
    """Return the duration in seconds; None where the text is no duration."""
    if _NUMBER.fullmatch(text):
        return float(text)
    parts = _PART.findall(text)
    return (
        sum(float(number) * _SECONDS[unit] for number, unit in parts) if _PART.sub("", text) == "" and parts else None
    )


wait_option: Callable[[Any], Any] = click.option(
    "--wait",
    type=Duration(maximum=timedelta(days=1), zero=True),
    default="10m",
    help="Maximum time to wait until all instances are terminated (default: 10m).",
)
