"""Launchers: an attempt gets a process of its own (`ForkPerTask`) or a reused one (`ProcessReuse`).

A launcher reports the start, the end and the return of attempts to `AttemptExecutor`, which alone changes their state.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from cloud_tasks.worker.common.os_errors import os_error_text
from cloud_tasks.worker.consumers.attempt_types import RunningAttempt
from cloud_tasks.worker.forkserver.protocol import (
    AttemptEnded,
    AttemptStarted,
    ProcessEnded,
    ProcessStarted,
    RunAttempt,
    StartFailed,
    Withdrawn,
)
from cloud_tasks.worker.supervisor.event_loop import EventLoop
from cloud_tasks.worker.supervisor.execution.attempt_table import AttemptTable
from cloud_tasks.worker.supervisor.execution.forkserver_client import ForkserverClient
from cloud_tasks.worker.supervisor.execution.prefetch import prefetch_count
from cloud_tasks.worker.task_process.result_file import receive_result

if TYPE_CHECKING:
    from cloud_tasks.worker.supervisor.execution.process_pool import ProcessPool

__all__ = ["ForkPerTask", "Launcher", "LauncherEvents", "ProcessReuse"]

_PREFETCH_SECONDS = 0.04
"""Duration of the tasks that the fork server queues per slot. Any slot runs them, and they can be withdrawn."""


class LauncherEvents(NamedTuple):
    """Callbacks of a launcher."""

    started: Callable[[RunningAttempt], None]
    """Called when a process starts to run an attempt."""
    ended: Callable[[RunningAttempt, int, bytes, bytes, float, bool], None]
    """Called with the attempt, wait status, report, end of its output, seconds, and whether it may have scratch."""
    returned: Callable[[Sequence[RunningAttempt]], None]
    """Called with submitted attempts that no process will run."""
    start_failed: Callable[[str], None]
    """Called with the reason when a process cannot be started, after its attempts were returned."""


class Launcher(Protocol):
    """A way to give attempts a process."""

    @property
    def is_withdrawing(self) -> bool:
        """Whether the fork server has yet to answer which waiting attempts it gives up."""

    def expect(self, mean_seconds: float | None) -> None:
        """Set the expected duration of a task, which decides how many are prefetched; None if it is unknown."""

    @property
    def capacity(self) -> int:
        """Number of attempts that can be submitted now; with reuse a lower bound, 0 only for none."""

    def submit(self, attempt: RunningAttempt) -> None:
        """Submit an attempt that the table holds as WAITING."""

    def flush(self) -> None:
        """Send the messages to task processes."""

    def withdraw(self) -> None:
        """Have waiting attempts returned, if the fork server holds them."""

    def signal(self, attempt: RunningAttempt, number: int) -> None:
        """Signal the process of a started attempt."""

    def on_message(self, message: Any) -> None:
        """Handle a message of the fork server."""

    def reset(self) -> Sequence[RunningAttempt]:
        """Forget all processes, which have exited; return the waiting attempts that may have been running."""

    def close(self) -> None:
        """Close the connections to task processes."""


class ForkPerTask:
    """A new process for each attempt; the fork server queues attempts that wait for a slot."""

    def __init__(
        self, forkserver: ForkserverClient, table: AttemptTable, events: LauncherEvents, *, slots: int
    ) -> None:
        self._forkserver = forkserver
        self._table = table
        self._events = events
        self._slots = slots
        self._prefetch = 0
        self.is_withdrawing = False

    def expect(self, mean_seconds: float | None) -> None:
        self._prefetch = self._slots * prefetch_count(mean_seconds, seconds=_PREFETCH_SECONDS)

    @property
    def capacity(self) -> int:
        return 0 if self.is_withdrawing else max(0, self._slots + self._prefetch - len(self._table))

    def submit(self, attempt: RunningAttempt) -> None:
        work = attempt.work
        self._forkserver.run_attempt(
            RunAttempt(attempt.number, work.task_id, work.attempt, work.payload, attempt.scratch)
        )

    def flush(self) -> None:
        """Do nothing: every message goes to the fork server."""

    def withdraw(self) -> None:
        if self._table.waiting and not self.is_withdrawing:
            self.is_withdrawing = True
            self._forkserver.withdraw()

    def signal(self, attempt: RunningAttempt, number: int) -> None:
        self._forkserver.kill_attempt(attempt.number, number)

    def on_message(self, message: Any) -> None:
        kind = type(message)
        if kind is AttemptEnded:
            self._ended(*message)
        elif kind is AttemptStarted:
            attempt = self._table.waiting[message.number]
            _, attempt.slot, attempt.pid, when = message
            now = time.monotonic()
            # The clock of the fork server may be one that worker_init has replaced.
            attempt.started = when if attempt.submitted <= when <= now else now
            self._events.started(attempt)
        elif kind is Withdrawn:
            self.is_withdrawing = False
            if message.numbers:
                self._events.returned([self._table.waiting[number] for number in message.numbers])
        elif kind is StartFailed:
            self._events.returned([self._table.waiting[message.number]])
            self._events.start_failed(message.reason)

    def reset(self) -> Sequence[RunningAttempt]:
        self.is_withdrawing = False
        # Each free slot may have had an attempt whose start was not reported yet.
        return list(self._table.waiting.values())[: max(0, self._slots - self._table.started_count)]

    def close(self) -> None:
        """Do nothing: task processes have no connection to the supervisor."""

    def _ended(self, number: int, status: int, when: float, content: bytes | None, tail: bytes) -> None:
        content = receive_result(self._forkserver.take_descriptor) if content is None else content
        attempt = self._table.get_started(number)
        if attempt is not None:
            seconds, now = when - attempt.started, time.monotonic()
            if not 0.0 <= seconds <= now - attempt.started:
                seconds = now - attempt.started
            self._events.ended(attempt, status, content, tail, seconds, True)


class ProcessReuse:
    """A pool of processes that run several attempts each."""

    is_withdrawing = False

    def __init__(
        self, forkserver: ForkserverClient, events: LauncherEvents, loop: EventLoop, *, slots: int, reuse: int
    ) -> None:
        from cloud_tasks.worker.supervisor.execution.process_pool import ProcessPool

        self._forkserver = forkserver
        self._events = events
        self._pool: ProcessPool = ProcessPool(
            loop,
            slots=slots,
            reuse=reuse,
            start_process=forkserver.start_process,
            on_started=events.started,
            on_ended=events.ended,
            kill=lambda pid: forkserver.kill_process(pid, signal.SIGKILL),
        )
        self.submit = self._pool.submit
        self.expect = self._pool.expect
        self.flush = self._pool.flush
        self.close = self._pool.close

    @property
    def capacity(self) -> int:
        return self._pool.capacity

    def withdraw(self) -> None:
        """Do nothing: a process keeps what was sent to it."""

    def signal(self, attempt: RunningAttempt, number: int) -> None:
        self._forkserver.kill_process(self._pool.mark_signalled(attempt), number)

    def on_message(self, message: Any) -> None:
        kind = type(message)
        if kind is ProcessStarted:
            self._connect(message)
        elif kind is ProcessEnded:
            self._process_ended(*message)
        elif kind is StartFailed:
            _, unstarted = self._pool.remove(message.slot)
            self._events.returned(unstarted)
            self._events.start_failed(message.reason)

    def reset(self) -> Sequence[RunningAttempt]:
        self._pool.reset()
        return ()

    def _connect(self, message: ProcessStarted) -> None:
        try:
            descriptor = self._forkserver.take_descriptor()
        except OSError as error:
            # The process exits, since its socket is closed, and its attempts are returned then.
            self._events.start_failed(f"cannot start the process of a task: {os_error_text(error)}")
        else:
            self._pool.connect(message.slot, message.pid, descriptor)

    def _process_ended(self, slot: int, status: int, tail: bytes) -> None:
        attempt, unstarted = self._pool.remove(slot)
        if attempt is not None:
            self._events.ended(attempt, status, b"", tail, time.monotonic() - attempt.started, True)
        if unstarted:
            self._events.returned(unstarted)
