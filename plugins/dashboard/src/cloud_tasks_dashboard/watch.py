"""One job as its database tells it, look after look.

Invariants, each with a test:

1. What a look costs depends on what has happened since the last one, not on the size of the job. The first look at a
   job with a history goes over it in pieces of `_PIECE` events and stops for now when `_BUDGET` is spent: `behind` says
   how much is left.
2. Looked at once at the end or all the time, a job shows the same.
3. A database that was replaced (a new `run`) is looked at from its beginning.
"""

from __future__ import annotations

import heapq
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import attrs

from cloud_tasks.errors import StoreError
from cloud_tasks.model import TASK_FINAL_EVENTS, AttemptOutcome, EventType, Money
from cloud_tasks.store import (
    EVENT_TO_CODE,
    OUTCOME_OF_CODE,
    OUTCOME_TO_CODE,
    InstanceRecord,
    JobSummary,
    ended_cost,
    read_elapsed_times,
    read_instances,
    read_job,
    read_summary,
    running_cost,
    to_unix,
)
from cloud_tasks_dashboard.course import KINDS, Course
from cloud_tasks_dashboard.groups import FailureGroups
from cloud_tasks_dashboard.reading import Signature, reading, sign

__all__ = ["BARS", "Bar", "Look", "Watch"]

BARS = 1500
"""The latest attempts that are kept one by one."""

_SLOWEST = 12
_PIECE = 20_000
_BUDGET = 0.4
"""Seconds that one look may spend on history."""
_RUNNING_SHOWN = 500

_ENDINGS = ", ".join(
    str(EVENT_TO_CODE[kind])
    for kind in sorted({*TASK_FINAL_EVENTS, EventType.TASK_RELEASED}, key=lambda kind: kind.value)
)
# The attempts that these events ended, in the order in which that was heard. Neither table's long texts are touched.
_ENDED = f"""
SELECT e.id, coalesce(a.ended_at, e.at), a.task, a.attempt, a.outcome, a.started_at, a.elapsed, a.host, a.reason
FROM events AS e CROSS JOIN attempts AS a ON a.task = e.task AND a.ended_by = e.id
WHERE e.id > ? AND e.id <= ? AND e.type IN ({_ENDINGS}) ORDER BY e.id
"""
# By the index of what runs, which is as long as the fleet is wide.
_RUNNING = "SELECT task, attempt, host, started_at FROM attempts WHERE outcome IS NULL LIMIT ?"

_COMPLETED = OUTCOME_TO_CODE[AttemptOutcome.COMPLETED]
_LOST = OUTCOME_TO_CODE[AttemptOutcome.LOST]
_KIND_COMPLETED, _KIND_FAILED, _KIND_LOST = range(len(KINDS))


@attrs.frozen
class Bar:
    """One attempt on the timeline."""

    task: int
    attempt: int
    host: int
    begin: float
    """Unix seconds, as is ``end``."""
    end: float | None
    """None: it runs."""
    kind: int
    """Into `KINDS`; of no meaning for one that runs."""


@attrs.frozen(kw_only=True)
class Slow:
    """A completed attempt that took long."""

    seconds: float
    task: int
    attempt: int
    host: int
    end: float


@attrs.frozen(kw_only=True)
class Look:
    """A job at one moment: the figures that the store maintains."""

    summary: JobSummary
    instances: Sequence[InstanceRecord]
    booked: Money
    """What instances that have ended cost."""
    elapsed_times: Sequence[tuple[float, int]]
    """Seconds to how many completed tasks took them, the shortest first."""
    running: Sequence[Bar]
    hosts: Sequence[tuple[int, str, str]]
    """Number, instance id and name of each sender of events."""
    last_heard: float | None

    def cost(self, now: datetime) -> Money:
        """What the instances have cost until now."""
        alive = (running_cost(record, now) for record in self.instances if record.ended_at is None)
        return Money(self.booked.usd + sum(alive, Money.zero().usd))


class Watch:
    """Looks at one database again and again. May be called from several threads; they take turns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.guard = threading.RLock()
        """Held by who reads what a look has left here."""
        self._signature: Signature | None = None
        self._look: Look | None = None
        self._begin_anew("")

    def _begin_anew(self, identity: str) -> None:
        self._identity = identity
        self._seen = 0
        self._last = 0
        self.course = Course()
        self.failures = FailureGroups()
        self._bars: deque[tuple[int, int, int, float, float, int]] = deque(maxlen=BARS)
        self.ended = 0
        """Attempts that have ended and were seen to."""
        self._slowest: list[tuple[float, int, int, int, int, float]] = []

    @property
    def behind(self) -> tuple[int, int] | None:
        """How many events have been read, and of how many; None: all."""
        return None if self._seen >= self._last else (self._seen, self._last)

    @property
    def slowest(self) -> Sequence[Slow]:
        """The slowest completed attempts, the slowest first."""
        return [
            Slow(seconds=seconds, task=task, attempt=attempt, host=host, end=end)
            for seconds, _, task, attempt, host, end in sorted(self._slowest, reverse=True)
        ]

    @property
    def bars(self) -> Sequence[Bar]:
        """The latest attempts that have ended, at most `BARS`, in the order in which that was heard."""
        return [Bar(*values) for values in self._bars]

    def look(self) -> Look:
        """The job as it is now.

        Raises:
            StoreError: The database is not there, holds no job yet, or is of another version.
        """
        with self.guard:
            signature = sign(self.path)
            if self._look is not None and self.behind is None and signature and signature.same(self._signature):
                return self._look
            with reading(self.path) as connection:
                self._look = self._read(connection)
                self._catch_up(connection)
            self._signature = signature
            return self._look

    def _read(self, connection: sqlite3.Connection) -> Look:
        connection.execute("BEGIN")
        job = read_job(connection)
        if job is None:
            raise StoreError(
                f"{self.path.name}: holds no job", hint="it is being loaded, or its creation was cut short"
            )
        (self._last,) = connection.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
        identity = f"{job.run_id} {to_unix(job.created_at)}"
        if identity != self._identity:
            last = self._last
            self._begin_anew(identity)
            self._last = last
        hosts = connection.execute("SELECT host, instance_id, hostname, last_heard FROM hosts ORDER BY host").fetchall()
        look = Look(
            summary=read_summary(connection, job),
            instances=read_instances(connection),
            booked=Money(ended_cost(connection)),
            elapsed_times=sorted(read_elapsed_times(connection).items()),
            running=[
                Bar(task, attempt, host, begin, None, 0)
                for task, attempt, host, begin in connection.execute(_RUNNING, (_RUNNING_SHOWN,))
                if begin is not None
            ],
            hosts=[row[:3] for row in hosts],
            last_heard=max((row[3] for row in hosts), default=None),
        )
        connection.execute("ROLLBACK")
        return look

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        """Read the events that are new, or as many as there is time for."""
        until = time.monotonic() + _BUDGET
        while self._seen < self._last:
            piece = min(self._seen + _PIECE, self._last)
            for row in connection.execute(_ENDED, (self._seen, piece)).fetchall():
                self._take(*row)
            self._seen = piece
            if time.monotonic() >= until:
                return

    def _take(
        self,
        event: int,
        end: float,
        task: int,
        attempt: int,
        outcome: int | None,
        begin: float | None,
        elapsed: float | None,
        host: int,
        reason: str | None,
    ) -> None:
        if outcome is None:
            return
        kind = _KIND_COMPLETED if outcome == _COMPLETED else _KIND_LOST if outcome == _LOST else _KIND_FAILED
        seconds = elapsed if elapsed is not None else 0.0 if begin is None else end - begin
        begin = end - seconds if seconds > 0 else end
        self.ended += 1
        self.course.ended(kind, host, begin, end)
        self._bars.append((task, attempt, host, begin, end, kind))
        if kind == _KIND_COMPLETED:
            if len(self._slowest) < _SLOWEST:
                heapq.heappush(self._slowest, (seconds, -event, task, attempt, host, end))
            elif seconds > self._slowest[0][0]:
                heapq.heapreplace(self._slowest, (seconds, -event, task, attempt, host, end))
        else:
            self.failures.add(OUTCOME_OF_CODE[outcome], reason or "", at=end, event=event, task=task)
