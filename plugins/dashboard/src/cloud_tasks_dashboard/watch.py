"""A job read incrementally from its database.

Invariants, each with a test:

1. The cost of an update depends on the changes since the previous one, not on the size of the job. The first update of
   a job with a history reads events in chunks of `_CHUNK` and stops after `_TIME_LIMIT`; `behind` has the progress.
2. One update at the end gives the same result as many updates during the run.
3. An overwritten database (a new `run`) is read from its start.
"""

from __future__ import annotations

import heapq
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import attrs

from cloud_tasks.errors import StoreError
from cloud_tasks.model import TASK_FINAL_EVENTS, AttemptOutcome, EventType, Money
from cloud_tasks.store import (
    EVENT_TO_CODE,
    OUTCOME_TO_CODE,
    FailureGroups,
    InstanceRecord,
    JobSummary,
    check_content,
    clock_ahead,
    ended_cost,
    outcome_of,
    read_clock,
    read_elapsed_times,
    read_instances,
    read_job,
    read_summary,
    running_cost,
    to_unix,
)
from cloud_tasks_dashboard.buckets import KINDS, AttemptBuckets
from cloud_tasks_dashboard.database import CHECKED_TASKS, Signature, open_reader, signature_of

__all__ = ["MAX_BARS", "Bar", "Snapshot", "Watch"]

MAX_BARS = 1500
"""Number of latest attempts that are kept individually."""

_SLOWEST = 12
_CHUNK = 20_000
_TIME_LIMIT = 0.4
"""Seconds per update for reading the history."""
_RUNNING_SHOWN = 500

_END_EVENTS = ", ".join(
    str(EVENT_TO_CODE[kind])
    for kind in sorted({*TASK_FINAL_EVENTS, EventType.TASK_RELEASED}, key=lambda kind: kind.value)
)
# Attempts finished by these events, in order of arrival. The long texts of both tables are not read.
_ENDED = f"""
SELECT e.id, coalesce(a.ended_at, e.at), a.task, a.attempt, a.outcome, a.started_at, a.elapsed, a.host, a.reason
FROM events AS e CROSS JOIN attempts AS a ON a.task = e.task AND a.ended_by = e.id
WHERE e.id > ? AND e.id <= ? AND e.type IN ({_END_EVENTS}) ORDER BY e.id
"""
# Through the index of running attempts, whose size is that of the fleet.
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
    """Unix seconds, like ``end``."""
    end: float | None
    """None while running."""
    kind: int
    """Index into `KINDS`; undefined while running."""


@attrs.frozen(kw_only=True)
class Slow:
    """One of the slowest completed attempts."""

    seconds: float
    task: int
    attempt: int
    host: int
    end: float


@attrs.frozen(kw_only=True)
class Snapshot:
    """The state of a job at one time, from the store's maintained counters."""

    summary: JobSummary
    instances: Sequence[InstanceRecord]
    booked: Money
    """Cost of terminated instances."""
    elapsed_times: Sequence[tuple[float, int]]
    """(duration in seconds, number of completed tasks), in ascending order."""
    running: Sequence[Bar]
    hosts: Sequence[tuple[int, str, str]]
    """Number, instance id and host name of each worker."""
    last_event_at: float | None
    clock_ahead: timedelta
    """Difference of the job's clock from that of this machine, which may have been set while instances run."""

    def cost(self, now: datetime) -> Money:
        """Return the accrued cost of all instances."""
        alive = (running_cost(record, now) for record in self.instances if record.ended_at is None)
        return Money(self.booked.usd + sum(alive, Money.zero().usd))


@attrs.frozen
class _Recorded:
    """Records of a job's clock (`cloud_tasks.store.ClockRecords`)."""

    connection: sqlite3.Connection
    records: Sequence[InstanceRecord]

    def instances(self) -> Sequence[InstanceRecord]:
        return self.records

    def clock(self, boot: str) -> tuple[float | None, float | None]:
        return read_clock(self.connection, boot)


class Watch:
    """Incremental reader of one database. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.RLock()
        """Held while reading the attributes set by an update."""
        self._signature: Signature | None = None
        self._snapshot: Snapshot | None = None
        self._reset("")

    def _reset(self, identity: str) -> None:
        self._identity = identity
        self._seen = 0
        self._last = 0
        self.buckets = AttemptBuckets()
        self.failures = FailureGroups()
        self._bars: deque[tuple[int, int, int, float, float, int]] = deque(maxlen=MAX_BARS)
        self.ended = 0
        """Number of finished attempts read so far."""
        self._slowest: list[tuple[float, int, int, int, int, float]] = []

    @property
    def behind(self) -> tuple[int, int] | None:
        """Number of events read and total number; None when all are read."""
        return None if self._seen >= self._last else (self._seen, self._last)

    @property
    def slowest(self) -> Sequence[Slow]:
        """The slowest completed attempts, in descending order of duration."""
        return [
            Slow(seconds=seconds, task=task, attempt=attempt, host=host, end=end)
            for seconds, _, task, attempt, host, end in sorted(self._slowest, reverse=True)
        ]

    @property
    def bars(self) -> Sequence[Bar]:
        """The latest finished attempts, at most `MAX_BARS`, in order of arrival."""
        return [Bar(*values) for values in self._bars]

    def update(self) -> Snapshot:
        """Read the changes and return the current state.

        Raises:
            StoreError: The database does not exist, has no job yet, or has another version.
        """
        with self.lock:
            signature = signature_of(self.path)
            if self._snapshot is not None and self.behind is None and signature and signature.same(self._signature):
                return self._snapshot
            with open_reader(self.path) as connection:
                self._snapshot = self._read(connection)
                self._catch_up(connection)
            self._signature = signature
            return self._snapshot

    def _read(self, connection: sqlite3.Connection) -> Snapshot:
        connection.execute("BEGIN")
        if self._snapshot is None:
            check_content(connection, self.path, sample=CHECKED_TASKS)
        job = read_job(connection)
        if job is None:
            raise StoreError(
                f"{self.path.name}: no job in this database", hint="wait until it is loaded, or load it again"
            )
        (self._last,) = connection.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
        identity = f"{job.run_id} {to_unix(job.created_at)}"
        if identity != self._identity:
            last = self._last
            self._reset(identity)
            self._last = last
        hosts = connection.execute("SELECT host, instance_id, hostname, last_heard FROM hosts ORDER BY host").fetchall()
        instances = read_instances(connection)
        snapshot = Snapshot(
            summary=read_summary(connection, job),
            instances=instances,
            booked=Money(ended_cost(connection)),
            elapsed_times=sorted(read_elapsed_times(connection).items()),
            running=[
                Bar(task, attempt, host, begin, None, 0)
                for task, attempt, host, begin in connection.execute(_RUNNING, (_RUNNING_SHOWN,))
                if begin is not None
            ],
            hosts=[row[:3] for row in hosts],
            last_event_at=max((row[3] for row in hosts), default=None),
            clock_ahead=clock_ahead(_Recorded(connection, instances)),
        )
        connection.execute("ROLLBACK")
        return snapshot

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        """Read new events, within the time limit."""
        until = time.monotonic() + _TIME_LIMIT
        while self._seen < self._last:
            chunk = min(self._seen + _CHUNK, self._last)
            for row in connection.execute(_ENDED, (self._seen, chunk)).fetchall():
                self._add(*row)
            self._seen = chunk
            if time.monotonic() >= until:
                return

    def _add(
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
        self.buckets.add(kind, host, begin, end)
        self._bars.append((task, attempt, host, begin, end, kind))
        if kind == _KIND_COMPLETED:
            if len(self._slowest) < _SLOWEST:
                heapq.heappush(self._slowest, (seconds, -event, task, attempt, host, end))
            elif seconds > self._slowest[0][0]:
                heapq.heapreplace(self._slowest, (seconds, -event, task, attempt, host, end))
        else:
            self.failures.add(outcome_of(outcome) or AttemptOutcome.LOST, reason or "", at=end, event=event, task=task)
