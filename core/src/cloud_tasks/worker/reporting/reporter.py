"""Delivery of reports: write the events, send the message of the next attempt, ack.

A thread takes reports in batches, bounded in time and size, and does each of the three steps for the whole batch until
it succeeds. Reports that arrive meanwhile wait in the spool, on disk. An outage of the event queue, or a full disk
under the event log, therefore delays reports without losing any.

Invariants, each with a test:

1. No task is acked, and no retry is sent, before its events are in every durable sink; the spool is not one.
2. A failed step is repeated; events may be sent twice, with the same ids, but are never omitted. Retries and acks that
   the task queue has refused for too long are given up: it delivers the tasks again, and later events are not stuck.
3. Reports in memory and their leases are counted, so that the supervisor can stop submitting attempts.
4. Reports are delivered in the order in which they were put.
5. No message is sent for a task whose lease has expired: the queue delivers that task again, and both would run.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from cloud_tasks.errors import CloudTasksError
from cloud_tasks.queue_refusal import QueueRefusal
from cloud_tasks.worker.common.formatting import counted, format_bytes
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.reporting.durable_sinks import DurableSink
from cloud_tasks.worker.reporting.report import Report
from cloud_tasks.worker.reporting.spool import Spool

if TYPE_CHECKING:
    from cloud_tasks.plugin import Queue

__all__ = ["Report", "Reporter"]

_BATCH_SECONDS = 0.05
_BILLED_BATCH_SECONDS = 1.0
"""Least time between two batches where requests cost money."""
_BATCH_REPORTS = 1000
_BATCH_BYTES = 4 * 1024 * 1024
_MIN_BACKOFF, _MAX_BACKOFF = 0.1, 10.0
_FULL_SPOOL_INTERVAL = 1.0
"""Seconds between two attempts to write to a spool that is full or fails."""
_MAX_IN_MEMORY = 20_000
_MAX_BYTES_IN_MEMORY = 64 * 1024 * 1024
_MAX_LEASES = 50_000
"""Maximum number of leases of waiting reports: each takes memory and is extended while it waits."""


class Reporter:
    """Delivers reports from a thread of its own.

    Args:
        sinks: Durable sinks; each gets every event.
        tasks: Task queue; None with a local source.
        max_delay: Maximum delay of a message of the task queue, in seconds.
        confirm: Extends leases and returns the expired ones; called from the thread.
        on_acked: Called from the thread with the leases that need no more extension.
        spool: Holds reports during an outage; those that it holds already are delivered first.
        on_refused: Called from the thread with the reason if a queue refuses this worker; again after each attempt.
        is_billed: Whether requests to the queues cost money, so that batches are a second apart.
    """

    def __init__(
        self,
        sinks: Sequence[DurableSink],
        *,
        tasks: Queue | None,
        max_delay: float,
        confirm: Callable[[Sequence[str]], Collection[str]],
        on_acked: Callable[[Sequence[str]], None],
        spool: Spool,
        on_refused: Callable[[str], None] = lambda reason: None,
        is_billed: bool = False,
        log: Log,
    ) -> None:
        self._interval = _BILLED_BATCH_SECONDS if is_billed else _BATCH_SECONDS
        self._taken_at = float("-inf")
        self._sinks = sinks
        self._tasks = tasks
        self._max_delay = max_delay
        self._confirm = confirm
        self._on_acked = on_acked
        self._on_refused = on_refused
        self._refusals = {"events": QueueRefusal("event queue"), "retries": QueueRefusal("task queue")}
        self._refusals["acks"] = self._refusals["retries"]
        self._log = log
        self._spool = spool
        self._spool_fails = False
        self._waiting: deque[Report] = deque()
        # `put` takes the lock itself, which is faster than the condition.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._bytes = 0
        self._leases = 0
        self._in_hand = 0
        self._spooled = 0
        self._closing = False
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._serve, name="worker-report", daemon=True)
        self.problem = ""
        """Reason for which reports cannot be delivered at the moment; empty for none."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, report: Report) -> None:
        """Queue a report."""
        with self._lock:
            self._waiting.append(report)
            self._bytes += report.size
            if report.lease_id is not None:
                self._leases += 1
            if len(self._waiting) == 1 or self._is_full:
                self._changed.notify()

    @property
    def is_clogged(self) -> bool:
        """Whether so many reports wait that no attempt should be submitted."""
        return len(self._waiting) > _MAX_IN_MEMORY or self._bytes > _MAX_BYTES_IN_MEMORY or self._leases > _MAX_LEASES

    def close(self, timeout: float) -> str:
        """Deliver the waiting reports for at most ``timeout`` seconds and end the thread.

        Return a description of the reports that are left; empty for none.
        """
        with self._changed:
            self._closing = True
            self._deadline = time.monotonic() + timeout
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout + 5.0)
        problems = []
        left = len(self._waiting) + self._in_hand - self._spooled
        if self._spool:
            problems.append(
                f"{format_bytes(self._spool.size)} of reports wait in {self._spool.folder}; start a worker of this job "
                "in the same folder to send them"
            )
        if left:
            problems.append(f"{counted(left, 'report')} not delivered: {self.problem}")
        if not self._thread.is_alive():
            self._spool.close()
        return "; ".join(problems)

    def _serve(self) -> None:
        while not self._is_too_late():
            batch = self._take()
            if not batch:
                return
            for name, step in (("events", self._write_events), ("retries", self._send_next), ("acks", self._settle)):
                self._repeat(name, step, batch)
            if not self._is_too_late():
                self._spool.drop(self._spooled)
                self._in_hand = self._spooled = 0
        self._spill()

    def _take(self) -> list[Report]:
        """Return the next batch; empty once the reporter is closed and nothing waits."""
        if self._spool:
            self._spill()
        batch = self._spool.get(_BATCH_REPORTS, _BATCH_BYTES)
        self._in_hand = self._spooled = len(batch)
        if batch:
            return batch
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            until = max(time.monotonic() + _BATCH_SECONDS, self._taken_at + self._interval)
            while not self._closing and not self._is_full and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            self._taken_at = time.monotonic()
            size = 0
            while self._waiting and len(batch) < _BATCH_REPORTS and (not batch or size < _BATCH_BYTES):
                report = self._waiting.popleft()
                size += report.size
                batch.append(report)
            self._bytes -= size
            self._in_hand = len(batch)
            return batch

    @property
    def _is_full(self) -> bool:
        """Whether a whole batch waits."""
        return len(self._waiting) >= _BATCH_REPORTS or self._bytes >= _BATCH_BYTES

    def _repeat(self, name: str, step: Callable[[Sequence[Report]], None], batch: Sequence[Report]) -> None:
        """Repeat a step until it succeeds or the deadline has passed."""
        backoff, is_call = _MIN_BACKOFF, _calls_queue(name, batch)
        while not self._is_too_late():
            try:
                step(batch)
            except Exception as error:
                text = f"cannot send {name}: {' '.join(str(error).split()) or type(error).__name__}"
                if not self.problem:
                    self._log.warning(f"{text}; retrying")
                self.problem = text
                if reason := self._refusals[name].failed(error):
                    self._on_refused(reason)
                    if name != "events":
                        self._give_up([report for report in batch if name == "acks" or report.next_body is not None])
                        return
                if name == "events" and not self._spool:
                    self._spooled = self._spool.put(batch)
                self._wait(backoff)
                backoff = min(_MAX_BACKOFF, backoff * 2)
            else:
                if self.problem:
                    self._log.info("Reports are sent again")
                    self.problem = ""
                    self._spool_fails = False
                if is_call:
                    self._refusals[name].answered()
                return

    def _give_up(self, reports: Sequence[Report]) -> None:
        """Discard retries and acks: the queue delivers the tasks again when their leases expire."""
        leases = [report.lease_id for report in reports if report.lease_id is not None]
        self._log.warning(f"{self.problem}; {counted(len(leases), 'task')} will be delivered again")
        self._drop_leases(leases)
        for report in reports:
            report.lease_id = report.next_body = None
        self.problem = ""

    def _wait(self, seconds: float) -> None:
        """Wait; move the reports that arrive meanwhile to the spool."""
        until = time.monotonic() + seconds
        was_closing = self._closing
        while was_closing == self._closing and not self._is_too_late():
            with self._changed:
                left = min(until, self._deadline or until) - time.monotonic()
                if left <= 0:
                    return
                if not self._waiting:
                    self._changed.wait(left)
                # Collects more reports for one write, and does not retry a failing disk all the time.
                self._changed.wait(min(left, _FULL_SPOOL_INTERVAL if self._spool_fails else _BATCH_SECONDS))
            self._spill()

    def _spill(self) -> None:
        """Move the waiting reports to the spool, as far as it accepts them."""
        with self._changed:
            reports = list(self._waiting)
        taken = self._spool.put(reports) if reports else 0
        with self._changed:
            for _ in range(taken):
                self._bytes -= self._waiting.popleft().size
        if taken < len(reports) and not self._spool_fails:
            self._spool_fails = True
            self._log.warning(
                f"Cannot write reports to {self._spool.folder}: {self._spool.problem}; they stay in memory, and no "
                "task starts while too many wait"
            )

    def _is_too_late(self) -> bool:
        return bool(self.problem) and self._deadline is not None and time.monotonic() > self._deadline

    def _write_events(self, batch: Sequence[Report]) -> None:
        for index, sink in enumerate(self._sinks):
            events = [event for report in batch if report.sinks_done <= index for event in report.events]
            if events:
                sink.write(events)
            for report in batch:
                report.sinks_done = max(report.sinks_done, index + 1)

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
                raise CloudTasksError(f"cannot send {counted(len(failures), 'message')}: {failures[0].reason}")

    def _drop_lost(self, batch: Sequence[Report]) -> None:
        """Discard the messages of reports whose lease has expired; extend the other leases until the ack."""
        held = {r.lease_id: r for r in batch if r.lease_id is not None and r.next_body is not None}
        lost = self._confirm(list(held)) if held else ()
        if lost:
            self._log.warning(f"{counted(len(lost), 'lease')} expired early; the queue delivers their tasks again")
            for lease_id in lost:
                held[lease_id].lease_id = held[lease_id].next_body = None
            self._drop_leases(list(lost))

    def _settle(self, batch: Sequence[Report]) -> None:
        groups: dict[float | None, list[Report]] = {}
        for report in batch:
            if report.lease_id is not None:
                delay = round(min(report.delay, self._max_delay), 1) if report.release else None
                groups.setdefault(delay, []).append(report)
        for delay, reports in groups.items():
            assert self._tasks is not None
            leases = [report.lease_id for report in reports if report.lease_id is not None]
            if delay is None:
                lost = self._tasks.ack(leases)
            elif delay == 0:
                lost = self._tasks.release(leases)
            else:
                from datetime import timedelta

                lost = self._tasks.release(leases, delay=timedelta(seconds=delay))
            if lost:
                self._log.debug(f"{counted(len(lost), 'lease')} had expired before the ack")
            self._drop_leases(leases)
            for report in reports:
                report.lease_id = None

    def _drop_leases(self, leases: Sequence[str]) -> None:
        self._on_acked(leases)
        with self._changed:
            # Leases of reports that an earlier worker left were not counted.
            self._leases = max(0, self._leases - len(leases))


def _calls_queue(name: str, batch: Sequence[Report]) -> bool:
    """Return whether a step has something to do, so that its success is an answer of the queue."""
    if name == "events":
        return any(report.events for report in batch)
    return any((report.next_body if name == "retries" else report.lease_id) is not None for report in batch)
