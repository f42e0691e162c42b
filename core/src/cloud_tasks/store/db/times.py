"""Times as the database keeps them: Unix seconds, UTC."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["from_unix", "from_unix_or_none", "to_unix"]


def to_unix(when: datetime) -> float:
    """Raises `ValueError` for a time without a time zone: it would silently be taken for local time."""
    if when.tzinfo is None:
        raise ValueError(f"{when} has no time zone")
    return when.timestamp()


def from_unix(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)


def from_unix_or_none(seconds: float | None) -> datetime | None:
    return None if seconds is None else from_unix(seconds)
