"""The workers of a job, each known by its instance id and host name as its events carry them."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from typing import Any

import attrs

__all__ = ["WorkerRecord", "Workers", "read_workers", "write_workers"]

_COLUMNS = "host, instance_id, hostname, last_heard, last_busy, running, finished, completed, spot_terminated_at"
_WRITE = f"""
INSERT INTO hosts ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (host) DO UPDATE SET last_heard = excluded.last_heard, last_busy = excluded.last_busy,
    running = excluded.running, finished = excluded.finished, completed = excluded.completed,
    spot_terminated_at = excluded.spot_terminated_at
"""


def read_workers(connection: sqlite3.Connection, names: Collection[tuple[str, str]]) -> list[tuple[Any, ...]]:
    """Return the rows of the workers of these (instance id, host name) pairs; a new worker has none."""
    query = f"SELECT {_COLUMNS} FROM hosts WHERE instance_id = ? AND hostname = ?"
    return [row for name in names for row in connection.execute(query, name)]


def write_workers(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert or update these rows, in the column order of `read_workers`."""
    connection.executemany(_WRITE, rows)


@attrs.define(eq=False)
class WorkerRecord:
    """One worker while a batch of events is folded. Times are Unix seconds; the fields are the columns, in order."""

    key: int
    instance_id: str
    hostname: str
    last_heartbeat: float
    """Time of its latest event: its last heartbeat."""
    last_busy: float | None = None
    """Time of the latest event that shows it with a task."""
    running: int = 0
    """Attempts in progress."""
    finished_tasks: int = 0
    """Tasks that reached a terminal state on it."""
    completed_tasks: int = 0
    spot_terminated_at: float | None = None
    """Time of its first spot interruption notice."""

    def mark_busy(self, at: float) -> None:
        """Record that it had a task at this time."""
        if self.last_busy is None or at > self.last_busy:
            self.last_busy = at

    def count_finished(self, *, completed: bool) -> None:
        """Count a task that reached a terminal state on it."""
        self.finished_tasks += 1
        self.completed_tasks += completed

    def mark_spot_termination(self, at: float) -> None:
        """Record a spot interruption notice; the earliest counts."""
        if self.spot_terminated_at is None or at < self.spot_terminated_at:
            self.spot_terminated_at = at


_VALUES = attrgetter(*(field.name for field in attrs.fields(WorkerRecord)))


class Workers:
    """The workers that a batch of events names, changed in memory.

    Args:
        rows: Known ones, as `read_workers` returns them.
        last_key: The highest key in use; new workers get the next ones.
    """

    def __init__(self, rows: Iterable[tuple[Any, ...]], last_key: int) -> None:
        self._last_key = last_key
        self._by_name = {(worker.instance_id, worker.hostname): worker for worker in (WorkerRecord(*r) for r in rows)}

    def heartbeat(self, instance_id: str, hostname: str, at: float) -> WorkerRecord:
        """Return the worker of this name, a new one if it is unknown, with its last heartbeat updated."""
        worker = self._by_name.get((instance_id, hostname))
        if worker is None:
            self._last_key += 1
            worker = WorkerRecord(self._last_key, instance_id, hostname, at)
            self._by_name[instance_id, hostname] = worker
        elif at > worker.last_heartbeat:
            worker.last_heartbeat = at
        return worker

    def rows(self) -> list[tuple[Any, ...]]:
        """Return all of them as rows."""
        return [_VALUES(worker) for worker in self._by_name.values()]
