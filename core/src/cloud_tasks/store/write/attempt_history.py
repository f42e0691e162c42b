"""The history of attempts in memory: one row for each execution of an attempt on a worker.

An execution is identified by task, attempt number and worker. Its start and end events may arrive in either order, once
or never. Invariants, each with a test:

1. An end event closes one execution: the running one, or one that was taken for interrupted.
2. A start event that arrives after the end event of its execution opens no second one.
3. A second start on one worker means that the end event of the first execution is missing: it ends as interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any, NamedTuple

import attrs

from cloud_tasks.model import AttemptOutcome
from cloud_tasks.store.db.enum_codes import OUTCOME_TO_CODE
from cloud_tasks.store.write.workers import WorkerRecord

__all__ = ["ATTEMPT_COLUMNS", "AttemptEnd", "AttemptHistory"]

ATTEMPT_COLUMNS = (
    "task",
    "run",
    "attempt",
    "outcome",
    "started_at",
    "ended_at",
    "elapsed",
    "host",
    "reason",
    "ended_by",
)
"""The order of columns in the rows that `AttemptHistory` takes and returns."""

_LOST = OUTCOME_TO_CODE[AttemptOutcome.LOST]


class AttemptEnd(NamedTuple):
    """The end of an execution."""

    at: float
    """Unix seconds."""
    outcome: int
    """Code of an `AttemptOutcome`."""
    elapsed: float | None = None
    """Seconds, as the worker measured them."""
    reason: str = ""
    event: int | None = None
    """Row id of the end event; None for an execution that is taken for interrupted."""


@attrs.define(eq=False)
class _Execution:
    task: int
    run: int
    attempt: int
    outcome: int | None
    started_at: float | None
    ended_at: float | None
    elapsed: float | None
    host: int
    reason: str | None
    ended_by: int | None
    changed: bool = False


_VALUES = attrgetter(*ATTEMPT_COLUMNS)


class AttemptHistory:
    """The executions of the tasks that a batch of events names.

    Args:
        rows: The known ones, by task and number.
    """

    def __init__(self, rows: Iterable[tuple[Any, ...]]) -> None:
        self._by_task: dict[int, list[_Execution]] = {}
        for row in rows:
            self._by_task.setdefault(row[0], []).append(_Execution(*row))

    def start(self, task: int, attempt: int, worker: WorkerRecord, at: float) -> bool:
        """Open an execution; return False if its end is known already."""
        running = None
        for execution in self._by_task.get(task, ()):
            if execution.attempt != attempt or execution.host != worker.key:
                continue
            if execution.outcome is None:
                running = execution
            elif execution.ended_at is not None and execution.ended_at >= at:
                if execution.started_at is None:
                    execution.started_at, execution.changed = at, True
                return False
        if running is not None:
            self._close(running, worker, AttemptEnd(at, _LOST, reason="restarted by its worker"))
        self._open(task, attempt, worker, at)
        return True

    def end(self, task: int, attempt: int, worker: WorkerRecord, end: AttemptEnd) -> bool:
        """Close the execution that an end event belongs to; return False if none is known."""
        lost = None
        for execution in reversed(self._by_task.get(task, ())):
            if execution.attempt != attempt or execution.host != worker.key:
                continue
            if execution.outcome is None:
                self._close(execution, worker, end)
                return True
            if lost is None and execution.outcome == _LOST and execution.ended_by is None:
                lost = execution
        if lost is None:
            return False
        self._close(lost, worker, end)
        return True

    def add_ended(self, task: int, attempt: int, worker: WorkerRecord, end: AttemptEnd) -> None:
        """Add an execution whose start event has not arrived."""
        started_at = None if end.elapsed is None else end.at - end.elapsed
        self._close(self._open(task, attempt, worker, started_at), worker, end)

    def _open(self, task: int, attempt: int, worker: WorkerRecord, at: float | None) -> _Execution:
        known = self._by_task.setdefault(task, [])
        number = known[-1].run + 1 if known else 1
        execution = _Execution(task, number, attempt, None, at, None, None, worker.key, None, None, True)
        known.append(execution)
        worker.running += 1
        return execution

    def _close(self, execution: _Execution, worker: WorkerRecord, end: AttemptEnd) -> None:
        if execution.outcome is None:
            worker.running -= 1
        execution.outcome, execution.ended_at, execution.elapsed = end.outcome, end.at, end.elapsed
        execution.reason, execution.ended_by, execution.changed = end.reason or None, end.event, True

    def changed_rows(self) -> list[tuple[Any, ...]]:
        """Return the executions that are new or changed, as rows."""
        return [_VALUES(each) for executions in self._by_task.values() for each in executions if each.changed]
