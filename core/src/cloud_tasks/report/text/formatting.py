"""How quantities are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

__all__ = ["counted", "format_duration", "indented"]


def format_duration(span: timedelta) -> str:
    """Whole seconds, largest unit first: ``8m 27s``, ``2d 0h 3m 5s``; a span below zero is none: ``0s``."""
    seconds = max(round(span.total_seconds()), 0)
    days, seconds = divmod(seconds, 86400)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")]
    while len(parts) > 1 and parts[0][0] == 0:
        parts.pop(0)
    return " ".join(f"{number}{unit}" for number, unit in parts)


def counted(number: int, noun: str) -> str:
    """``1 host``, ``2 hosts``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def indented(lines: Iterable[str], depth: int = 2) -> Iterator[str]:
    """Each line moved to the right."""
    return (" " * depth + line for line in lines)
