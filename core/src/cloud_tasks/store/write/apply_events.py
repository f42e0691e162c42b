"""Applying a batch of events inside one transaction: read the rows that it touches, fold, write.

Invariants, each with a test:

1. An event whose id is known changes nothing: events may be delivered any number of times, in any order.
2. A terminal state is never overwritten.
3. Counters equal what a scan of the tables would count, after every batch, whatever the events contain.
4. No event is refused.

The last three follow from `fold_events`. Each row is read once and written once: this is the hot path of a job.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Sequence

from cloud_tasks.model import Event
from cloud_tasks.store.db.batch_insert import chunks, insert_rows
from cloud_tasks.store.records import Applied
from cloud_tasks.store.write.attempt_history import ATTEMPT_COLUMNS
from cloud_tasks.store.write.counters import RUN_STARTED, read_counter
from cloud_tasks.store.write.event_fold import Changes, TouchedRows, fold_events
from cloud_tasks.store.write.workers import read_workers, write_workers

__all__ = ["apply_batch"]

_INSERT_EVENT = "INSERT OR FAIL INTO events (id, event_id, type, at, host, task, task_id, attempt, details)"
_UPDATE_TASK = "UPDATE tasks SET status = ?, attempt = ?, losses = ?, elapsed = ?, ended_at = ? WHERE seq = ?"
_ATTEMPT_COLUMNS = ", ".join(ATTEMPT_COLUMNS)
_WRITE_ATTEMPT = (
    f"INSERT OR REPLACE INTO attempts ({_ATTEMPT_COLUMNS}) VALUES ({', '.join('?' * len(ATTEMPT_COLUMNS))})"
)


def apply_batch(connection: sqlite3.Connection, events: Sequence[Event]) -> Applied:
    """Apply events in the order given, inside the caller's transaction."""
    new = _new_events(connection, events)
    changes = fold_events(_read_touched(connection, new), new)
    duplicate = len(events) - len(new)
    changes.counters.add("duplicates", duplicate)
    _write(connection, changes)
    return Applied(new=len(new), duplicate=duplicate, late=changes.late, unknown_task=changes.unknown_task)


def _new_events(connection: sqlite3.Connection, events: Iterable[Event]) -> list[Event]:
    """Return the events whose id is not in the database, the first of each id."""
    by_id: dict[str, Event] = {}
    for event in events:
        by_id.setdefault(event.event_id, event)
    for places, ids in chunks(tuple(by_id)):
        known = connection.execute(f"SELECT event_id FROM events WHERE event_id IN ({places})", ids)
        for (event_id,) in known.fetchall():
            del by_id[event_id]
    return list(by_id.values())


def _read_touched(connection: sqlite3.Connection, events: Sequence[Event]) -> TouchedRows:
    tasks = []
    for places, ids in chunks({event.task_id for event in events if event.task_id is not None}):
        tasks += connection.execute(
            f"SELECT task_id, seq, status, attempt, losses, elapsed, ended_at FROM tasks WHERE task_id IN ({places})",
            ids,
        ).fetchall()
    attempts = connection.execute(
        f"SELECT {_ATTEMPT_COLUMNS} FROM attempts WHERE task IN (SELECT value FROM json_each(?)) ORDER BY task, run",
        (json.dumps([row[1] for row in tasks]),),
    ).fetchall()
    (last_event,) = connection.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
    (last_worker,) = connection.execute("SELECT coalesce(max(host), 0) FROM hosts").fetchone()
    return TouchedRows(
        tasks=tasks,
        attempts=attempts,
        workers=read_workers(connection, {(event.instance_id or "", event.hostname) for event in events}),
        last_worker=last_worker,
        last_event=last_event,
        run_started=read_counter(connection, RUN_STARTED, -math.inf),
    )


def _write(connection: sqlite3.Connection, changes: Changes) -> None:
    write_workers(connection, changes.workers)
    insert_rows(connection, _INSERT_EVENT, changes.events)
    connection.executemany(_UPDATE_TASK, changes.tasks)
    connection.executemany(_WRITE_ATTEMPT, changes.attempts)
    changes.counters.write(connection)
