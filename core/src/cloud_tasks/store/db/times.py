"""Conversion between times and the Unix seconds (UTC) in the database.

Reading never raises, whatever is in the file: a time outside 1970 to 2199, or no number, is unknown.
"""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["UNKNOWN_TIME", "from_unix", "from_unix_or_none", "to_unix"]

UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for a required time that cannot be read."""
_MAX_SECONDS = datetime(2200, 1, 1, tzinfo=UTC).timestamp()


def to_unix(when: datetime) -> float:
    """Return Unix seconds. Raise `ValueError` for a time without a time zone."""
    if when.tzinfo is None:
        raise ValueError(f"{when} has no time zone")
    return when.timestamp()


def from_unix(seconds: float) -> datetime:
    """Return a time in UTC; `UNKNOWN_TIME` if it cannot be read."""
    return from_unix_or_none(seconds) or UNKNOWN_TIME


def from_unix_or_none(seconds: object) -> datetime | None:
    """Return a time in UTC, or None for None and for what cannot be read."""
    if not isinstance(seconds, (int, float)) or not 0 <= seconds < _MAX_SECONDS:
        return None
    return datetime.fromtimestamp(seconds, tz=UTC)
