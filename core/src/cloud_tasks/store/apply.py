"""Applying a batch of events inside one transaction.

Invariants, each with a test:

1. An event whose id was seen before changes nothing: events may be delivered any number of times, in any order.
2. A final status is never overwritten; what comes late is kept in the history and counted.
3. Counters always equal what a scan of the tables would count, after every batch, whatever the events said.
4. No event is refused: one about an unknown task, or without a sender, is kept and counted.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from cloud_tasks.model import AttemptOutcome, Event, EventType, TaskStatus
from cloud_tasks.store.codes import EVENT_TO_CODE, FINAL_CODES, OUTCOME_TO_CODE, STATUS_OF_CODE, STATUS_TO_CODE
from cloud_tasks.store.counters import Deltas
from cloud_tasks.store.hosts import Hosts
from cloud_tasks.store.records import Applied
from cloud_tasks.store.runs import Runs
from cloud_tasks.store.transition import TaskState, advance, is_task_event

__all__ = ["apply_batch", "describe_exception"]

_INSERT_EVENT = """
INSERT INTO events (id, event_id, type, at, host, task, task_id, attempt, details) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_UPDATE_TASK = "UPDATE tasks SET status = ?, attempt = ?, losses = ?, elapsed = ?, ended_at = ? WHERE seq = ?"
_RUNNING = STATUS_TO_CODE[TaskStatus.RUNNING]
_COMPLETED = STATUS_TO_CODE[TaskStatus.COMPLETED]
_LOST = OUTCOME_TO_CODE[AttemptOutcome.LOST]
_MESSAGE_LENGTH = 300

_OUTCOMES = {
    EventType.TASK_COMPLETED: AttemptOutcome.COMPLETED,
    EventType.TASK_EXCEPTION: AttemptOutcome.EXCEPTION,
    EventType.TASK_TIMED_OUT: AttemptOutcome.TIMED_OUT,
    EventType.TASK_EXITED: AttemptOutcome.EXITED,
    EventType.TASK_RELEASED: AttemptOutcome.LOST,
    EventType.TASK_DEAD: AttemptOutcome.LOST,
}


class _Row:
    """One task while a batch is applied to it."""

    __slots__ = ("attempt", "changed", "elapsed", "ended_at", "losses", "seq", "status")

    def __init__(self, seq: int, status: int, attempt: int, losses: int, elapsed: float | None, ended: float | None):
        self.seq = seq
        self.status = status
        self.attempt = attempt
        self.losses = losses
        self.elapsed = elapsed
        self.ended_at = ended
        self.changed = False


def apply_batch(connection: sqlite3.Connection, events: Sequence[Event]) -> Applied:
    """Apply events in the order given; the caller opens the transaction."""
    fresh = _fresh(connection, events)
    if not fresh:
        return Applied(duplicate=len(events))
    batch = _Batch(connection, fresh)
    for event in fresh:
        batch.take(event)
    batch.write()
    return Applied(new=len(fresh), duplicate=len(events) - len(fresh), late=batch.late, unknown_task=batch.unknown)


def _fresh(connection: sqlite3.Connection, events: Iterable[Event]) -> list[Event]:
    """The events not seen before, the first of each id."""
    by_id: dict[str, Event] = {}
    for event in events:
        by_id.setdefault(event.event_id, event)
    known = connection.execute(
        "SELECT event_id FROM events WHERE event_id IN (SELECT value FROM json_each(?))", (json.dumps(list(by_id)),)
    )
    for (event_id,) in known.fetchall():
        by_id.pop(event_id, None)
    return list(by_id.values())


class _Batch:
    """The rows that a batch touches, read once, changed in memory, written once."""

    def __init__(self, connection: sqlite3.Connection, events: Sequence[Event]) -> None:
        self._connection = connection
        self._tasks = self._read_tasks({event.task_id for event in events if event.task_id is not None})
        self._runs = Runs(connection, [row.seq for row in self._tasks.values()])
        self._hosts = Hosts(connection)
        self._deltas = Deltas(connection)
        self._exceptions: Counter[str] = Counter()
        self._rows: list[tuple[Any, ...]] = []
        (self._last_id,) = connection.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
        self._encode = json.JSONEncoder(separators=(",", ":"), default=str).encode
        self.late = 0
        self.unknown = 0

    def _read_tasks(self, task_ids: set[str]) -> dict[str, _Row]:
        if not task_ids:
            return {}
        found = self._connection.execute(
            "SELECT task_id, seq, status, attempt, losses, elapsed, ended_at FROM tasks "
            "WHERE task_id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(task_ids)),),
        )
        return {row[0]: _Row(*row[1:]) for row in found}

    def take(self, event: Event) -> None:
        at = event.timestamp.timestamp()
        host = self._hosts.heard(event.instance_id or "", event.hostname, at)
        self._deltas.event(event.event_type)
        self._last_id += 1
        row = self._tasks.get(event.task_id) if event.task_id is not None else None
        if event.event_type is EventType.SPOT_TERMINATION:
            host.spot_terminated(at)
        elif event.event_type is EventType.KEEP_ALIVE and event.details.get("running_tasks"):
            host.busy(at)
        if is_task_event(event.event_type):
            if event.task_id is None or row is None:
                self.unknown += 1
            else:
                self._advance(event, row, at, host)
        self._rows.append(
            (
                self._last_id,
                event.event_id,
                EVENT_TO_CODE[event.event_type],
                at,
                host.key,
                None if row is None else row.seq,
                event.task_id if row is None else None,
                event.attempt,
                self._details(event),
            )
        )

    def _details(self, event: Event) -> str | None:
        details = dict(event.details)
        if event.retry is not None:
            details["retry"] = event.retry
        if event.elapsed_time is not None:
            details["elapsed_time"] = event.elapsed_time
        return self._encode(details) if details else None

    def _advance(self, event: Event, row: _Row, at: float, host: Any) -> None:
        attempt = row.attempt if event.attempt is None else event.attempt
        host.busy(at)
        if event.event_type is EventType.TASK_STARTED:
            if not self._runs.start(row.seq, attempt, at, host):
                # Its end was heard before its start: the history is complete, the state has moved on.
                self.late += 1
                return
            self._deltas.started(at)
        else:
            self._end(event, row, attempt, at, host)
        before = TaskState(status=STATUS_OF_CODE[row.status], attempt=row.attempt, losses=row.losses)
        after = advance(before, event.event_type, attempt, bool(event.retry))
        if after is None:
            self.late += 1
        elif after != before:
            self._move(row, after, event, at, host)

    def _end(self, event: Event, row: _Row, attempt: int, at: float, host: Any) -> None:
        outcome = _OUTCOMES[event.event_type]
        if outcome is AttemptOutcome.COMPLETED and event.retry:
            outcome = AttemptOutcome.RETRY_REQUESTED
        reason = _reason(event)
        began = self._runs.end(
            row.seq,
            attempt,
            at,
            host,
            outcome=OUTCOME_TO_CODE[outcome],
            elapsed=event.elapsed_time,
            reason=reason,
            event=self._last_id,
            insert=event.event_type is not EventType.TASK_DEAD,
        )
        if began is not None:
            self._deltas.started(began)
        if event.event_type is EventType.TASK_EXCEPTION:
            self._exceptions[reason] += 1

    def _move(self, row: _Row, after: TaskState, event: Event, at: float, host: Any) -> None:
        status = STATUS_TO_CODE[after.status]
        self._deltas.moved(row.status, status)
        if event.event_type is not EventType.TASK_STARTED and after.status is TaskStatus.QUEUED:
            self._deltas.add("losses", after.losses - row.losses)
            self._deltas.add("retries", int(after.losses == row.losses))
        row.status, row.attempt, row.losses, row.changed = status, after.attempt, after.losses, True
        if status in FINAL_CODES:
            row.elapsed, row.ended_at = event.elapsed_time, at
            host.finished(completed=status == _COMPLETED)
            self._deltas.latest("last_end", at)
            if status == _COMPLETED and event.elapsed_time is not None:
                self._deltas.elapsed(event.elapsed_time)

    def write(self) -> None:
        execute_many = self._connection.executemany
        changed = [row for row in self._tasks.values() if row.changed]
        self._hosts.write()
        execute_many(_INSERT_EVENT, self._rows)
        execute_many(_UPDATE_TASK, [(r.status, r.attempt, r.losses, r.elapsed, r.ended_at, r.seq) for r in changed])
        self._runs.write()
        execute_many(
            "INSERT INTO exceptions (summary, count) VALUES (?, ?) "
            "ON CONFLICT (summary) DO UPDATE SET count = count + excluded.count",
            list(self._exceptions.items()),
        )
        self._deltas.add("late", self.late)
        self._deltas.add("unknown_task", self.unknown)
        self._deltas.write()


def _reason(event: Event) -> str:
    details = event.details
    if event.event_type is EventType.TASK_EXCEPTION:
        return describe_exception(details)
    if event.event_type is EventType.TASK_EXITED:
        if details.get("signal"):
            return f"signal {details['signal']}"
        return f"exit code {details.get('exit_code')}"
    return str(details.get("cause") or details.get("reason") or "")[:_MESSAGE_LENGTH]


def describe_exception(details: Any) -> str:
    """``Type: message`` on one line, from the details of an exception event of any age."""
    text = str(details.get("exception") or "").strip()
    kind = str(details.get("exception_type") or "").strip()
    lines = text.splitlines() or [""]
    # Older workers put the whole traceback there; its last line says what happened.
    line = lines[-1] if lines[0].startswith("Traceback ") else lines[0]
    line = " ".join(line.split())
    if kind and line != kind and not line.startswith(f"{kind}:"):
        line = f"{kind}: {line}" if line else kind
    return (line or "unknown exception")[:_MESSAGE_LENGTH]
