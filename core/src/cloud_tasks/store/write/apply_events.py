"""Applying a batch of events inside one transaction.

Invariants, each with a test:

1. An event whose id was seen before changes nothing: events may be delivered any number of times, in any order.
2. A final status is never overwritten; what comes late is kept in the history and counted.
3. Counters always equal what a scan of the tables would count, after every batch, whatever the events said.
4. No event is refused: one about an unknown task, or without a sender, is kept and counted.

The rows that a batch touches are read once, changed in memory and written once; this is the hot path of a job's end.
"""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cloud_tasks.compact_json import compact_encoder
from cloud_tasks.model import AttemptOutcome, Event, EventType, TaskStatus
from cloud_tasks.store.db.batch_insert import chunks, insert_rows
from cloud_tasks.store.db.enum_codes import EVENT_TO_CODE, FINAL_CODES, OUTCOME_TO_CODE, STATUS_OF_CODE, STATUS_TO_CODE
from cloud_tasks.store.records import Applied
from cloud_tasks.store.write.attempt_history import AttemptHistory
from cloud_tasks.store.write.counters import FINISHED_BEFORE, RUN_STARTED, CounterUpdates, read_counters
from cloud_tasks.store.write.state_machine import TaskState, is_task_event, next_state
from cloud_tasks.store.write.workers import WorkerRecord, Workers

__all__ = ["apply_batch", "describe_exception"]

_INSERT_EVENT = "INSERT OR FAIL INTO events (id, event_id, type, at, host, task, task_id, attempt, details)"
_UPDATE_TASK = "UPDATE tasks SET status = ?, attempt = ?, losses = ?, elapsed = ?, ended_at = ? WHERE seq = ?"
_MESSAGE_LENGTH = 300

_OUTCOMES = {
    EventType.TASK_COMPLETED: AttemptOutcome.COMPLETED,
    EventType.TASK_EXCEPTION: AttemptOutcome.EXCEPTION,
    EventType.TASK_TIMED_OUT: AttemptOutcome.TIMED_OUT,
    EventType.TASK_EXITED: AttemptOutcome.EXITED,
    EventType.TASK_RELEASED: AttemptOutcome.LOST,
    EventType.TASK_DEAD: AttemptOutcome.LOST,
}
_OUTCOME_CODES = {event_type: OUTCOME_TO_CODE[outcome] for event_type, outcome in _OUTCOMES.items()}
_TASK_CODES = frozenset(code for event_type, code in EVENT_TO_CODE.items() if is_task_event(event_type))
_RETRY_REQUESTED = OUTCOME_TO_CODE[AttemptOutcome.RETRY_REQUESTED]
_ENCODE = compact_encoder(default=str)


class _Row:
    """One task while a batch is applied to it."""

    __slots__ = ("changed", "elapsed", "ended_at", "seq", "state", "status")

    def __init__(self, seq: int, status: int, attempt: int, losses: int, elapsed: float | None, ended: float | None):
        self.seq = seq
        self.status = status
        self.state = TaskState(STATUS_OF_CODE[status], attempt, losses)
        self.elapsed = elapsed
        self.ended_at = ended
        self.changed = False

    def written(self) -> tuple[Any, ...]:
        return (self.status, self.state.attempt, self.state.losses, self.elapsed, self.ended_at, self.seq)


def apply_batch(connection: sqlite3.Connection, events: Sequence[Event]) -> Applied:
    """Apply events in the order given; the caller opens the transaction."""
    fresh = _fresh(connection, events)
    duplicate = len(events) - len(fresh)
    batch = _Batch(connection, fresh)
    for event in fresh:
        batch.take(event)
    batch.write(duplicate)
    return Applied(new=len(fresh), duplicate=duplicate, late=batch.late, unknown_task=batch.unknown)


def _fresh(connection: sqlite3.Connection, events: Iterable[Event]) -> list[Event]:
    """The events not seen before, the first of each id."""
    by_id: dict[str, Event] = {}
    for event in events:
        by_id.setdefault(event.event_id, event)
    for places, ids in chunks(tuple(by_id)):
        known = connection.execute(f"SELECT event_id FROM events WHERE event_id IN ({places})", ids)
        for (event_id,) in known.fetchall():
            del by_id[event_id]
    return list(by_id.values())


class _Batch:
    """What one batch reads, changes and writes."""

    def __init__(self, connection: sqlite3.Connection, events: Sequence[Event]) -> None:
        self._connection = connection
        self._tasks = self._read_tasks({event.task_id for event in events if event.task_id is not None})
        self._runs = AttemptHistory(connection, [row.seq for row in self._tasks.values()])
        self._hosts = Workers(connection)
        self._deltas = CounterUpdates(connection)
        self._types: Counter[int] = Counter()
        self._exceptions: Counter[str] = Counter()
        self._rows: list[tuple[Any, ...]] = []
        self._run_started = read_counters(connection).get(RUN_STARTED, -math.inf)
        (self._last_id,) = connection.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
        self.late = 0
        self.unknown = 0

    def _read_tasks(self, task_ids: set[str]) -> dict[str, _Row]:
        rows: dict[str, _Row] = {}
        for places, ids in chunks(task_ids):
            found = self._connection.execute(
                "SELECT task_id, seq, status, attempt, losses, elapsed, ended_at FROM tasks "
                f"WHERE task_id IN ({places})",
                ids,
            )
            rows.update((row[0], _Row(*row[1:])) for row in found)
        return rows

    def take(self, event: Event) -> None:
        """Apply one event; it is new."""
        event_type = event.event_type
        task_id = event.task_id
        code = EVENT_TO_CODE[event_type]
        at = event.timestamp.timestamp()
        host = self._hosts.heard(event.instance_id or "", event.hostname, at)
        row = None if task_id is None else self._tasks.get(task_id)
        self._types[code] += 1
        self._last_id += 1
        if code in _TASK_CODES:
            if row is None:
                self.unknown += 1
            else:
                self._advance(event, row, at, host)
        elif event_type is EventType.SPOT_TERMINATION:
            host.spot_terminated(at)
        elif event_type is EventType.KEEP_ALIVE and event.details.get("running_tasks"):
            host.busy(at)
        seq, stray = (None, task_id) if row is None else (row.seq, None)
        self._rows.append(
            (self._last_id, event.event_id, code, at, host.key, seq, stray, event.attempt, _details(event))
        )

    def _advance(self, event: Event, row: _Row, at: float, host: WorkerRecord) -> None:
        before = row.state
        attempt = before.attempt if event.attempt is None else event.attempt
        host.busy(at)
        if event.event_type is EventType.TASK_STARTED:
            if not self._runs.start(row.seq, attempt, at, host):
                # Its end was heard before its start: the history is complete, the state has moved on.
                self.late += 1
                return
            self._deltas.started(at)
        else:
            self._end(event, row, attempt, at, host)
        after = next_state(before, event.event_type, attempt, bool(event.retry))
        if after is None:
            self.late += 1
        elif after is not before and after != before:
            self._move(row, after, event, at, host)

    def _end(self, event: Event, row: _Row, attempt: int, at: float, host: WorkerRecord) -> None:
        event_type = event.event_type
        requested = event_type is EventType.TASK_COMPLETED and event.retry
        reason = "" if event_type is EventType.TASK_COMPLETED and not event.retry else _reason(event)
        began = self._runs.end(
            row.seq,
            attempt,
            at,
            host,
            outcome=_RETRY_REQUESTED if requested else _OUTCOME_CODES[event_type],
            elapsed=event.elapsed_time,
            reason=reason,
            event=self._last_id,
            insert=event_type is not EventType.TASK_DEAD,
        )
        if began is not None:
            self._deltas.started(began)
        if event_type is EventType.TASK_EXCEPTION:
            self._exceptions[reason] += 1

    def _move(self, row: _Row, after: TaskState, event: Event, at: float, host: WorkerRecord) -> None:
        status = STATUS_TO_CODE[after.status]
        self._deltas.moved(row.status, status)
        self._deltas.add("losses", after.losses - row.state.losses)
        self._deltas.add("retries", after.attempt - row.state.attempt)
        row.status, row.state, row.changed = status, after, True
        if status in FINAL_CODES:
            completed = after.status is TaskStatus.COMPLETED
            row.elapsed, row.ended_at = event.elapsed_time, at
            host.finished(completed=completed)
            self._deltas.last_end(at)
            if at < self._run_started:
                # Its worker went on between two runs; the pace of this one owes it nothing.
                self._deltas.add(FINISHED_BEFORE, 1)
            if completed and event.elapsed_time is not None:
                self._deltas.elapsed(event.elapsed_time)

    def write(self, duplicate: int) -> None:
        """Write what has changed."""
        self._hosts.write()
        insert_rows(self._connection, _INSERT_EVENT, self._rows)
        self._connection.executemany(_UPDATE_TASK, [row.written() for row in self._tasks.values() if row.changed])
        self._runs.write()
        self._connection.executemany(
            "INSERT INTO exceptions (summary, count) VALUES (?, ?) "
            "ON CONFLICT (summary) DO UPDATE SET count = count + excluded.count",
            list(self._exceptions.items()),
        )
        for code, count in self._types.items():
            self._deltas.add(f"event:{code}", count)
        self._deltas.add("late", self.late)
        self._deltas.add("unknown_task", self.unknown)
        self._deltas.add("duplicates", duplicate)
        self._deltas.write()


def _details(event: Event) -> str | None:
    if event.retry is None and event.elapsed_time is None:
        return _ENCODE(event.details) if event.details else None
    details = dict(event.details)
    if event.retry is not None:
        details["retry"] = event.retry
    if event.elapsed_time is not None:
        details["elapsed_time"] = event.elapsed_time
    return _ENCODE(details)


def _reason(event: Event) -> str:
    details = event.details
    if event.event_type is EventType.TASK_EXCEPTION:
        return describe_exception(details)
    if event.event_type is EventType.TASK_EXITED:
        if details.get("signal"):
            return f"signal {details['signal']}"
        return f"exit code {details.get('exit_code')}"
    return str(details.get("cause") or details.get("reason") or "")[:_MESSAGE_LENGTH]


def describe_exception(details: Mapping[str, Any]) -> str:
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
