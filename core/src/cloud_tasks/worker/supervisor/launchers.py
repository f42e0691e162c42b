"""How attempts get a process: one forked for each, or one reused for several. One interface for both.

A launcher moves an attempt from WAITING to RUNNING when its process turns to it; everything else about its state is
decided by `Attempts`.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from cloud_tasks.worker.consumers.attempt_types import RunningAttempt
from cloud_tasks.worker.forkserver.protocol import (
    AttemptEnded,
    AttemptStarted,
    ProcessEnded,
    ProcessStarted,
    RunAttempt,
    Withdrawn,
)
from cloud_tasks.worker.supervisor.attempt_table import AttemptTable
from cloud_tasks.worker.supervisor.forkserver_client import ForkserverClient
from cloud_tasks.worker.supervisor.prefetch import prefetch_count

if TYPE_CHECKING:
    from cloud_tasks.worker.supervisor.process_pool import Ended, ProcessPool

__all__ = ["ForkPerTask", "Launcher", "LauncherEvents", "ProcessReuse"]


class LauncherEvents(NamedTuple):
    """Callbacks of a launcher."""

    begun: Callable[[RunningAttempt], None]
    """Called when an attempt's process has turned to it."""
    ended: Callable[[RunningAttempt, int, bytes, bytes, float, bool], None]
    """Called with the attempt, exit status, report, end of its output, seconds, and whether it may have scratch."""
    returned: Callable[[Sequence[RunningAttempt]], None]
    """Called with attempts that were started and will not begin."""


class Launcher(Protocol):
    """The way to a process."""

    @property
    def is_withdrawing(self) -> bool:
        """Whether the fork server has yet to answer which waiting attempts it gives up."""

    def expect(self, mean_seconds: float | None) -> None:
        """Take the expected duration of tasks, which decides how many are sent ahead."""

    @property
    def room(self) -> int:
        """Number of attempts that can be started now; with reuse a lower bound, 0 only for none."""

    def start(self, attempt: RunningAttempt) -> None:
        """Start an attempt, which the table holds as WAITING."""

    def withdraw(self) -> None:
        """Have waiting attempts returned, where the fork server holds them."""

    def signal(self, attempt: RunningAttempt, number: int) -> None:
        """Signal the process of an attempt that has begun."""

    def on_message(self, message: Any) -> None:
        """Handle a message of the fork server."""

    def reset(self) -> Sequence[RunningAttempt]:
        """Forget all processes, which are gone; return the waiting attempts that may have begun meanwhile."""


class ForkPerTask:
    """A new process for each attempt; the fork server holds what waits for a slot."""

    def __init__(self, crew: ForkserverClient, table: AttemptTable, events: LauncherEvents, *, slots: int) -> None:
        self._crew = crew
        self._table = table
        self._events = events
        self._slots = slots
        self._ahead = 0
        self.is_withdrawing = False

    def expect(self, mean_seconds: float | None) -> None:
        self._ahead = self._slots * prefetch_count(mean_seconds)

    @property
    def room(self) -> int:
        return 0 if self.is_withdrawing else max(0, self._slots + self._ahead - len(self._table))

    def start(self, attempt: RunningAttempt) -> None:
        work = attempt.work
        self._crew.run(RunAttempt(attempt.number, work.task_id, work.attempt, work.payload, attempt.scratch))

    def withdraw(self) -> None:
        if self._table.waiting and not self.is_withdrawing:
            self.is_withdrawing = True
            self._crew.withdraw()

    def signal(self, attempt: RunningAttempt, number: int) -> None:
        self._crew.kill(attempt.number, number)

    def on_message(self, message: Any) -> None:
        kind = type(message)
        if kind is AttemptEnded:
            self._ended(*message)
        elif kind is AttemptStarted:
            attempt = self._table.waiting[message.number]
            _, attempt.slot, attempt.pid, attempt.started = message
            self._events.begun(attempt)
        elif kind is Withdrawn:
            self.is_withdrawing = False
            if message.numbers:
                self._events.returned([self._table.waiting[number] for number in message.numbers])

    def reset(self) -> Sequence[RunningAttempt]:
        self.is_withdrawing = False
        # An attempt for each free slot may have begun.
        return list(self._table.waiting.values())[: max(0, self._slots - self._table.begun_count)]

    def _ended(self, number: int, status: int, when: float, content: bytes | None, tail: bytes) -> None:
        content = _read_all(self._crew.take_descriptor()) if content is None else content
        attempt = self._table.get_begun(number)
        if attempt is not None:
            self._events.ended(attempt, status, content, tail, max(0.0, when - attempt.started), True)


class ProcessReuse:
    """A pool of processes that run several attempts each."""

    is_withdrawing = False

    def __init__(
        self,
        crew: ForkserverClient,
        table: AttemptTable,
        events: LauncherEvents,
        poll: select.poll,
        *,
        slots: int,
        reuse: int,
    ) -> None:
        from cloud_tasks.worker.supervisor.process_pool import ProcessPool

        self._crew = crew
        self._table = table
        self._events = events
        self.pool: ProcessPool = ProcessPool(
            poll,
            slots=slots,
            reuse=reuse,
            make=crew.make,
            on_begun=self._begun,
            on_ended=self._reported,
            kill=lambda pid: crew.kill_process(pid, signal.SIGKILL),
        )

    def expect(self, mean_seconds: float | None) -> None:
        self.pool.expect(mean_seconds)

    @property
    def room(self) -> int:
        return self.pool.room

    def start(self, attempt: RunningAttempt) -> None:
        self.pool.start(attempt)

    def withdraw(self) -> None:
        """Do nothing: a process has what was sent to it."""

    def signal(self, attempt: RunningAttempt, number: int) -> None:
        self._crew.kill_process(self.pool.doom(attempt), number)

    def on_message(self, message: Any) -> None:
        kind = type(message)
        if kind is ProcessStarted:
            self.pool.made(message.slot, message.pid, self._crew.take_descriptor())
        elif kind is ProcessEnded:
            self._process_ended(*message)

    def reset(self) -> Sequence[RunningAttempt]:
        self.pool.all_gone()
        return ()

    def _begun(self, attempt: RunningAttempt) -> None:
        attempt.started = time.monotonic()
        self._events.begun(attempt)

    def _reported(self, ended: Ended) -> None:
        content = _read_all(ended.descriptor) if ended.content is None else ended.content
        self._events.ended(ended.running, 0, content, ended.tail, ended.seconds, ended.has_scratch)

    def _process_ended(self, slot: int, status: int, tail: bytes) -> None:
        attempt, left = self.pool.gone(slot)
        if attempt is not None:
            self._events.ended(attempt, status, b"", tail, time.monotonic() - attempt.started, True)
        if left:
            self._events.returned(left)


def _read_all(descriptor: int) -> bytes:
    try:
        size = os.fstat(descriptor).st_size
        if not size:
            return b""
        with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as content:
            return content[:]
    finally:
        # Processes that were forked meanwhile have the file open, too: it would take memory as long as they run.
        os.ftruncate(descriptor, 0)
        os.close(descriptor)
