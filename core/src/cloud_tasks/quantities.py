"""Formatting of quantities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from cloud_tasks.model import Money

__all__ = [
    "counted",
    "describe_result",
    "format_cost",
    "format_duration",
    "format_moment",
    "format_size",
    "format_span",
    "indented",
    "without_traceback",
]

_CENT = Money("0.01")
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def format_duration(span: timedelta, *, precise: bool = False) -> str:
    """Return a duration, largest unit first: ``8m 27s``, ``2d 0h 3m 5s``; a negative one as ``0s``.

    Args:
        precise: Show three significant digits below ten seconds, ``1.25s``; else whole seconds.
    """
    seconds: float = max(span.total_seconds(), 0)
    if precise and 0 < seconds < 10:
        return f"{seconds:.3g}s"
    days, rest = divmod(round(seconds), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    while len(parts) > 1 and parts[0][0] == 0:
        parts.pop(0)
    return " ".join(f"{number}{unit}" for number, unit in parts)


def format_size(number: float) -> str:
    """Return a number of bytes with three significant digits: ``812 B``, ``16.8 MB``."""
    for unit in ("B", "kB", "MB"):
        if number < 999.5 or unit == "MB":
            break
        number /= 1000
    return f"{number:,.0f} {unit}" if number >= 99.95 or unit == "B" else f"{number:.3g} {unit}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 host``, ``2 hosts``, ``1,000 hosts``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def format_moment(moment: datetime, *, now: datetime) -> str:
    """Return a time in UTC, with its date unless that is today's: ``10:57:14 UTC``, ``2026-11-30 10:57 UTC``."""
    return f"{moment:%H:%M:%S} UTC" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M} UTC"


def format_span(span: timedelta) -> str:
    """Return a duration in its two largest units that are not zero; below a second, in tenths."""
    total = round(span.total_seconds())
    if total < 1:
        return f"{max(span.total_seconds(), 0):.1f}s"
    parts: list[str] = []
    for unit, length in _UNITS:
        count, total = divmod(total, length)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def format_cost(amount: Money, *, unit: Money = _CENT) -> str:
    """Return an amount in cents, or with six places where it is less than ``unit``, so that it never reads as zero."""
    return amount.format(2) if not amount or amount >= unit else amount.format(6)


def describe_result(details: Mapping[str, Any]) -> str | None:
    """Return type, size and address of a result that its event does not have as JSON; None for any other result."""
    kind, size, address = (details.get(name) for name in ("result_type", "result_bytes", "result_address"))
    if kind is None and address is None:
        return None
    shown = f"<{kind or 'JSON'}, {size:,} bytes>" if isinstance(size, int) else f"<{kind}, not kept>"
    if address is not None:
        shown += f" in {address}"
    return f"{shown} {details['result_repr']}" if details.get("result_repr") else shown


def without_traceback(output: str, traceback: str) -> str:
    """Return the output of an attempt without the traceback that the worker printed last."""
    return output.strip().removesuffix(traceback.strip()).rstrip()


def indented(lines: Iterable[str], depth: int = 2) -> Iterator[str]:
    """Yield each line indented by ``depth`` spaces."""
    return (" " * depth + line for line in lines)
