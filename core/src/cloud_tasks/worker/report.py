"""Reporting: events made durable, then the next attempt's message, then the ack.

One thread takes what has ended in batches (bounded in time and size) and does the three steps for the whole batch,
each again and again until it succeeds. So an outage of the event queue, or a full disk, delays reports and loses none.

Invariants, each with a test:

1. No task is acked, and no retry is sent, before its events are durable in every main sink.
2. A step that failed is repeated; events may be sent twice (with the same ids), never left out.
3. What waits to be reported is counted, so that the supervisor can stop starting tasks before memory runs out.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Protocol

from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.plugin import Queue
from cloud_tasks.worker.log import Log

__all__ = ["EventFile", "EventQueue", "MainSink", "Report", "Reporter"]

_BATCH_SECONDS = 0.05
_BATCH_REPORTS = 1000
_BATCH_BYTES = 4 * 1024 * 1024
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0


class Report:
    """What has to be done about one thing that happened."""

    __slots__ = ("delay", "events", "lease_id", "next_body", "release", "size")

    def __init__(
        self,
        events: Sequence[bytes],
        *,
        lease_id: str | None = None,
        release: bool = False,
        next_body: bytes | None = None,
        delay: float = 0.0,
    ) -> None:
        self.events = events
        self.lease_id = lease_id
        self.release = release
        """Whether the lease is given back rather than acked."""
        self.next_body = next_body
        """The message of the next attempt."""
        self.delay = delay
        """Seconds before that."""
        self.size = sum(map(len, events)) + (len(next_body) if next_body else 0)


class MainSink(Protocol):
    """Where events must be before a task is acked."""

    def write(self, events: Sequence[bytes]) -> None:
        """Make them durable; raises when they may not be."""

    def close(self) -> None: ...


class EventQueue:
    """The job's event queue: as many events in a message as fit."""

    def __init__(self, queue: Queue, *, max_message_bytes: int) -> None:
        self._queue = queue
        self._limit = max_message_bytes

    def write(self, events: Sequence[bytes]) -> None:
        bodies = list(pack(events, self._limit))
        while bodies:
            failures = self._queue.send(bodies)
            if not failures:
                return
            refused = [failure for failure in failures if not failure.transient]
            if len(failures) == len(bodies):
                raise CloudTasksError(f"{len(failures)} messages were not sent: {failures[0].reason}")
            if refused and len(refused) == len(failures):
                raise CloudTasksError(f"{len(refused)} messages were refused: {refused[0].reason}")
            bodies = [bodies[failure.index] for failure in failures]

    def close(self) -> None:
        self._queue.close()


def pack(events: Sequence[bytes], limit: int) -> Sequence[bytes]:
    """Message bodies of at most ``limit`` bytes where that is possible, the events in their order."""
    bodies: list[bytes] = []
    batch: list[bytes] = []
    size = 2
    for event in events:
        if batch and size + len(event) + 1 > limit:
            bodies.append(b"[" + b",".join(batch) + b"]")
            batch, size = [], 2
        batch.append(event)
        size += len(event) + 1
    if batch:
        bodies.append(b"[" + b",".join(batch) + b"]")
    return bodies


class EventFile:
    """The event log: a file of JSON lines, appended to, never left with half a line."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", where=path) from error
        self._regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        self._end_last_line()

    def _end_last_line(self) -> None:
        """A run that was cut off may have left half a line: what follows must not be joined to it."""
        if not self._regular or os.fstat(self._descriptor).st_size == 0:
            return
        with open(self.path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                os.write(self._descriptor, b"\n")

    def write(self, events: Sequence[bytes]) -> None:
        size = os.fstat(self._descriptor).st_size
        rest = memoryview(b"\n".join(events) + b"\n")
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            if self._regular:
                os.fdatasync(self._descriptor)
        except OSError:
            if self._regular:
                os.ftruncate(self._descriptor, size)
            raise

    def close(self) -> None:
        os.close(self._descriptor)


class Reporter:
    """The thread that reports.

    Args:
        sinks: Each gets every event.
        tasks: The task queue; None with a local source.
        max_delay: The longest delay that the task queue keeps.
        on_acked: Told of the leases that need no more extension, from this thread.
    """

    def __init__(
        self,
        sinks: Sequence[MainSink],
        *,
        tasks: Queue | None,
        max_delay: float,
        on_acked: Callable[[Sequence[str]], None],
        log: Log,
    ) -> None:
        self._sinks = sinks
        self._tasks = tasks
        self._max_delay = max_delay
        self._on_acked = on_acked
        self._log = log
        self._waiting: deque[Report] = deque()
        self._changed = threading.Condition()
        self._backlog_bytes = 0
        self._backlog = 0
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
            self._backlog += 1
            self._backlog_bytes += report.size
            if self._backlog == 1 or self._backlog_bytes > _BATCH_BYTES:
                self._changed.notify()

    @property
    def backlog(self) -> tuple[int, int]:
        """Reports that are not yet done, and their bytes."""
        return self._backlog, self._backlog_bytes

    def close(self, timeout: float) -> bool:
        """Do what waits, for ``timeout`` seconds at most, and end the thread; whether all was done."""
        with self._changed:
            self._closing = True
            self._give_up_at = time.monotonic() + timeout
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout + 5.0)
        return self._backlog == 0

    def _serve(self) -> None:
        while True:
            batch = self._take()
            if not batch:
                return
            for what, step in (("events", self._write_events), ("retries", self._send_next), ("acks", self._settle)):
                self._until_done(what, step, batch)
            if self._gave_up():
                return
            with self._changed:
                self._backlog -= len(batch)
                self._backlog_bytes -= sum(report.size for report in batch)

    def _take(self) -> list[Report]:
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            if not self._closing and self._backlog_bytes < _BATCH_BYTES:
                self._changed.wait(_BATCH_SECONDS)
            batch: list[Report] = []
            size = 0
            while self._waiting and len(batch) < _BATCH_REPORTS and (not batch or size < _BATCH_BYTES):
                report = self._waiting.popleft()
                size += report.size
                batch.append(report)
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
                with self._changed:
                    self._changed.wait(pause)
                pause = min(_LONGEST_PAUSE, pause * 2)
            else:
                if self.problem:
                    self._log.info("Reports can be made again")
                    self.problem = ""
                return

    def _gave_up(self) -> bool:
        return bool(self.problem) and self._give_up_at is not None and time.monotonic() > self._give_up_at

    def _write_events(self, batch: Sequence[Report]) -> None:
        events = [event for report in batch for event in report.events]
        if events:
            for sink in self._sinks:
                sink.write(events)

    def _send_next(self, batch: Sequence[Report]) -> None:
        by_delay: dict[float, list[Report]] = {}
        for report in batch:
            if report.next_body is not None:
                by_delay.setdefault(round(min(report.delay, self._max_delay), 1), []).append(report)
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
            self._on_acked(leases)
            for report in reports:
                report.lease_id = None
