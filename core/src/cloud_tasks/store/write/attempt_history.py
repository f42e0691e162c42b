"""The history of attempts: one row for each time that an attempt of a task ran somewhere.

A run is found again by task, attempt number and host. Its start and its end may be heard in either order, once or
never; each end closes one run, and a start that is heard after the end of its run opens no second one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from cloud_tasks.model import AttemptOutcome
from cloud_tasks.store.db.enum_codes import OUTCOME_TO_CODE
from cloud_tasks.store.write.workers import WorkerRecord

__all__ = ["AttemptHistory", "lose_runs"]

_LOST = OUTCOME_TO_CODE[AttemptOutcome.LOST]
_COLUMNS = "task, run, attempt, outcome, started_at, ended_at, elapsed, host, reason, ended_by"
_WRITE = f"INSERT OR REPLACE INTO attempts ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def lose_runs(connection: sqlite3.Connection, host: WorkerRecord, when: float, reason: str) -> list[tuple[int, int]]:
    """Close every run on this host as lost, for its machine is gone; returns their tasks and attempt numbers."""
    rows = connection.execute("SELECT task, attempt FROM attempts WHERE host = ? AND outcome IS NULL", (host.key,))
    lost = rows.fetchall()
    connection.execute(
        "UPDATE attempts SET outcome = ?, ended_at = ?, reason = ? WHERE host = ? AND outcome IS NULL",
        (_LOST, when, reason, host.key),
    )
    host.running -= len(lost)
    return lost


class _Run:
    __slots__ = (
        "attempt", "changed", "elapsed", "ended_at", "ended_by", "host", "outcome", "reason", "run", "started_at",
        "task",
    )  # fmt: skip

    def __init__(
        self,
        task: int,
        run: int,
        attempt: int,
        outcome: int | None,
        started_at: float | None,
        ended_at: float | None,
        elapsed: float | None,
        host: int,
        reason: str | None,
        ended_by: int | None,
    ) -> None:
        self.task = task
        self.run = run
        self.attempt = attempt
        self.outcome = outcome
        self.started_at = started_at
        self.ended_at = ended_at
        self.elapsed = elapsed
        self.host = host
        self.reason = reason
        self.ended_by = ended_by
        self.changed = False

    def is_running(self) -> bool:
        return self.outcome is None


class AttemptHistory:
    """The runs of the tasks that a batch touches: read once, changed in memory, written once."""

    def __init__(self, connection: sqlite3.Connection, tasks: Sequence[int]) -> None:
        self._connection = connection
        self._by_task: dict[int, list[_Run]] = {}
        found = connection.execute(
            f"SELECT {_COLUMNS} FROM attempts WHERE task IN (SELECT value FROM json_each(?)) ORDER BY task, run",
            (json.dumps(tasks),),
        )
        for row in found:
            self._by_task.setdefault(row[0], []).append(_Run(*row))

    def start(self, task: int, attempt: int, at: float, host: WorkerRecord) -> bool:
        """An attempt began on a host. False: the end of this run is known already."""
        open_run = None
        for run in self._by_task.get(task, ()):
            if run.attempt != attempt or run.host != host.key:
                continue
            if run.is_running():
                open_run = run
            elif run.ended_at is not None and run.ended_at >= at:
                if run.started_at is None:
                    run.started_at, run.changed = at, True
                return False
        if open_run is not None:
            # It begins a second time where it runs already: the first run ended unheard.
            self._close(open_run, at, host, _LOST, None, "its worker started it again", None)
        self._add(task, attempt, at, host).changed = True
        host.running += 1
        return True

    def end(
        self,
        task: int,
        attempt: int,
        at: float,
        host: WorkerRecord,
        *,
        outcome: int,
        elapsed: float | None,
        reason: str,
        event: int,
        insert: bool,
    ) -> float | None:
        """A run ended. Returns when it began if its start was not heard (so it counts now), else None.

        Args:
            insert: Whether an end without a known start is a run at all.
        """
        runs = [r for r in self._by_task.get(task, ()) if r.attempt == attempt and r.host == host.key]
        running = [run for run in runs if run.is_running()]
        # What was taken for lost, and now speaks after all.
        mistaken = [run for run in runs if run.outcome == _LOST and run.ended_by is None]
        if running or mistaken:
            self._close((running or mistaken)[-1], at, host, outcome, elapsed, reason, event)
            return None
        if not insert:
            return None
        began = at - (elapsed or 0.0)
        run = self._add(task, attempt, None if elapsed is None else began, host)
        host.running += 1
        self._close(run, at, host, outcome, elapsed, reason, event)
        return began

    def _add(self, task: int, attempt: int, at: float | None, host: WorkerRecord) -> _Run:
        runs = self._by_task.setdefault(task, [])
        number = runs[-1].run + 1 if runs else 1
        run = _Run(task, number, attempt, None, at, None, None, host.key, None, None)
        runs.append(run)
        return run

    def _close(
        self,
        run: _Run,
        at: float,
        host: WorkerRecord,
        outcome: int,
        elapsed: float | None,
        reason: str,
        event: int | None,
    ) -> None:
        if run.is_running():
            host.running -= 1
        run.outcome, run.ended_at, run.elapsed = outcome, at, elapsed
        run.reason, run.ended_by, run.changed = reason or None, event, True

    def write(self) -> None:
        self._connection.executemany(
            _WRITE,
            [
                (
                    run.task,
                    run.run,
                    run.attempt,
                    run.outcome,
                    run.started_at,
                    run.ended_at,
                    run.elapsed,
                    run.host,
                    run.reason,
                    run.ended_by,
                )
                for runs in self._by_task.values()
                for run in runs
                if run.changed
            ],
        )
