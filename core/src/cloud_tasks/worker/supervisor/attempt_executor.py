"""The attempts that were handed to a launcher: started, timed, ended.

Invariants, each with a test:

1. No more is started than there are slots, but for short tasks: some milliseconds' worth of them wait at the fork
   server. Attempts that have waited there for long, because tasks have become longer, are given back.
2. A task that exceeds its time or memory gets SIGTERM, and after a moment SIGKILL, with its whole tree.
3. The end of each attempt that has begun is reported once.
"""

from __future__ import annotations

import itertools
import select
import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cloud_tasks.worker.common import process_tree
from cloud_tasks.worker.consumers.attempt_types import AttemptState, PendingAttempt, RunningAttempt
from cloud_tasks.worker.supervisor.attempt_table import AttemptTable
from cloud_tasks.worker.supervisor.forkserver_client import ForkserverClient
from cloud_tasks.worker.supervisor.launchers import ForkPerTask, Launcher, LauncherEvents, ProcessReuse
from cloud_tasks.worker.supervisor.outcome import Outcome, OutcomeKind, read_outcome
from cloud_tasks.worker.supervisor.settings import SupervisorSettings

if TYPE_CHECKING:
    from cloud_tasks.worker.supervisor.process_pool import ProcessPool

__all__ = ["AttemptExecutor"]

_RUNNING, _ENDING, _ENDED = AttemptState.RUNNING, AttemptState.ENDING, AttemptState.ENDED
_PATIENCE = 0.5
"""Seconds after which waiting attempts are withdrawn from the fork server."""


class AttemptExecutor:
    """Used by the supervisor's loop.

    Args:
        on_begun: Called with each attempt whose process has turned to it.
        on_ended: Called with (attempt, outcome, seconds, whether it may have left a scratch folder) at its end.
        on_returned: Called with tasks that were started and, through no fault of their own, never begun.
    """

    def __init__(
        self,
        settings: SupervisorSettings,
        crew: ForkserverClient,
        poll: select.poll,
        *,
        on_begun: Callable[[RunningAttempt], None],
        on_ended: Callable[[RunningAttempt, Outcome, float, bool], None],
        on_returned: Callable[[Sequence[PendingAttempt]], None],
    ) -> None:
        self._settings = settings
        self._on_begun = on_begun
        self._on_ended = on_ended
        self._on_returned = on_returned
        self._numbers = itertools.count()
        self._end_cause = ""
        """Why all are ended; empty: they are not."""
        self._table = AttemptTable()
        self.pool: ProcessPool | None = None
        """None: each attempt has a process of its own."""
        self._launcher: Launcher
        events = LauncherEvents(self._begun, self._ended, self._returned)
        if settings.reuse > 1:
            reuse = ProcessReuse(crew, self._table, events, poll, slots=settings.slots, reuse=settings.reuse)
            self._launcher, self.pool = reuse, reuse.pool
        else:
            self._launcher = ForkPerTask(crew, self._table, events, slots=settings.slots)

    # -- what there is ---------------------------------------------------------------------------------------------

    def expect(self, mean_seconds: float | None) -> None:
        """Take the expected duration of tasks, which decides how many are sent ahead."""
        self._launcher.expect(mean_seconds)

    @property
    def room(self) -> int:
        """How many more can be started now."""
        return self._launcher.room

    @property
    def is_withdrawing(self) -> bool:
        """Whether the fork server has yet to answer which waiting attempts it gives up."""
        return self._launcher.is_withdrawing

    @property
    def running(self) -> list[RunningAttempt]:
        """Attempts that have begun and not ended."""
        return self._table.begun()

    @property
    def started(self) -> list[RunningAttempt]:
        """Attempts that were started and have not ended, begun or not."""
        return self._table.all()

    @property
    def held_up(self) -> float:
        """Seconds for which every slot has been busy with its present task; 0: one is free."""
        table = self._table
        if table.begun_count < self._settings.slots:
            return 0.0
        latest = next(reversed(table.running.values()), None) or next(reversed(table.ending.values()))
        return time.monotonic() - latest.started

    @property
    def count(self) -> int:
        """How many were started and have not ended."""
        return len(self._table)

    @property
    def due_at(self) -> float:
        """Time of the next `on_time` that is needed (`time.monotonic`); infinite: none is."""
        due = float("inf")
        for first in self._table.running.values():
            due = first.started + self._settings.max_runtime
            break
        if self.pool is None and not self.is_withdrawing:
            for first in self._table.waiting.values():
                due = min(due, first.started + _PATIENCE)
                break
        for attempt in self._table.ending.values():
            if attempt.kill_at is not None:
                due = min(due, attempt.kill_at)
        return due

    # -- starting and ending ---------------------------------------------------------------------------------------

    def start(self, work: PendingAttempt) -> None:
        number = next(self._numbers)
        attempt = RunningAttempt(work, number, f"{self._settings.scratch_root}/{number}")
        self._table.add(attempt)
        self._launcher.start(attempt)

    def end(self, attempt: RunningAttempt, cause: str, kill_after: float) -> None:
        """End an attempt that has begun; a second call can only make it sooner."""
        kill_at = time.monotonic() + kill_after
        if attempt.state is _RUNNING:
            self._table.move(attempt, _ENDING)
            attempt.cause = cause
            self._launcher.signal(attempt, signal.SIGTERM if kill_after > 0 else signal.SIGKILL)
            attempt.kill_at = kill_at
        elif attempt.kill_at is not None:
            attempt.kill_at = min(attempt.kill_at, kill_at)

    def end_all(self, cause: str) -> None:
        """End all attempts at once, also those that begin later, and return the waiting ones."""
        self._end_cause = cause
        self.withdraw()
        for attempt in self.running:
            self.end(attempt, cause, 0.0)

    def on_time(self) -> None:
        """Do what is due."""
        now, table = time.monotonic(), self._table
        # All have the same limit, so the first to begin is the first to reach it.
        while table.running:
            first = next(iter(table.running.values()))
            if first.started + self._settings.max_runtime > now:
                break
            self.end(first, "timeout", self._settings.term_to_kill)
        for attempt in list(table.ending.values()):
            if attempt.kill_at is not None and attempt.kill_at <= now:
                attempt.kill_at = None
                self._launcher.signal(attempt, signal.SIGKILL)
        for first in table.waiting.values():
            if first.started + _PATIENCE <= now:
                self.withdraw()
            break

    def withdraw(self) -> None:
        """Have waiting attempts returned, where the fork server holds them."""
        self._launcher.withdraw()

    def watch_memory(self, limit: float) -> None:
        """End attempts whose processes have too much resident memory, in GB; shared pages count more than once."""
        running = list(self._table.running.values())
        resident = process_tree.resident_bytes([attempt.pid for attempt in running if attempt.pid is not None])
        for attempt in running:
            attempt.memory_gb = (0 if attempt.pid is None else resident.get(attempt.pid, 0)) / 1e9
            if attempt.memory_gb > limit:
                self.end(attempt, "memory", 0.0)

    # -- what the processes report ---------------------------------------------------------------------------------

    def on_message(self, message: Any) -> None:
        """Handle a message of the fork server about a task process."""
        self._launcher.on_message(message)

    def template_gone(self) -> int:
        """End all attempts that may have begun, and return the others: all processes are gone. Return their number."""
        for attempt in self._launcher.reset():
            self._table.move(attempt, _RUNNING)
        waiting, begun = list(self._table.waiting.values()), self._table.begun()
        for attempt in begun:
            self._conclude(
                attempt,
                Outcome(kind=OutcomeKind.LOST, details={"cause": "the template of its process died"}),
                time.monotonic() - attempt.started,
                True,
            )
        self._returned(waiting)
        return len(begun)

    def _begun(self, attempt: RunningAttempt) -> None:
        self._table.move(attempt, _RUNNING)
        self._on_begun(attempt)
        if self._end_cause:
            self.end(attempt, self._end_cause, 0.0)

    def _returned(self, attempts: Sequence[RunningAttempt]) -> None:
        for attempt in attempts:
            self._table.move(attempt, _ENDED)
        self._on_returned([attempt.work for attempt in attempts])

    def _ended(
        self, attempt: RunningAttempt, status: int, content: bytes, tail: bytes, seconds: float, may_have_scratch: bool
    ) -> None:
        settings = self._settings
        outcome = read_outcome(
            status=status,
            content=content,
            cause=attempt.cause,
            tail=tail,
            limit=settings.memory_gb if attempt.cause == "memory" else settings.max_runtime,
            memory=attempt.memory_gb,
        )
        self._conclude(attempt, outcome, seconds, may_have_scratch)

    def _conclude(self, attempt: RunningAttempt, outcome: Outcome, seconds: float, may_have_scratch: bool) -> None:
        self._table.move(attempt, _ENDED)
        self._on_ended(attempt, outcome, seconds, may_have_scratch)
