"""The effect of a batch of events on the rows that it touches: a pure fold, without the database.

Invariants, each with a test:

1. The result follows from the arguments alone, which stay unchanged.
2. The first terminal state of a task wins; a later event is added to the history and counted as late.
3. The counters change as the rows do: a scan of the tables would find the same numbers.
4. No event is refused: an event of an unknown task, or without a worker's name, is kept and counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from cloud_tasks.compact_json import compact_encoder
from cloud_tasks.model import AttemptOutcome, Event, EventType, TaskStatus
from cloud_tasks.sanitize import clean_text
from cloud_tasks.store.db.enum_codes import EVENT_TO_CODE, FINAL_CODES, OUTCOME_TO_CODE, STATUS_TO_CODE, status_of
from cloud_tasks.store.records import last_line
from cloud_tasks.store.write.attempt_history import AttemptEnd, AttemptHistory
from cloud_tasks.store.write.counters import FINISHED_BEFORE, CounterUpdates
from cloud_tasks.store.write.state_machine import TaskState, is_task_event, next_state
from cloud_tasks.store.write.workers import WorkerRecord, Workers

__all__ = ["Changes", "TouchedRows", "describe_exception", "fold_events"]

_MESSAGE_LENGTH = 300
"""Characters of a reason."""

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
_LAST_REQUESTS = ("requested a retry", "requests a retry")
"""In the cause of a dead task whose last attempt requested a retry: that attempt has no other end event."""
_ENCODE = compact_encoder(default=str)

_Rows = Sequence[tuple[Any, ...]]


@attrs.frozen(kw_only=True)
class TouchedRows:
    """The rows that a batch touches, as they are before it."""

    tasks: _Rows = ()
    """task_id, seq, status, attempt, losses, elapsed, ended_at."""
    attempts: _Rows = ()
    """`ATTEMPT_COLUMNS`, ordered by task and run."""
    workers: _Rows = ()
    """As `read_workers` returns them."""
    last_worker: int = 0
    """The highest key of a worker."""
    last_event: int = 0
    """The highest row id of an event."""
    run_started: float = -math.inf
    """Unix seconds at which the current run started."""


@attrs.frozen(kw_only=True)
class Changes:
    """The rows to write for a batch, and what it adds to the counters."""

    events: _Rows
    """id, event_id, type, at, host, task, task_id, attempt, details."""
    tasks: _Rows
    """status, attempt, losses, elapsed, ended_at, seq."""
    attempts: _Rows
    """`ATTEMPT_COLUMNS`."""
    workers: _Rows
    counters: CounterUpdates
    late: int
    unknown_task: int


def fold_events(rows: TouchedRows, events: Iterable[Event]) -> Changes:
    """Return the changes that new events make, in the order given."""
    fold = _Fold(rows)
    for event in events:
        fold.add(event)
    return fold.changes()


@attrs.define(eq=False)
class _Task:
    """A task while a batch is folded."""

    seq: int
    status: int
    state: TaskState
    elapsed: float | None
    ended_at: float | None
    changed: bool = False

    @classmethod
    def from_row(
        cls, seq: int, status: int, attempt: int, losses: int, elapsed: float | None, ended_at: float | None
    ) -> _Task:
        return cls(seq, status, TaskState(status_of(status), attempt, losses), elapsed, ended_at)

    def row(self) -> tuple[Any, ...]:
        return (self.status, self.state.attempt, self.state.losses, self.elapsed, self.ended_at, self.seq)


class _Fold:
    def __init__(self, rows: TouchedRows) -> None:
        self._tasks = {row[0]: _Task.from_row(*row[1:]) for row in rows.tasks}
        self._history = AttemptHistory(rows.attempts)
        self._workers = Workers(rows.workers, rows.last_worker)
        self._run_started = rows.run_started
        self._last_event = rows.last_event
        self._events: list[tuple[Any, ...]] = []
        self._counters = CounterUpdates()
        self._types: Counter[int] = Counter()
        self._late = 0
        self._unknown_task = 0

    def add(self, event: Event) -> None:
        event_type, task_id = event.event_type, event.task_id
        code = EVENT_TO_CODE[event_type]
        at = event.timestamp.timestamp()
        worker = self._workers.heartbeat(event.instance_id or "", event.hostname, at)
        task = None if task_id is None else self._tasks.get(task_id)
        self._types[code] += 1
        self._last_event += 1
        if code in _TASK_CODES:
            if task is None:
                self._unknown_task += 1
            else:
                self._advance(event, task, worker, at)
        elif event_type is EventType.SPOT_TERMINATION:
            worker.mark_spot_termination(at)
        elif event_type is EventType.KEEP_ALIVE and event.details.get("running_tasks"):
            worker.mark_busy(at)
        seq, unknown_id = (None, task_id) if task is None else (task.seq, None)
        self._events.append(
            (self._last_event, event.event_id, code, at, worker.key, seq, unknown_id, event.attempt, _details(event))
        )

    def _advance(self, event: Event, task: _Task, worker: WorkerRecord, at: float) -> None:
        """Apply a task's event to its history, then to its state."""
        before = task.state
        attempt = before.attempt if event.attempt is None else event.attempt
        worker.mark_busy(at)
        if event.event_type is EventType.TASK_STARTED:
            if not self._history.start(task.seq, attempt, worker, at):
                self._late += 1
                return
            self._counters.started(at)
        else:
            self._end(event, task, attempt, worker, at)
        after = next_state(before, event.event_type, attempt, bool(event.retry))
        if after is None:
            self._late += 1
        elif after is not before and after != before:
            self._move(event, task, after, worker, at)

    def _end(self, event: Event, task: _Task, attempt: int, worker: WorkerRecord, at: float) -> None:
        event_type = event.event_type
        outcome, reason = _OUTCOME_CODES[event_type], ""
        if event_type is not EventType.TASK_COMPLETED:
            reason = _reason(event)
            if event_type is EventType.TASK_DEAD and any(request in reason for request in _LAST_REQUESTS):
                outcome = _RETRY_REQUESTED
        elif event.retry:
            outcome, reason = _RETRY_REQUESTED, _reason(event)
        end = AttemptEnd(at, outcome, event.elapsed_time, reason, self._last_event)
        # A dead task need not have run: it may have been interrupted too often before its start was reported.
        if not self._history.end(task.seq, attempt, worker, end) and event_type is not EventType.TASK_DEAD:
            self._history.add_ended(task.seq, attempt, worker, end)
            self._counters.started(at - (end.elapsed or 0.0))

    def _move(self, event: Event, task: _Task, after: TaskState, worker: WorkerRecord, at: float) -> None:
        """Change the state of a task, with everything that is counted about it."""
        counters, status = self._counters, STATUS_TO_CODE[after.status]
        counters.moved(task.status, status)
        counters.add("losses", after.losses - task.state.losses)
        counters.add("retries", after.attempt - task.state.attempt)
        # A failed task that is reported dead was counted when it failed.
        is_new_end = status in FINAL_CODES and task.status not in FINAL_CODES
        task.status, task.state, task.changed = status, after, True
        if is_new_end:
            completed = after.status is TaskStatus.COMPLETED
            task.elapsed, task.ended_at = event.elapsed_time, at
            worker.count_finished(completed=completed)
            counters.last_end(at)
            if at < self._run_started:
                # Finished between two runs: it must not raise the throughput of the current one.
                counters.add(FINISHED_BEFORE, 1)
            else:
                counters.recent_end(at)
            if completed and event.elapsed_time is not None:
                counters.elapsed(event.elapsed_time)

    def changes(self) -> Changes:
        for code, count in self._types.items():
            self._counters.add(f"event:{code}", count)
        self._counters.add("late", self._late)
        self._counters.add("unknown_task", self._unknown_task)
        return Changes(
            events=self._events,
            tasks=[task.row() for task in self._tasks.values() if task.changed],
            attempts=self._history.changed_rows(),
            workers=self._workers.rows(),
            counters=self._counters,
            late=self._late,
            unknown_task=self._unknown_task,
        )


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
        signal, output = details.get("signal"), str(details.get("log_tail") or "")
        text = f"signal {signal}" if signal else f"exit code {details.get('exit_code')}"
        # What a program printed about its end is the closest to a cause; newer workers send that line as the cause.
        printed = str(details.get("cause") or last_line(output)) if output and not signal else ""
        text = f"{text}: {printed}" if printed else text
    else:
        text = str(details.get("cause") or details.get("reason") or "")
    return clean_text(text[:_MESSAGE_LENGTH])


def describe_exception(details: Mapping[str, Any]) -> str:
    """Return ``Type: message`` on one line, from the details of an exception event of any worker version."""
    text = str(details.get("exception") or "").strip()
    kind = str(details.get("exception_type") or "").strip()
    lines = text.splitlines() or [""]
    # Older workers send the whole traceback; its last line has the type and the message.
    line = lines[-1] if lines[0].startswith("Traceback ") else lines[0]
    line = " ".join(line.split())
    if kind and line != kind and not line.startswith(f"{kind}:"):
        line = f"{kind}: {line}" if line else kind
    return clean_text((line or "unknown exception")[:_MESSAGE_LENGTH])
