"""Conversion between times and the Unix seconds (UTC) in the database."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["from_unix", "from_unix_or_none", "to_unix"]


def to_unix(when: datetime) -> float:
    """Return Unix seconds. Raise `ValueError` for a time without a time zone."""
    if when.tzinfo is None:
        raise ValueError(f"{when} has no time zone")
    return when.timestamp()


def from_unix(seconds: float) -> datetime:
    """Return a time in UTC."""
    return datetime.fromtimestamp(seconds, tz=UTC)


def from_unix_or_none(seconds: float | None) -> datetime | None:
    """Return a time in UTC, or None for None."""
    return None if seconds is None else from_unix(seconds)
