"""The history of a job: iterators over its tasks, attempts and events.

Each function opens the file read-only, also while a controller writes, and reads one snapshot in constant memory.
Errors: `StoreError` if the file cannot be opened or is damaged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.model import AttemptOutcome, Event, EventType, TaskStatus
from cloud_tasks.sanitize import finite_seconds
from cloud_tasks.store.db.enum_codes import EVENT_OF_CODE, OUTCOME_TO_CODE, STATUS_TO_CODE, status_of
from cloud_tasks.store.db.reading import decode_object, open_reader, whole
from cloud_tasks.store.db.times import from_unix, from_unix_or_none
from cloud_tasks.store.records import AttemptRecord
from cloud_tasks.store.write.tasks import attempt_record

__all__ = ["TaskAttempt", "TaskRecord", "iterate_attempts", "iterate_events", "iterate_tasks", "slowest_tasks"]

_COMPLETED = OUTCOME_TO_CODE[AttemptOutcome.COMPLETED]
_LOST = OUTCOME_TO_CODE[AttemptOutcome.LOST]


@attrs.frozen(kw_only=True)
class TaskRecord:
    """One task with its result."""

    task_id: str
    status: TaskStatus
    attempt: int
    """Number of the running attempt, of the next one, or of the last one of a finished task."""
    losses: int
    """Interrupted attempts."""
    elapsed_time: float | None
    """Seconds of the attempt that finished it."""
    ended_at: datetime | None
    """Time at which it reached a terminal state."""
    hostname: str
    """Host of its last attempt."""
    reason: str
    """Reason for which its last attempt ended, and of a dead task the limit that it used up; empty for a success."""
    result: Any
    """Return value of a completed task, as its worker reported it; None for other tasks and values elsewhere."""
    result_type: str | None
    """Module and class of a return value without a JSON form; else None."""
    result_bytes: int | None
    """Size of a return value that was pickled or stored; else None."""
    result_address: str | None
    """Path or URL of a return value in the result store; else None."""
    result_pickle: str | None
    """A pickled return value in base64; else None. Unpickling executes code: see `cloud_tasks.results`."""
    data: Mapping[str, Any]
    """As loaded."""


@attrs.frozen(kw_only=True)
class TaskAttempt:
    """One execution of an attempt, with its task."""

    task_id: str
    record: AttemptRecord
    details: Mapping[str, Any]
    """Details of its end event: ``result``, ``stack_trace``, ``log_tail`` and others; empty without one."""


# The last execution of each task, and the event that completed it.
_TASKS = """
SELECT t.task_id, t.status, t.attempt, t.losses, t.elapsed, t.ended_at, h.hostname, a.outcome, a.reason, t.data,
    (SELECT e.details FROM attempts AS c JOIN events AS e ON e.id = c.ended_by
        WHERE c.task = t.seq AND c.outcome = ? ORDER BY c.run LIMIT 1)
FROM tasks AS t
LEFT JOIN attempts AS a ON a.task = t.seq AND a.run = (SELECT max(l.run) FROM attempts AS l WHERE l.task = t.seq)
LEFT JOIN hosts AS h ON h.host = a.host
"""


def iterate_tasks(path: Path, *, statuses: Iterable[TaskStatus] | None = None) -> Iterator[TaskRecord]:
    """Yield the tasks in input order.

    Args:
        statuses: Restrict to tasks of these statuses; None for all.
    """
    wanted = None if statuses is None else ", ".join(str(STATUS_TO_CODE[status]) for status in statuses)
    where = "" if wanted is None else f"WHERE t.status IN ({wanted}) "
    with open_reader(path) as connection:
        for row in connection.execute(f"{_TASKS}{where}ORDER BY t.seq", (_COMPLETED,)):
            yield _task(row)


def slowest_tasks(path: Path, *, limit: int) -> tuple[TaskRecord, ...]:
    """Return the completed tasks with the longest elapsed time, the slowest first, at most ``limit``."""
    with open_reader(path) as connection:
        found = connection.execute(
            f"{_TASKS}WHERE t.status = ? AND t.elapsed IS NOT NULL ORDER BY t.elapsed DESC, t.seq LIMIT ?",
            (_COMPLETED, STATUS_TO_CODE[TaskStatus.COMPLETED], limit),
        )
        return tuple(_task(row) for row in found)


def _task(row: tuple[Any, ...]) -> TaskRecord:
    task_id, status, attempt, losses, elapsed, ended_at, hostname, outcome, reason, data, completing = row
    details = decode_object(completing) if status_of(status) is TaskStatus.COMPLETED else {}
    size = details.get("result_bytes")
    if status_of(status) is TaskStatus.DEAD:
        reason = _reason_of_dead(whole(attempt), whole(losses), outcome, reason or "")
    return TaskRecord(
        task_id=task_id,
        status=status_of(status),
        attempt=whole(attempt),
        losses=whole(losses),
        elapsed_time=finite_seconds(elapsed),
        ended_at=from_unix_or_none(ended_at),
        hostname=hostname or "",
        reason=reason or "",
        result=details.get("result"),
        result_type=_text(details, "result_type"),
        result_bytes=size if isinstance(size, int) and 0 <= size < 1 << 63 else None,
        result_address=_text(details, "result_address"),
        result_pickle=_text(details, "result_pickle"),
        data=decode_object(data),
    )


def _reason_of_dead(attempt: int, losses: int, outcome: int | None, reason: str) -> str:
    """Return which limit a dead task used up, and how its last attempt ended."""
    if reason.startswith("gave up"):
        return reason
    used = (losses, "interrupted attempt") if outcome == _LOST else (attempt, "attempt")
    limit = f"gave up after {used[0]:,} {used[1]}{'' if used[0] == 1 else 's'}"
    return f"{limit}: {reason}" if reason else limit


_ATTEMPTS = """
SELECT t.task_id, a.attempt, a.outcome, a.started_at, a.ended_at, a.elapsed, h.hostname, h.instance_id, a.reason,
    e.details
FROM tasks AS t JOIN attempts AS a ON a.task = t.seq JOIN hosts AS h ON h.host = a.host
LEFT JOIN events AS e ON e.id = a.ended_by
"""


def iterate_attempts(path: Path, *, task_id: str | None = None) -> Iterator[TaskAttempt]:
    """Yield the attempts by task in input order, the oldest first.

    Args:
        task_id: Restrict to this task; None for all.
    """
    where, values = ("", ()) if task_id is None else ("WHERE t.task_id = ? ", (task_id,))
    with open_reader(path) as connection:
        for found, *columns, details in connection.execute(f"{_ATTEMPTS}{where}ORDER BY t.seq, a.run", values):
            yield TaskAttempt(task_id=found, record=attempt_record(columns), details=decode_object(details))


_EVENTS = """
SELECT e.event_id, e.type, e.at, h.hostname, h.instance_id, coalesce(t.task_id, e.task_id), e.attempt, e.details
FROM events AS e JOIN hosts AS h ON h.host = e.host LEFT JOIN tasks AS t ON t.seq = e.task
"""


def iterate_events(path: Path, *, task_id: str | None = None, after: int = 0) -> Iterator[Event]:
    """Yield the events in order of arrival.

    Args:
        task_id: Restrict to events of this task; None for all. Scans all events either way.
        after: Number of events to skip.
    """
    with open_reader(path) as connection:
        yield from _events(connection, task_id, after)


def _events(connection: sqlite3.Connection, task_id: str | None, after: int) -> Iterator[Event]:
    if task_id is None:
        rows = connection.execute(f"{_EVENTS}WHERE e.id > ? ORDER BY e.id", (after,))
    else:
        found = connection.execute("SELECT seq FROM tasks WHERE task_id = ?", (task_id,)).fetchone()
        seq = None if found is None else found[0]
        rows = connection.execute(
            f"{_EVENTS}WHERE e.id > ? AND (e.task = ? OR e.task_id = ?) ORDER BY e.id", (after, seq, task_id)
        )
    for event_id, code, at, hostname, instance_id, task, attempt, details in rows:
        more = decode_object(details)
        event_type = EVENT_OF_CODE.get(code)
        if event_type is None:
            more["note"] = f"an event of the unknown type {code}"
        yield Event(
            event_id=event_id,
            event_type=event_type or EventType.NON_FATAL_EXCEPTION,
            timestamp=from_unix(at),
            hostname=hostname,
            instance_id=instance_id or None,
            task_id=task,
            attempt=attempt,
            retry=more.pop("retry", None),
            elapsed_time=more.pop("elapsed_time", None),
            details=more,
        )


def _text(details: Mapping[str, Any], name: str) -> str | None:
    value = details.get(name)
    return value if isinstance(value, str) else None
