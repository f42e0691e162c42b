"""The supervisor: one loop over descriptors and a few timers; threads do what may block.

Invariants, each with a test:

1. What was started is reported or released, whatever happens.
2. Shutdown takes nothing new, gives what runs the grace period, releases the rest at once, and flushes events.
3. While reports pile up, nothing new is started.
4. What the queue gave and no slot will soon be free for is given back, for other workers.
5. Running tasks see a shutdown request or termination notice only after the template has given up its waiting
   attempts: the slot of a task that returns because of it starts no other.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cloud_tasks.worker.common import process_tree
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.common.shared_flags import SharedFlags
from cloud_tasks.worker.consumers.attempt_types import PendingAttempt, RunningAttempt
from cloud_tasks.worker.forkserver.protocol import Ready
from cloud_tasks.worker.reporting.event_encoder import EventEncoder
from cloud_tasks.worker.reporting.reporter import Report, Reporter
from cloud_tasks.worker.supervisor.attempt_executor import AttemptExecutor
from cloud_tasks.worker.supervisor.completion import CompletionHandler
from cloud_tasks.worker.supervisor.forkserver_client import ForkserverClient
from cloud_tasks.worker.supervisor.outcome import Outcome, OutcomeKind
from cloud_tasks.worker.supervisor.periodic_tasks import Activity, PeriodicTasks
from cloud_tasks.worker.supervisor.settings import Exit, SupervisorSettings
from cloud_tasks.worker.supervisor.timers import Timers

if TYPE_CHECKING:
    from cloud_tasks.worker.consumers.base import TaskConsumer

__all__ = ["Supervisor"]

_MOST_TEMPLATE_DEATHS = 20
"""Templates that may die one after the other without a task completed between."""
_CLOGGED_PAUSE = 0.05
"""Seconds between two looks whether reports have gone out, while nothing is started for them."""
_SURPLUS_INTERVAL = 2.0
"""Seconds between two looks whether there is more at hand than is needed."""


class Supervisor:
    """Runs what a feed brings. Everything here happens in one thread; others call `post`."""

    def __init__(
        self,
        settings: SupervisorSettings,
        *,
        end: Any,
        feed: Callable[[Supervisor], TaskConsumer],
        reporter: Reporter,
        endings: CompletionHandler,
        events: EventEncoder,
        flags: SharedFlags,
        log: Log,
    ) -> None:
        self._settings = settings
        self.reporter = reporter
        self._endings = endings
        self._events = events
        self._flags = flags
        self.log = log
        self._poll = select.poll()
        self._alarm_out, self._alarm_in = process_tree.alarm_pipe()
        self._poll.register(self._alarm_out, select.POLLIN)
        self._posted: deque[Callable[[], None]] = deque()
        self.timers = Timers()
        self._returned: deque[PendingAttempt] = deque()
        self._ready = False
        self.is_accepting = True
        """Whether new tasks are started."""
        self.stop_reason = ""
        self._code = Exit.DONE
        self._signals = 0
        self._announcements: deque[Callable[[], None]] = deque()
        """Set the flags that running tasks see."""
        self._template_deaths = 0
        self._mean_seconds: float | None = None
        self.finished = 0
        """Attempts that have ended."""
        self._crew = ForkserverClient(
            end,
            self._poll,
            max_result_bytes=settings.max_result_bytes,
            on_message=self._on_message,
            on_template_gone=self._on_template_gone,
            on_zygote_gone=lambda: log.warning("The zygote is gone: a template that dies cannot be replaced"),
        )
        self.attempts = AttemptExecutor(
            settings,
            self._crew,
            self._poll,
            on_begun=self._on_begun,
            on_ended=self._on_ended,
            on_returned=self._on_returned,
        )
        self._pulse = PeriodicTasks(
            settings,
            later=self.timers.later,
            observe=self._activity,
            report=self.report,
            watch_memory=self.attempts.watch_memory,
            stop=self.stop,
            log=log,
        )
        self.feed = feed(self)

    # -- for other threads -----------------------------------------------------------------------------------------

    def post(self, action: Callable[[], None]) -> None:
        """Have an action done in the loop."""
        self._posted.append(action)
        try:
            os.write(self._alarm_in, b"\0")
        except (BlockingIOError, OSError):
            return

    # -- the loop --------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Work until it is over; returns the exit code."""
        previous = self._connect_signals()
        try:
            self._crew.make_template()
            self.feed.start()
            self.report("worker_started", slots=self._settings.slots, pid=os.getpid())
            self._pulse.start()
            self.timers.later(_SURPLUS_INTERVAL, self._give_back_surplus)
            while not self._is_over():
                self._turn()
        finally:
            self._disconnect_signals(previous)
            self.log.flush()
        return self._code

    def close(self) -> None:
        """End all processes."""
        if self.attempts.pool is not None:
            self.attempts.pool.close()
        self._crew.close()
        os.close(self._alarm_out)
        os.close(self._alarm_in)

    def _is_over(self) -> bool:
        if self.attempts.count or self._returned:
            return False
        return not self.is_accepting or self.feed.exhausted

    def _turn(self) -> None:
        self._fill()
        self.log.flush()
        pool = self.attempts.pool
        if pool is not None:
            pool.flush()
        self._crew.flush()
        for descriptor, _ in self._poll.poll(self._patience()):
            if pool is not None and pool.owns(descriptor):
                pool.ready(descriptor)
            elif descriptor == self._alarm_out:
                os.read(self._alarm_out, 1 << 16)
            elif self._crew.owns(descriptor):
                self._crew.ready(descriptor)
        while self._posted:
            self._posted.popleft()()
        self.timers.run()
        self.attempts.on_time()
        while self._announcements and not self.attempts.is_withdrawing:
            self._announcements.popleft()()

    def _patience(self) -> float:
        """Milliseconds until something is due."""
        now = time.monotonic()
        due = min(now + 60.0, self.timers.due_at, self.attempts.due_at)
        if self.is_accepting and self.attempts.room:
            held = self.feed.due_at
            if held is not None:
                due = min(due, now + max(0.0, held - time.time()))
            if self.reporter.is_clogged:
                due = min(due, now + _CLOGGED_PAUSE)
        return max(0.0, (due - now) * 1000) + 0.5

    def _fill(self) -> None:
        if not self.is_accepting or not self._ready or not self._crew.template_pid:
            return
        attempts, reporter, mean_seconds = self.attempts, self.reporter, self._expected_seconds()
        attempts.expect(mean_seconds)
        while attempts.room and not reporter.is_clogged:
            work = self._next_returned() or self.feed.get()
            if work is None:
                break
            attempts.start(work)
        self.feed.want(attempts.room, mean_seconds=mean_seconds)

    def _next_returned(self) -> PendingAttempt | None:
        while self._returned:
            work = self._returned.popleft()
            if not work.lease_lost:
                return work
        return None

    def _expected_seconds(self) -> float | None:
        """What the next tasks will take: as the last ones did, or as long as those that hold every slot already do."""
        return None if self._mean_seconds is None else max(self._mean_seconds, self.attempts.held_up)

    def _give_back_surplus(self) -> None:
        self.timers.later(_SURPLUS_INTERVAL, self._give_back_surplus)
        expected = self._expected_seconds()
        if not self.is_accepting or expected is None:
            return
        surplus = list(self.feed.surplus(expected))
        # What was taken back waits for a slot, too.
        if self.attempts.held_up + expected * len(self._returned) / self._settings.slots > _SURPLUS_INTERVAL:
            surplus += [work for work in self._returned if work.lease_id is not None and not work.lease_lost]
            self._returned = deque(work for work in self._returned if work.lease_id is None)
        if surplus:
            self.log.info(f"Giving back {len(surplus)} tasks that no slot will soon be free for")
            self._endings.release_unstarted(surplus)

    def _activity(self) -> Activity:
        attempts, reporter = self.attempts, self.reporter
        return Activity(
            is_accepting=self.is_accepting,
            is_busy=bool(attempts.count or reporter.is_clogged or reporter.problem),
            running=len(attempts.running),
            finished=self.finished,
            expected=self.feed.expected,
        )

    # -- attempts --------------------------------------------------------------------------------------------------

    def _on_message(self, message: Any) -> None:
        if type(message) is not Ready:
            self.attempts.on_message(message)
            return
        self._ready = not message.problem
        if message.problem:
            self.log.error(f"worker_init failed:\n{message.problem}")
            self.fail("worker_init failed", message.problem)

    def _on_begun(self, running: RunningAttempt) -> None:
        work = running.work
        self.report("task_started", task_id=work.task_id, attempt=work.attempt, slot=running.slot, pid=running.pid)
        if self._settings.reuse == 1 and (self._settings.log_tasks or self.log.verbose):
            self._log_task(f"Started single-task worker #{running.number} (PID {running.pid})")
            self._log_task(f"Worker #{running.number}: Started, processing task {work.task_id}")

    def _on_ended(self, running: RunningAttempt, outcome: Outcome, seconds: float, may_have_scratch: bool) -> None:
        if may_have_scratch and os.path.lexists(running.scratch):
            self._endings.remove_scratch(running.scratch)
        if self.attempts.count == 0:
            self._pulse.became_idle()
        verdict = self._endings.judge(running.work, outcome, seconds)
        if verdict.again is not None and not self.feed.again(verdict.again, verdict.delay):
            raise AssertionError("a feed that keeps nothing needs messages")
        self.reporter.put(verdict.report)
        if self._settings.log_tasks or self.log.verbose:
            for line in verdict.lines(running.number, seconds, is_alone=self._settings.reuse == 1):
                self._log_task(line)
        if outcome.kind is OutcomeKind.LOST:
            return
        self.finished += 1
        mean = self._mean_seconds
        self._mean_seconds = seconds if mean is None else mean * 0.9 + seconds * 0.1
        if outcome.kind in (OutcomeKind.COMPLETED, OutcomeKind.RETRY_REQUESTED, OutcomeKind.EXCEPTION):
            self._template_deaths = 0

    def _on_returned(self, works: Sequence[PendingAttempt]) -> None:
        if self.is_accepting:
            self._returned.extendleft(reversed(works))
        else:
            self._endings.release_unstarted(works)

    def _on_template_gone(self, status: int) -> None:
        self._ready = False
        self._template_deaths += 1
        lost = self.attempts.template_gone()
        self.log.warning(f"The template of the task processes died (status {status}); {lost} tasks were lost")
        if not self.is_accepting:
            return
        if not self._crew.can_make_templates:
            self.fail("template and zygote were killed: no task can be started any more", "")
        elif self._template_deaths > _MOST_TEMPLATE_DEATHS:
            self.fail("the template of the task processes dies again and again", "")
        else:
            self.report("non_fatal_exception", exception="the template of the task processes died")
            self._crew.make_template()

    # -- shutting down ---------------------------------------------------------------------------------------------

    def stop(self, reason: str, *, grace: float | None = None, code: int | None = None) -> None:
        """Take nothing new, give running tasks ``grace`` seconds (None: the grace period), release the rest."""
        if code is not None and self._code == Exit.DONE:
            self._code = code
        grace = self._settings.grace if grace is None else grace
        if self.is_accepting:
            self.is_accepting = False
            self.stop_reason = reason
            self._announcements.append(self._flags.set_shutdown_request)
            self.log.info(f"Shutting down: {reason}")
            running = self.attempts.count
            if running:
                self.log.info(f"Waiting up to {grace:g} seconds for {running} running tasks")
            self.attempts.withdraw()
            self._endings.release_unstarted([*self._returned, *self.feed.stop()])
            self._returned.clear()
        if grace > 0:
            self.timers.later(grace, lambda: self.attempts.end_all("shutdown"))
        else:
            self.attempts.end_all("shutdown")

    def fail(self, reason: str, trace: str) -> None:
        """Something essential failed: report it and end with an error."""
        self.log.error(f"Fatal: {reason}")
        self.report("fatal_exception", exception=reason, stack_trace=trace)
        self.stop(reason, grace=0.0, code=Exit.FAILED)

    def on_notice(self, reason: str, left: float | None) -> None:
        """The machine will be taken away; ``left``: seconds from now at which unfinished tasks are released."""
        self.log.warning(f"Termination notice: {reason}")
        self.report("spot_termination", reason=reason)
        self._announcements.append(self._flags.set_termination_notice)
        grace = self._settings.grace if left is None else min(left, self._settings.grace)
        self.stop("this machine will be taken away", grace=max(0.0, grace))

    def lost_leases(self, lease_ids: Sequence[str]) -> None:
        """These leases have ended early; what runs goes on, and its result is reported all the same."""
        gone = set(lease_ids)
        for work in [*(running.work for running in self.attempts.started), *self._returned]:
            if work.lease_id in gone:
                work.lease_lost = True
        self.feed.lost(lease_ids)

    # -- events and signals ----------------------------------------------------------------------------------------

    def report(self, kind: str, **facts: Any) -> None:
        """Report an event."""
        self.reporter.put(Report((self._events.make(kind, **facts),)))

    def _log_task(self, text: str) -> None:
        self.log.hold(text, level="INFO" if self._settings.log_tasks else "DEBUG")

    def _connect_signals(self) -> tuple[Any, ...]:
        wakeup = signal.set_wakeup_fd(self._alarm_in, warn_on_full_buffer=False)
        handlers = tuple(signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM))
        return (wakeup, *handlers)

    def _disconnect_signals(self, previous: tuple[Any, ...]) -> None:
        signal.set_wakeup_fd(previous[0])
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), previous[1:], strict=True):
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: Any) -> None:
        self._signals += 1
        code = Exit.INTERRUPTED if number == signal.SIGINT else Exit.TERMINATED
        name = signal.Signals(number).name
        if self._signals == 1:
            self._posted.append(lambda: self.stop(f"{name} was received", code=code))
        else:
            self._posted.append(lambda: self.stop(f"{name} was received again", grace=0.0, code=code))
