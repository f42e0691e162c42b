"""Reporting: events made durable, then the next attempt's message, then the ack.

One thread takes what has ended in batches (bounded in time and size) and does the three steps for the whole batch,
each again and again until it succeeds. While that lasts, what comes waits in the spool, on disk. So an outage of the
event queue, or a full disk under the event log, delays reports and loses none.

Invariants, each with a test:

1. No task is acked, and no retry is sent, before its events are durable in every main sink; the spool is none.
2. A step that failed is repeated; events may be sent twice (with the same ids), never left out.
3. What waits in memory, and the leases that wait with it, are counted, so that the supervisor can stop starting tasks.
4. Reports are made in the order in which they were put.
5. No message is sent for a task whose lease has ended: the queue delivers that task again, and both would run.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from cloud_tasks.errors import CloudTasksError
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.reporting.durable_sinks import MainSink
from cloud_tasks.worker.reporting.report import Report
from cloud_tasks.worker.reporting.spool import Spool

if TYPE_CHECKING:
    from cloud_tasks.plugin import Queue

__all__ = ["Report", "Reporter"]

_BATCH_SECONDS = 0.05
_BATCH_REPORTS = 1000
_BATCH_BYTES = 4 * 1024 * 1024
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
_REFUSAL_PAUSE = 1.0
_MOST_IN_MEMORY = 20_000
_MOST_BYTES_IN_MEMORY = 64 * 1024 * 1024
_MOST_LEASES = 50_000
"""Leases of reports that wait: each is extended for as long as it waits, and costs memory."""


class Reporter:
    """The thread that reports.

    Args:
        sinks: Each gets every event.
        tasks: The task queue; None with a local source.
        max_delay: The longest delay that the task queue keeps.
        confirm: Extends leases and returns the lost ones; called from this thread.
        on_acked: Told of the leases that need no more extension, from this thread.
        spool: Where reports wait during an outage; what it holds already is reported first.
    """

    def __init__(
        self,
        sinks: Sequence[MainSink],
        *,
        tasks: Queue | None,
        max_delay: float,
        confirm: Callable[[Sequence[str]], Collection[str]],
        on_acked: Callable[[Sequence[str]], None],
        spool: Spool,
        log: Log,
    ) -> None:
        self._sinks = sinks
        self._tasks = tasks
        self._max_delay = max_delay
        self._confirm = confirm
        self._on_acked = on_acked
        self._log = log
        self._spool = spool
        self._spool_refuses = False
        self._waiting: deque[Report] = deque()
        self._changed = threading.Condition()
        self._bytes = 0
        self._leases = 0
        self._in_hand = 0
        self._spooled = 0
        self._closing = False
        self._give_up_at: float | None = None
        self._thread = threading.Thread(target=self._serve, name="worker-report", daemon=True)
        self.problem = ""
        """Why reports cannot be made at the moment; empty when they can."""

    def start(self) -> None:
        self._thread.start()

    def put(self, report: Report) -> None:
        with self._changed:
            self._waiting.append(report)
            self._bytes += report.size
            self._leases += report.lease_id is not None
            if len(self._waiting) == 1 or self._bytes > _BATCH_BYTES:
                self._changed.notify()

    @property
    def is_clogged(self) -> bool:
        """Whether so much waits that nothing should be started that makes more of it."""
        return (
            len(self._waiting) > _MOST_IN_MEMORY or self._bytes > _MOST_BYTES_IN_MEMORY or self._leases > _MOST_LEASES
        )

    def close(self, timeout: float) -> str:
        """Do what waits, ``timeout`` seconds at most, and end the thread; returns what became of the rest."""
        with self._changed:
            self._closing = True
            self._give_up_at = time.monotonic() + timeout
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout + 5.0)
        rest = []
        left = len(self._waiting) + self._in_hand - self._spooled
        if self._spool:
            rest.append(
                f"{self._spool.size} bytes of reports wait in {self._spool.folder}; a worker of this job that is "
                "started in the same folder makes them"
            )
        if left:
            rest.append(f"{left} reports could not be made: {self.problem}")
        if not self._thread.is_alive():
            self._spool.close()
        return "; ".join(rest)

    def _serve(self) -> None:
        while not self._gave_up():
            batch = self._take()
            if not batch:
                return
            for what, step in (("events", self._write_events), ("retries", self._send_next), ("acks", self._settle)):
                self._until_done(what, step, batch)
            if not self._gave_up():
                self._spool.drop(self._spooled)
                self._in_hand = self._spooled = 0
        self._spill()

    def _take(self) -> list[Report]:
        """What is to be reported next; nothing: it is over."""
        if self._spool:
            self._spill()
        batch = self._spool.get(_BATCH_REPORTS, _BATCH_BYTES)
        self._in_hand = self._spooled = len(batch)
        if batch:
            return batch
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            if not self._closing and self._bytes < _BATCH_BYTES:
                self._changed.wait(_BATCH_SECONDS)
            size = 0
            while self._waiting and len(batch) < _BATCH_REPORTS and (not batch or size < _BATCH_BYTES):
                report = self._waiting.popleft()
                size += report.size
                batch.append(report)
            self._bytes -= size
            self._in_hand = len(batch)
            return batch

    def _until_done(self, what: str, step: Callable[[Sequence[Report]], None], batch: Sequence[Report]) -> None:
        pause = _FIRST_PAUSE
        while not self._gave_up():
            try:
                step(batch)
            except Exception as error:
                text = f"{what} cannot be reported: {' '.join(str(error).split()) or type(error).__name__}"
                if not self.problem:
                    self._log.warning(f"{text}; trying again")
                self.problem = text
                if what == "events" and not self._spool:
                    self._spooled = self._spool.put(batch)
                self._wait(pause)
                pause = min(_LONGEST_PAUSE, pause * 2)
            else:
                if self.problem:
                    self._log.info("Reports can be made again")
                    self.problem = ""
                    self._spool_refuses = False
                return

    def _wait(self, seconds: float) -> None:
        """Let time pass; what comes meanwhile goes to the spool."""
        until = time.monotonic() + seconds
        was_closing = self._closing
        while was_closing == self._closing and not self._gave_up():
            with self._changed:
                left = min(until, self._give_up_at or until) - time.monotonic()
                if left <= 0:
                    return
                if not self._waiting:
                    self._changed.wait(left)
                # More of it in one write; and a disk that refuses is not asked all the time.
                self._changed.wait(min(left, _REFUSAL_PAUSE if self._spool_refuses else _BATCH_SECONDS))
            self._spill()

    def _spill(self) -> None:
        """Put what waits into the spool, as far as that takes it."""
        with self._changed:
            reports = list(self._waiting)
        taken = self._spool.put(reports) if reports else 0
        with self._changed:
            for _ in range(taken):
                self._bytes -= self._waiting.popleft().size
        if taken < len(reports) and not self._spool_refuses:
            self._spool_refuses = True
            self._log.warning(
                f"Reports cannot be kept in {self._spool.folder}: {self._spool.problem}; they stay in memory, and "
                "when that is full no task is started until reports can be made again"
            )

    def _gave_up(self) -> bool:
        return bool(self.problem) and self._give_up_at is not None and time.monotonic() > self._give_up_at

    def _write_events(self, batch: Sequence[Report]) -> None:
        for place, sink in enumerate(self._sinks):
            events = [event for report in batch if report.sinks_done <= place for event in report.events]
            if events:
                sink.write(events)
            for report in batch:
                report.sinks_done = max(report.sinks_done, place + 1)

    def _send_next(self, batch: Sequence[Report]) -> None:
        self._drop_lost(batch)
        by_delay: dict[float, list[Report]] = {}
        for report in batch:
            if report.next_body is not None:
                by_delay.setdefault(round(min(report.delay, self._max_delay), 1), []).append(report)
        if not by_delay:
            return
        from datetime import timedelta

        for delay, reports in by_delay.items():
            assert self._tasks is not None
            bodies = [report.next_body for report in reports if report.next_body is not None]
            failures = self._tasks.send(bodies, delay=timedelta(seconds=delay))
            failed = {failure.index for failure in failures}
            for index, report in enumerate(reports):
                if index not in failed:
                    report.next_body = None
            if failures:
                raise CloudTasksError(f"{len(failures)} messages were not sent: {failures[0].reason}")

    def _drop_lost(self, batch: Sequence[Report]) -> None:
        """Discard the messages of reports whose lease has ended.

        A lease that is still held lasts, extended, until its message is acked.
        """
        held = {r.lease_id: r for r in batch if r.lease_id is not None and r.next_body is not None}
        lost = self._confirm(list(held)) if held else ()
        if lost:
            self._log.warning(f"{len(lost)} leases ended early; their tasks are left to the queue")
            for lease_id in lost:
                held[lease_id].lease_id = held[lease_id].next_body = None
            self._drop_leases(list(lost))

    def _settle(self, batch: Sequence[Report]) -> None:
        for release in (False, True):
            reports = [report for report in batch if report.lease_id is not None and report.release == release]
            if not reports:
                continue
            assert self._tasks is not None
            leases = [report.lease_id for report in reports if report.lease_id is not None]
            lost = self._tasks.release(leases) if release else self._tasks.ack(leases)
            if lost:
                self._log.debug(f"{len(lost)} leases had ended before their tasks were reported")
            self._drop_leases(leases)
            for report in reports:
                report.lease_id = None

    def _drop_leases(self, leases: Sequence[str]) -> None:
        self._on_acked(leases)
        with self._changed:
            # Those that an earlier process had were not counted.
            self._leases = max(0, self._leases - len(leases))
