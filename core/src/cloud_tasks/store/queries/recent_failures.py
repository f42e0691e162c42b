"""The latest failures of a job, for live views; each call reads the new events only."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from pathlib import Path

import attrs

from cloud_tasks.model import EventType
from cloud_tasks.store.db.enum_codes import EVENT_OF_CODE, EVENT_TO_CODE
from cloud_tasks.store.db.reading import open_reader
from cloud_tasks.store.db.times import from_unix

__all__ = ["LatestFailure", "RecentFailures"]

_FAILURES = (EventType.TASK_EXCEPTION, EventType.TASK_TIMED_OUT, EventType.TASK_EXITED, EventType.TASK_DEAD)
_CODES = ", ".join(str(EVENT_TO_CODE[kind]) for kind in _FAILURES)
_QUERY = f"""
SELECT e.type, e.at, coalesce(t.task_id, e.task_id), e.attempt, h.hostname,
    (SELECT a.reason FROM attempts AS a WHERE a.task = e.task AND a.ended_by = e.id)
FROM events AS e JOIN hosts AS h ON h.host = e.host LEFT JOIN tasks AS t ON t.seq = e.task
WHERE e.id > ? AND e.id <= ? AND e.type IN ({_CODES}) ORDER BY e.id DESC LIMIT ?
"""


@attrs.frozen(kw_only=True)
class LatestFailure:
    """An attempt that failed recently."""

    at: datetime
    """UTC."""
    task_id: str
    attempt: int | None
    """None in an event of an older worker."""
    hostname: str
    reason: str
    """``ValueError: bad input``, ``exit code 3``."""


class RecentFailures:
    """The latest failures in one database.

    Args:
        limit: Number of failures to keep.
    """

    def __init__(self, path: Path, *, limit: int = 5) -> None:
        self._path = path
        self._limit = limit
        self._seen = 0
        self._latest: tuple[LatestFailure, ...] = ()

    def read(self) -> tuple[LatestFailure, ...]:
        """Return the latest failures, the newest first; read the events since the last call."""
        with open_reader(self._path) as connection:
            (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
            if last > self._seen:
                found = self._between(connection, self._seen, last)
                self._latest = (*found, *self._latest)[: self._limit]
                self._seen = last
        return self._latest

    def _between(self, connection: sqlite3.Connection, after: int, last: int) -> tuple[LatestFailure, ...]:
        rows = connection.execute(_QUERY, (after, last, self._limit)).fetchall()
        return tuple(
            LatestFailure(
                at=from_unix(at),
                task_id=task_id or "",
                attempt=attempt,
                hostname=hostname,
                reason=reason or EVENT_OF_CODE[code].value.removeprefix("task_").replace("_", " "),
            )
            for code, at, task_id, attempt, hostname, reason in rows
        )
