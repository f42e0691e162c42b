"""Execution of submitted attempts: start, time and memory limits, end.

Invariants, each with a test:

1. No more attempts are submitted than there are slots, except that short tasks are prefetched for a few milliseconds.
   Attempts that the fork server has held for longer are returned.
2. A task that exceeds its time or memory limit gets SIGTERM, after a moment SIGKILL, with its whole process tree.
3. The end of each started attempt is reported once.
4. An attempt that was ended by SIGTERM, and not by this worker, is released if a shutdown starts within two seconds,
   and has exited otherwise. Its slot is free meanwhile.
"""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Sequence

from cloud_tasks.worker.common import process_tree
from cloud_tasks.worker.common.shared_flags import SharedFlags
from cloud_tasks.worker.consumers.attempt_types import AttemptState, PendingAttempt, RunningAttempt
from cloud_tasks.worker.supervisor.event_loop import EventLoop
from cloud_tasks.worker.supervisor.execution.attempt_table import AttemptTable
from cloud_tasks.worker.supervisor.execution.forkserver_client import ForkserverClient
from cloud_tasks.worker.supervisor.execution.launchers import ForkPerTask, Launcher, LauncherEvents, ProcessReuse
from cloud_tasks.worker.supervisor.execution.outcome import MIN_REPORT, SHUT_DOWN, Outcome, OutcomeKind, read_outcome
from cloud_tasks.worker.supervisor.settings import SupervisorSettings

__all__ = ["AttemptExecutor"]

# A member of an enumeration takes longer to look up than an attempt takes to change its state.
_RUNNING, _ENDING, _FINISHED = AttemptState.RUNNING, AttemptState.ENDING, AttemptState.FINISHED
_MAX_WAIT = 0.5
"""Seconds after which waiting attempts are withdrawn from the fork server."""
_SHUTDOWN_DELAY = 2.0
"""Seconds in which a shutdown explains SIGTERM: an instance that powers off signals all its processes at once, and a
task may exit before its worker knows."""


class AttemptExecutor:
    """Runs attempts. Used in the supervisor's loop only.

    Args:
        on_started: Called with each attempt that a process starts to run.
        on_ended: Called with (attempt, outcome, seconds, whether it may have left a scratch folder) at its end.
        on_returned: Called with submitted attempts that no process will run, through no fault of their own.
        on_start_failed: Called with the reason when a process cannot be started, after its attempts were returned.
    """

    def __init__(
        self,
        settings: SupervisorSettings,
        forkserver: ForkserverClient,
        loop: EventLoop,
        flags: SharedFlags,
        *,
        on_started: Callable[[RunningAttempt], None],
        on_ended: Callable[[RunningAttempt, Outcome, float, bool], None],
        on_returned: Callable[[Sequence[PendingAttempt]], None],
        on_start_failed: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._flags = flags
        self._on_started = on_started
        self._on_ended = on_ended
        self._on_returned = on_returned
        self._numbers = itertools.count()
        self._end_cause = ""
        """Reason for which all attempts are ended; empty for none."""
        self._table = AttemptTable()
        self._later = loop.later
        self._is_shutting_down = False
        self._terminated: dict[RunningAttempt, tuple[Outcome, float, bool]] = {}
        """Attempts ended by SIGTERM for which no shutdown has started yet, with the arguments of `_conclude`."""
        events = LauncherEvents(self._started, self._ended, self._returned, on_start_failed)
        slots, reuse = settings.slots, settings.reuse
        self._launcher: Launcher = (
            ProcessReuse(forkserver, events, loop, slots=slots, reuse=reuse)
            if reuse > 1
            else ForkPerTask(forkserver, self._table, events, slots=slots)
        )
        self.expect, self.withdraw = self._launcher.expect, self._launcher.withdraw
        self.flush, self.close = self._launcher.flush, self._launcher.close
        self.on_message = self._launcher.on_message

    # -- state -----------------------------------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """Number of attempts that can be submitted now, at least; 0 only for none."""
        return self._launcher.capacity

    @property
    def is_withdrawing(self) -> bool:
        """Whether the fork server has yet to answer which waiting attempts it gives up."""
        return self._launcher.is_withdrawing

    @property
    def running(self) -> list[RunningAttempt]:
        """Attempts that a process runs."""
        return self._table.started()

    @property
    def unfinished(self) -> list[RunningAttempt]:
        """Submitted attempts whose end is not reported yet."""
        return [*self._table.all(), *self._terminated]

    @property
    def count(self) -> int:
        """Number of unfinished attempts."""
        return len(self._table) + len(self._terminated)

    @property
    def busy_seconds(self) -> float:
        """Time for which every slot has been busy with its present task; 0 while a slot is free."""
        table = self._table
        if table.started_count < self._settings.slots:
            return 0.0
        latest = next(reversed(table.running.values()), None) or next(reversed(table.ending.values()))
        return time.monotonic() - latest.started

    @property
    def due_at(self) -> float:
        """Time of the next `enforce_limits` that is needed (`time.monotonic`); infinite for none."""
        table, due = self._table, float("inf")
        for first in table.running.values():
            due = first.started + self._settings.max_runtime
            break
        if self._settings.reuse == 1 and not self.is_withdrawing:
            for first in table.waiting.values():
                due = min(due, first.started + _MAX_WAIT)
                break
        for attempt in table.ending.values():
            if attempt.kill_at is not None:
                due = min(due, attempt.kill_at)
        return due

    # -- start and end ---------------------------------------------------------------------------------------------

    def submit(self, work: PendingAttempt) -> None:
        """Submit an attempt; call only while there is capacity."""
        number = next(self._numbers)
        attempt = RunningAttempt(work, number, f"{self._settings.scratch_root}/{number}")
        self._table.add(attempt)
        self._launcher.submit(attempt)

    def end(self, attempt: RunningAttempt, cause: str, kill_after: float) -> None:
        """End a started attempt, by SIGKILL after so many seconds; a second call can only make that earlier."""
        kill_at = time.monotonic() + kill_after
        if attempt.state is _RUNNING:
            self._table.move(attempt, _ENDING)
            attempt.cause = cause
            self._launcher.signal(attempt, signal.SIGTERM if kill_after > 0 else signal.SIGKILL)
            attempt.kill_at = kill_at
        elif attempt.kill_at is not None:
            attempt.kill_at = min(attempt.kill_at, kill_at)

    def on_shutdown(self) -> None:
        """Release the attempts that SIGTERM has ended, and those that it ends from now on."""
        self._is_shutting_down = True
        while self._terminated:
            attempt, (_, seconds, may_have_scratch) = self._terminated.popitem()
            self._on_ended(attempt, SHUT_DOWN, seconds, may_have_scratch)

    def end_all(self, cause: str) -> None:
        """Kill all attempts, including those that start later, and have the waiting ones returned."""
        self._end_cause = cause
        self.withdraw()
        for attempt in self.running:
            self.end(attempt, cause, 0.0)

    def enforce_limits(self) -> None:
        """End attempts that exceed their time, kill those that were signalled, withdraw those that wait for long."""
        table = self._table
        if not (table.running or table.ending or table.waiting):
            return
        now = time.monotonic()
        # All have the same limit, so the first to start is the first to reach it.
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
            if first.started + _MAX_WAIT <= now:
                self.withdraw()
            break

    def watch_memory(self, limit: float) -> None:
        """End attempts whose processes exceed the limit of resident memory in GB; shared pages count repeatedly."""
        running = list(self._table.running.values())
        resident = process_tree.resident_bytes([attempt.pid for attempt in running if attempt.pid is not None])
        for attempt in running:
            attempt.memory_gb = (0 if attempt.pid is None else resident.get(attempt.pid, 0)) / 1e9
            if attempt.memory_gb > limit:
                self.end(attempt, "memory", 0.0)

    def on_forkserver_died(self, cause: str) -> int:
        """Report the attempts that may have been running as interrupted, return the others, and return their number.

        All task processes have exited.

        Args:
            cause: How the fork server died.
        """
        for attempt in self._launcher.reset():
            self._table.move(attempt, _RUNNING)
        waiting, started = list(self._table.waiting.values()), self._table.started()
        for attempt in started:
            is_shut_down = attempt.cause == "shutdown"
            outcome = SHUT_DOWN if is_shut_down else Outcome(kind=OutcomeKind.LOST, details={"cause": cause})
            self._conclude(attempt, outcome, time.monotonic() - attempt.started, True)
        self._returned(waiting)
        return len(started)

    def _started(self, attempt: RunningAttempt) -> None:
        self._table.move(attempt, _RUNNING)
        self._on_started(attempt)
        if self._end_cause:
            self.end(attempt, self._end_cause, 0.0)

    def _returned(self, attempts: Sequence[RunningAttempt]) -> None:
        for attempt in attempts:
            self._table.move(attempt, _FINISHED)
        self._on_returned([attempt.work for attempt in attempts])

    def _ended(
        self, attempt: RunningAttempt, status: int, content: bytes, tail: bytes, seconds: float, may_have_scratch: bool
    ) -> None:
        settings, cause, has_report = self._settings, attempt.cause, len(content) >= MIN_REPORT
        outcome = read_outcome(
            status=status,
            content=content,
            cause=cause,
            tail=tail,
            limit=settings.memory_gb if cause == "memory" else settings.max_runtime,
            memory=attempt.memory_gb,
            folders=settings.folders,
            limit_at=attempt.started + settings.max_runtime,
            report_error=0 if has_report else self._flags.take_report_error(attempt.slot, attempt.number),
        )
        if outcome.exit_code == -signal.SIGTERM and not cause:
            if not self._is_shutting_down:
                self._table.move(attempt, _FINISHED)
                self._terminated[attempt] = outcome, seconds, may_have_scratch
                self._later(_SHUTDOWN_DELAY, lambda: self._settle(attempt))
                return
            outcome = SHUT_DOWN
        self._conclude(attempt, outcome, seconds, may_have_scratch)

    def _settle(self, attempt: RunningAttempt) -> None:
        """Report an attempt that SIGTERM has ended, unless a shutdown has released it."""
        fields = self._terminated.pop(attempt, None)
        if fields is not None:
            self._on_ended(attempt, *fields)

    def _conclude(self, attempt: RunningAttempt, outcome: Outcome, seconds: float, may_have_scratch: bool) -> None:
        self._table.move(attempt, _FINISHED)
        self._on_ended(attempt, outcome, seconds, may_have_scratch)
