"""Applying a batch of events inside one transaction: read the rows that it touches, fold, write.

Invariants, each with a test:

1. An event whose id is known changes nothing: events may be delivered any number of times, in any order.
2. A terminal state is never overwritten.
3. Counters equal what a scan of the tables would count, after every batch, whatever the events contain.
4. Any `Event` is applied or, if its type, task or attempt cannot be used, dead-lettered; nothing but a failure of the
   database raises.

The second and third follow from `fold_events`. Each row is read once and written once: this is the hot path of a job.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from cloud_tasks.convert import clean_event
from cloud_tasks.model import MAX_ATTEMPT, Event, EventType
from cloud_tasks.sanitize import UnusableValueError
from cloud_tasks.store.db.batch_insert import chunks, insert_rows
from cloud_tasks.store.records import Applied
from cloud_tasks.store.write.attempt_history import ATTEMPT_COLUMNS
from cloud_tasks.store.write.counters import RUN_STARTED, read_counter
from cloud_tasks.store.write.dead_letters import dead_letter
from cloud_tasks.store.write.event_fold import Changes, TouchedRows, fold_events
from cloud_tasks.store.write.workers import read_workers, write_workers

__all__ = ["apply_batch"]

_INSERT_EVENT = "INSERT OR FAIL INTO events (id, event_id, type, at, host, task, task_id, attempt, details)"
_UPDATE_TASK = "UPDATE tasks SET status = ?, attempt = ?, losses = ?, elapsed = ?, ended_at = ? WHERE seq = ?"
_ATTEMPT_COLUMNS = ", ".join(ATTEMPT_COLUMNS)
_WRITE_ATTEMPT = (
    f"INSERT OR REPLACE INTO attempts ({_ATTEMPT_COLUMNS}) VALUES ({', '.join('?' * len(ATTEMPT_COLUMNS))})"
)


_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_MAX_AHEAD = timedelta(days=1)


def apply_batch(connection: sqlite3.Connection, events: Sequence[Event], now: datetime) -> Applied:
    """Apply events in the order given, inside the caller's transaction.

    Args:
        now: UTC; replaces an implausible time of an event.
    """
    latest = now + _MAX_AHEAD
    sound, unusable = events, 0
    if not all(_is_sound(event, latest) for event in events):
        sound = _clean(connection, events, now, latest=latest)
        unusable = len(events) - len(sound)
    new = _new_events(connection, sound)
    rows = _read_touched(connection, new)
    try:
        changes = fold_events(rows, new)
    except Exception:
        # Details that JSON cannot represent: such events do not come from a queue.
        new = _clean(connection, new, now)
        changes = fold_events(rows, new)
    duplicate = len(sound) - len(new)
    changes.counters.add("duplicates", duplicate)
    _write(connection, changes)
    return Applied(
        new=len(new),
        duplicate=duplicate,
        late=changes.late,
        unknown_task=changes.unknown_task,
        dead_letters=unusable,
    )


def _is_sound(event: Event, latest: datetime) -> bool:
    """Return whether the fields can be stored as they are; text that is not ASCII is not examined here."""
    at, attempt, elapsed, retry = event.timestamp, event.attempt, event.elapsed_time, event.retry
    return (
        type(at) is datetime
        and at.tzinfo is UTC
        and _EARLIEST <= at <= latest
        and (attempt is None or (type(attempt) is int and 0 < attempt <= MAX_ATTEMPT))
        and (elapsed is None or (type(elapsed) is float and 0.0 <= elapsed < 1e9))
        and (retry is None or retry is True or retry is False)
        and type(event.event_type) is EventType
        and type(event.details) is dict
        and _is_plain(event.event_id)
        and _is_plain(event.hostname)
        and (event.instance_id is None or _is_plain(event.instance_id))
        and (event.task_id is None or _is_plain(event.task_id))
    )


def _is_plain(text: object) -> bool:
    return type(text) is str and text.isascii()


def _clean(
    connection: sqlite3.Connection, events: Iterable[Event], now: datetime, *, latest: datetime | None = None
) -> list[Event]:
    """Return the events as they can be stored; dead-letter those that cannot.

    Args:
        latest: Leave events that are sound, with this latest time, as they are.
    """
    cleaned = []
    for event in events:
        try:
            is_sound = latest is not None and _is_sound(event, latest)
            cleaned.append(event if is_sound else clean_event(event, now))
        except UnusableValueError as error:
            dead_letter(connection, b"", str(error), now)
    return cleaned


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
