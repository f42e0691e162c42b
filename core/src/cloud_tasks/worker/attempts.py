"""The attempts that have a process: started, timed, ended, in processes of their own or in a pool's.

Invariants, each with a test:

1. No more is started than there are slots, but for short tasks: of these, what takes some milliseconds waits at the
   template. What has waited there for long, because tasks have become longer, is given back.
2. A task that exceeds its time or memory gets SIGTERM, and after a moment SIGKILL, with its whole tree.
3. Of each attempt that has begun, the end is told once.
"""

from __future__ import annotations

import itertools
import mmap
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cloud_tasks.worker import process_tree
from cloud_tasks.worker.ahead import sent_ahead
from cloud_tasks.worker.crew import Crew
from cloud_tasks.worker.outcome import Outcome, read_outcome
from cloud_tasks.worker.protocol import (
    AttemptEnded,
    AttemptStarted,
    ProcessEnded,
    ProcessStarted,
    RunAttempt,
    Withdrawn,
)
from cloud_tasks.worker.settings import SupervisorSettings
from cloud_tasks.worker.work import Running, Work

if TYPE_CHECKING:
    from cloud_tasks.worker.pool import Ended, Pool

__all__ = ["Attempts"]

_PATIENCE = 0.5
"""Seconds after which what was sent ahead and has not begun is asked back."""


class Attempts:
    """Used by the supervisor's loop.

    Args:
        on_begun: Told of each attempt whose process has turned to it.
        on_ended: Told (attempt, outcome, seconds, whether it may have left a scratch folder) of its end.
        on_returned: Given what was started and, through no fault of its own, never begun.
    """

    def __init__(
        self,
        settings: SupervisorSettings,
        crew: Crew,
        poll: select.poll,
        *,
        on_begun: Callable[[Running], None],
        on_ended: Callable[[Running, Outcome, float, bool], None],
        on_returned: Callable[[Sequence[Work]], None],
    ) -> None:
        self._settings = settings
        self._crew = crew
        self._on_begun = on_begun
        self._on_ended = on_ended
        self._on_returned = on_returned
        self._numbers = itertools.count()
        self._ahead = 0
        self._sent: dict[int, Running] = {}
        """What the template has been told to run and has not begun, in this order."""
        self.is_withdrawing = False
        """Whether the template has yet to answer what it gives up."""
        self._end_cause = ""
        """Why all were told to end; empty: they were not."""
        self._running: dict[int, Running] = {}
        self._ending: dict[int, Running] = {}
        self.pool: Pool | None = None
        """None: each attempt has a process of its own."""
        if settings.reuse > 1:
            from cloud_tasks.worker.pool import Pool

            self.pool = Pool(
                poll,
                slots=settings.slots,
                reuse=settings.reuse,
                make=crew.make,
                on_begun=self._begun,
                on_ended=self._reported,
                kill=lambda pid: crew.kill_process(pid, signal.SIGKILL),
            )

    # -- what there is ---------------------------------------------------------------------------------------------

    def expect(self, mean_seconds: float | None) -> None:
        """Say how long tasks take, which decides how many are sent ahead."""
        if self.pool is not None:
            self.pool.expect(mean_seconds)
        else:
            self._ahead = self._settings.slots * sent_ahead(mean_seconds)

    @property
    def room(self) -> int:
        """How many more can be started now."""
        if self.pool is not None:
            return self.pool.room
        return 0 if self.is_withdrawing else max(0, self._settings.slots + self._ahead - self.count)

    @property
    def running(self) -> list[Running]:
        """Those that have begun."""
        return [*self._running.values(), *self._ending.values()]

    @property
    def started(self) -> list[Running]:
        """Those that were started and have not ended, begun or not."""
        return [*self.running, *(self._sent.values() if self.pool is None else self.pool.not_begun)]

    @property
    def held_up(self) -> float:
        """Seconds for which every slot has been busy with the task that it has now; 0: one is free."""
        if len(self._running) + len(self._ending) < self._settings.slots:
            return 0.0
        latest = next(reversed(self._running.values()), None) or next(reversed(self._ending.values()))
        return time.monotonic() - latest.started

    @property
    def count(self) -> int:
        """How many were started and have not ended."""
        waiting = len(self._sent) if self.pool is None else self.pool.waiting
        return len(self._running) + len(self._ending) + waiting

    @property
    def due_at(self) -> float:
        """When the next has to be ended (`time.monotonic`); infinite if none has."""
        due = float("inf")
        for first in self._running.values():
            due = first.started + self._settings.max_runtime
            break
        if not self.is_withdrawing:
            for first in self._sent.values():
                due = min(due, first.started + _PATIENCE)
                break
        for running in self._ending.values():
            if running.kill_at is not None:
                due = min(due, running.kill_at)
        return due

    # -- starting and ending ---------------------------------------------------------------------------------------

    def start(self, work: Work) -> None:
        number = next(self._numbers)
        scratch = f"{self._settings.scratch_root}/{number}"
        if self.pool is not None:
            self.pool.start(Running(work, number, -1, scratch))
            return
        self._sent[number] = Running(work, number, -1, scratch)
        self._crew.run(RunAttempt(number, work.task_id, work.attempt, work.payload, scratch))

    def end(self, running: Running, cause: str, kill_after: float) -> None:
        """Tell one to end; a second time only makes it sooner."""
        self._running.pop(running.number, None)
        kill_at = time.monotonic() + kill_after
        if running.number not in self._ending:
            self._ending[running.number] = running
            running.cause = cause
            self._kill(running, signal.SIGTERM if kill_after > 0 else signal.SIGKILL)
            running.kill_at = kill_at
        elif running.kill_at is not None:
            running.kill_at = min(running.kill_at, kill_at)

    def end_all(self, cause: str) -> None:
        """Tell all to end, at once, and give back what has not begun; what is told to have begun later ends, too."""
        self._end_cause = cause
        self.withdraw()
        for running in self.running:
            self.end(running, cause, 0.0)

    def on_time(self) -> None:
        """Do what time demands."""
        now = time.monotonic()
        # All have the same limit, so the first that was started is the first to reach it.
        while self._running:
            first = next(iter(self._running.values()))
            if first.started + self._settings.max_runtime > now:
                break
            self.end(first, "timeout", self._settings.term_to_kill)
        for running in list(self._ending.values()):
            if running.kill_at is not None and running.kill_at <= now:
                running.kill_at = None
                self._kill(running, signal.SIGKILL)
        for first in self._sent.values():
            if first.started + _PATIENCE <= now:
                self.withdraw()
            break

    def withdraw(self) -> None:
        """Ask back what has not begun."""
        if self._sent and not self.is_withdrawing:
            self.is_withdrawing = True
            self._crew.withdraw()

    def watch_memory(self, limit: float) -> None:
        """End those whose processes have too much. The sum of what is resident, so memory they share counts often."""
        resident = process_tree.resident_bytes([running.pid for running in self._running.values() if running.pid])
        for running in list(self._running.values()):
            running.memory_gb = resident.get(running.pid, 0) / 1e9
            if running.memory_gb > limit:
                self.end(running, "memory", 0.0)

    def _kill(self, running: Running, sign: int) -> None:
        if self.pool is None:
            self._crew.kill(running.number, sign)
        else:
            self._crew.kill_process(self.pool.doom(running), sign)

    # -- what the processes say ------------------------------------------------------------------------------------

    def on_message(self, message: Any) -> None:
        """Handle a message of the template about a task process."""
        kind = type(message)
        if kind is AttemptEnded:
            self._process_ended(*message)
        elif kind is AttemptStarted:
            self._process_started(*message)
        elif kind is Withdrawn:
            self._withdrawn(message.numbers)
        elif kind is ProcessStarted and self.pool is not None:
            self.pool.made(message.slot, message.pid, self._crew.take_descriptor())
        elif kind is ProcessEnded and self.pool is not None:
            self._member_gone(*message)

    def template_gone(self) -> int:
        """All processes are gone; returns how many attempts had begun."""
        lost = 0
        returned: list[Work] = []
        if self.pool is not None:
            for _, left in self.pool.all_gone():
                returned += [running.work for running in left if running.number not in self._running]
        # Of what it had been told, a task for each slot may have begun.
        free = self._settings.slots - len(self._running) - len(self._ending)
        for running in [*self._sent.values()][:free]:
            self._running[running.number] = self._sent.pop(running.number)
        returned += [running.work for running in self._sent.values()]
        self._sent.clear()
        self.is_withdrawing = False
        for running in self.running:
            lost += 1
            self._conclude(
                running,
                Outcome(kind="lost", details={"cause": "the template of its process died"}),
                time.monotonic() - running.started,
                True,
            )
        self._on_returned(returned)
        return lost

    def _begun(self, running: Running) -> None:
        running.started = time.monotonic()
        self._note_begun(running)

    def _process_started(self, number: int, slot: int, pid: int, when: float) -> None:
        running = self._sent.pop(number)
        running.slot, running.pid, running.started = slot, pid, when
        self._note_begun(running)

    def _note_begun(self, running: Running) -> None:
        self._running[running.number] = running
        self._on_begun(running)
        if self._end_cause:
            self.end(running, self._end_cause, 0.0)

    def _withdrawn(self, numbers: Sequence[int]) -> None:
        self.is_withdrawing = False
        works = [self._sent.pop(number).work for number in numbers]
        if works:
            self._on_returned(works)

    def _process_ended(self, number: int, status: int, when: float, content: bytes | None, tail: bytes) -> None:
        content = _read_all(self._crew.take_descriptor()) if content is None else content
        running = self._running.get(number) or self._ending.get(number)
        if running is not None:
            seconds = max(0.0, when - running.started)
            self._conclude(running, self._outcome(running, status, content, tail), seconds, True)

    def _reported(self, ended: Ended) -> None:
        content = _read_all(ended.descriptor) if ended.content is None else ended.content
        outcome = self._outcome(ended.running, 0, content, ended.tail)
        self._conclude(ended.running, outcome, ended.seconds, ended.has_scratch)

    def _member_gone(self, slot: int, status: int, tail: bytes) -> None:
        assert self.pool is not None
        running, left = self.pool.gone(slot)
        if running is not None:
            seconds = time.monotonic() - running.started
            self._conclude(running, self._outcome(running, status, b"", tail), seconds, True)
        for other in left:
            self._running.pop(other.number, None)
            self._ending.pop(other.number, None)
        if left:
            self._on_returned([other.work for other in left])

    def _outcome(self, running: Running, status: int, content: bytes, tail: bytes) -> Outcome:
        settings = self._settings
        return read_outcome(
            status=status,
            content=content,
            cause=running.cause,
            tail=tail,
            limit=settings.memory_gb if running.cause == "memory" else settings.max_runtime,
            memory=running.memory_gb,
        )

    def _conclude(self, running: Running, outcome: Outcome, seconds: float, may_have_scratch: bool) -> None:
        if self._running.pop(running.number, None) is None and self._ending.pop(running.number, None) is None:
            return
        self._on_ended(running, outcome, seconds, may_have_scratch)


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
