"""The supervisor: one loop that submits attempts and handles their ends; threads do whatever may block.

Invariants, each with a test:

1. Every task that was received is reported or released, whatever happens.
2. A shutdown receives no more tasks, gives running ones the grace period, releases the rest at once, flushes events.
   A drain does the same without a grace period: running tasks finish.
3. While reports pile up, no attempt is submitted.
4. Tasks of the queue that no slot will soon be free for are released, for other workers.
5. Running tasks see a shutdown request or termination notice only after the fork server has withdrawn its waiting
   attempts: the slot of a task that returns because of it is not used again.
6. A failure of the worker's own means ends no task: the attempt is given back, the worker pauses, and after ten such
   failures of different tasks in a row it releases its tasks and exits with code 1. The end of a function never counts.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cloud_tasks import exit_codes
from cloud_tasks.errors import InputError
from cloud_tasks.escape import terminal_line
from cloud_tasks.worker.common.formatting import counted, format_duration
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.common.os_errors import full_folder
from cloud_tasks.worker.common.shared_flags import SharedFlags
from cloud_tasks.worker.consumers.attempt_types import PendingAttempt, RunningAttempt
from cloud_tasks.worker.forkserver.protocol import Failed, Ready
from cloud_tasks.worker.reporting.event_encoder import EventEncoder
from cloud_tasks.worker.reporting.reporter import Report, Reporter
from cloud_tasks.worker.supervisor.event_loop import EventLoop
from cloud_tasks.worker.supervisor.execution.attempt_executor import AttemptExecutor
from cloud_tasks.worker.supervisor.execution.circuit_breaker import CircuitBreaker
from cloud_tasks.worker.supervisor.execution.completion import CompletionHandler
from cloud_tasks.worker.supervisor.execution.forkserver_client import ForkserverClient
from cloud_tasks.worker.supervisor.execution.outcome import Outcome, OutcomeKind
from cloud_tasks.worker.supervisor.periodic_tasks import Activity, PeriodicTasks
from cloud_tasks.worker.supervisor.settings import SupervisorSettings
from cloud_tasks.worker.supervisor.signal_handlers import handle_signals

if TYPE_CHECKING:
    import socket

    from cloud_tasks.worker.consumers.base import TaskConsumer
    from cloud_tasks.worker.worker_config import Command

__all__ = ["Supervisor", "SupervisorParts"]

_MAX_FORKSERVER_DEATHS = 20
"""Deaths of fork servers in a row, without a finished task in between, that the worker survives."""
_FORKSERVER_PAUSE = 0.1
"""Seconds before a dead fork server is replaced, for each death in a row after the first."""
_ROOM_INTERVAL = 10.0
"""Seconds between two checks of the room for the output of tasks."""
_CLOGGED_INTERVAL = 0.05
"""Seconds between two checks whether reports were sent, while no attempt is submitted because of them."""
_SURPLUS_INTERVAL = 2.0
"""Seconds between two checks for tasks that should go back to the queue."""
_MAX_NOTICES = 20
# A member of an enumeration takes long to look up, for code that runs once per task.
_COMPLETED, _LOST = OutcomeKind.COMPLETED, OutcomeKind.LOST
_RAN = frozenset({OutcomeKind.COMPLETED, OutcomeKind.RETRY_REQUESTED, OutcomeKind.EXCEPTION})

_UNUSABLE_DATA = (ValueError, TypeError, AttributeError)
"""Errors of data that is not a JSON object, with which the attempt fails."""


class SupervisorParts(NamedTuple):
    """The objects that a supervisor works with; created before it, closed after it."""

    loop: EventLoop
    zygote: socket.socket
    """Socket of the zygote, a child of this process."""
    consumer: TaskConsumer
    reporter: Reporter
    completion: CompletionHandler
    events: EventEncoder
    flags: SharedFlags
    log: Log


class Supervisor:
    """Runs the tasks of a consumer. Used in one thread; others call ``parts.loop.post``."""

    def __init__(self, settings: SupervisorSettings, parts: SupervisorParts) -> None:
        self._settings = settings
        self._parts = parts
        self._logs_tasks = settings.log_tasks or parts.log.verbose
        self._returned: deque[PendingAttempt] = deque()
        """Attempts that were submitted and returned, to be submitted again."""
        self._is_ready = False
        """Whether the fork server accepts attempts."""
        self._forkserver_deaths = 0
        self._forkserver_failure = ""
        """Error that the fork server reported before it died."""
        self._forkserver_losses = 0
        """Tasks that the deaths in a row interrupted."""
        self._breaker = CircuitBreaker()
        self._command = settings.command
        """The command, until it was checked with the first task."""
        self._mean_seconds: float | None = None
        self._is_accepting = True
        """Whether attempts are submitted."""
        self._is_shutting_down = False
        self._flag_updates: deque[Callable[[], None]] = deque()
        """Updates of the flags that running tasks see, held back by a withdrawal."""
        self._notices: set[str] = set()
        self._exit_code = exit_codes.COMPLETED
        self.stop_reason = ""
        """Reason of the shutdown; empty for none."""
        self.finished = 0
        """Number of attempts that have ended, without interrupted ones."""
        self.failed = 0
        """Number of tasks that failed without a further retry."""
        self._unsuccessful = 0
        """Number of attempts in `finished` that did not complete their task."""
        self._forkserver = ForkserverClient(
            parts.zygote,
            parts.loop,
            max_result_bytes=settings.max_result_bytes,
            on_message=self._on_message,
            on_forkserver_died=self._on_forkserver_died,
            on_zygote_died=lambda: parts.log.warning("The zygote died: the fork server cannot be restarted any more"),
        )
        self._executor = AttemptExecutor(
            settings,
            self._forkserver,
            parts.loop,
            on_started=self._on_started,
            on_ended=self._on_ended,
            on_returned=self._on_returned,
            on_start_failed=self._on_start_failed,
        )
        self._periodic = PeriodicTasks(
            settings,
            later=parts.loop.later,
            observe=self._activity,
            report=self.report,
            watch_memory=self._executor.watch_memory,
            stop=self.stop,
            drain=self.drain,
            log=parts.log,
        )

    # -- the loop --------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run until all tasks are finished or the worker is shut down; return the exit code."""
        parts = self._parts
        with handle_signals(parts.loop, self.stop):
            try:
                self._forkserver.start_forkserver()
                parts.consumer.start()
                self.report("worker_started", slots=self._settings.slots, pid=os.getpid())
                self._periodic.start()
                parts.loop.later(_SURPLUS_INTERVAL, self._release_surplus)
                parts.loop.later(_ROOM_INTERVAL, self._check_room)
                while not self._is_over():
                    self._run_once()
            finally:
                parts.log.flush()
        return self._exit_code

    @property
    def completed(self) -> int:
        """Number of tasks that completed."""
        return self.finished - self._unsuccessful

    def close(self) -> None:
        """End all processes."""
        self._executor.close()
        self._forkserver.close()

    def _is_over(self) -> bool:
        if self._executor.count or self._returned:
            return False
        return not self._is_accepting or self._parts.consumer.exhausted

    def _run_once(self) -> None:
        self._fill()
        self._parts.log.flush()
        self._executor.flush()
        self._forkserver.flush()
        self._parts.loop.run_once(self._timeout())
        self._executor.enforce_limits()
        while self._flag_updates and not self._executor.is_withdrawing:
            self._flag_updates.popleft()()

    def _timeout(self) -> float:
        """Return the seconds until something is due."""
        now, parts = time.monotonic(), self._parts
        due = min(now + 60.0, parts.loop.due_at, self._executor.due_at)
        if self._is_accepting and self._breaker.resume_at > now:
            due = min(due, self._breaker.resume_at)
        elif self._is_accepting and self._executor.capacity:
            task_due = parts.consumer.due_at
            if task_due is not None:
                due = min(due, task_due)
            if parts.reporter.is_clogged:
                due = min(due, now + _CLOGGED_INTERVAL)
        return max(0.0, due - now)

    def _fill(self) -> None:
        """Submit attempts while there is capacity."""
        if not self._is_accepting or not self._is_ready or not self._forkserver.is_connected:
            return
        if self._breaker.cause and time.monotonic() < self._breaker.resume_at:
            return
        executor, consumer, reporter = self._executor, self._parts.consumer, self._parts.reporter
        mean_seconds = self._expected_seconds()
        executor.expect(mean_seconds)
        while (capacity := executor.capacity) and not reporter.is_clogged:
            work = self._next_returned() if self._returned else None
            work = work or consumer.get()
            if work is None or (self._command is not None and not self._is_usable(self._command, work)):
                break
            executor.submit(work)
        consumer.request(capacity, mean_seconds=mean_seconds)

    def _is_usable(self, command: Command, first: PendingAttempt) -> bool:
        """Check the command with the first task; shut down if it cannot be used."""
        self._command = None
        try:
            command.check(first.task_id, first.data)
        except InputError as error:
            self._returned.append(first)
            self._parts.log.error(str(error))
            self.report("fatal_exception", exception=str(error), stack_trace="")
            self.stop(str(error), grace=0.0, code=exit_codes.BAD_INPUT)
            return False
        except _UNUSABLE_DATA:
            return True
        return True

    def _next_returned(self) -> PendingAttempt | None:
        while self._returned:
            work = self._returned.popleft()
            if not work.lease_lost:
                return work
        return None

    def _expected_seconds(self) -> float | None:
        """Return the expected duration of a task; None before the first has ended.

        It is the mean of the latest ones, or longer while every slot has been busy for longer.
        """
        return None if self._mean_seconds is None else max(self._mean_seconds, self._executor.busy_seconds)

    def _release_surplus(self) -> None:
        self._parts.loop.later(_SURPLUS_INTERVAL, self._release_surplus)
        expected = self._expected_seconds()
        if not self._is_accepting or expected is None:
            return
        surplus = list(self._parts.consumer.take_surplus(expected))
        # Returned attempts wait for a slot, too.
        if self._executor.busy_seconds + expected * len(self._returned) / self._settings.slots > _SURPLUS_INTERVAL:
            surplus += [work for work in self._returned if work.lease_id is not None and not work.lease_lost]
            self._returned = deque(work for work in self._returned if work.lease_id is None)
        if surplus:
            self._parts.log.info(f"Releasing {counted(len(surplus), 'task')} for other workers: no slot is free soon")
            self._parts.completion.release_unstarted(surplus)

    def _activity(self) -> Activity:
        executor, reporter = self._executor, self._parts.reporter
        return Activity(
            is_accepting=self._is_accepting,
            is_busy=bool(executor.count or self._returned or reporter.is_clogged or reporter.problem),
            running=len(executor.running),
            finished=self.finished,
            expected=self._parts.consumer.expected,
        )

    # -- attempts --------------------------------------------------------------------------------------------------

    def _on_message(self, message: Any) -> None:
        if type(message) is Failed:
            self._forkserver_failure = message.reason
            return
        if type(message) is not Ready:
            self._executor.on_message(message)
            return
        self._is_ready = not message.problem
        if message.problem:
            self._parts.log.error("worker_init failed:", block=message.problem)
            self.fail("worker_init failed", message.problem)

    def _on_started(self, attempt: RunningAttempt) -> None:
        work = attempt.work
        # The time at which the process started: its message arrives a few milliseconds later.
        at = time.time() - time.monotonic() + attempt.started
        self.report(
            "task_started", task_id=work.task_id, attempt=work.attempt, at=at, slot=attempt.slot, pid=attempt.pid
        )
        if self._settings.reuse == 1 and self._logs_tasks:
            self._log_task(f"Started single-task worker #{attempt.number} (PID {attempt.pid})")
            self._log_task(f"Worker #{attempt.number}: Started, processing task {work.task_id}")

    def _on_ended(self, attempt: RunningAttempt, outcome: Outcome, seconds: float, may_have_scratch: bool) -> None:
        parts, kind = self._parts, outcome.kind
        if may_have_scratch and os.path.lexists(attempt.scratch):
            parts.completion.remove_scratch(attempt.scratch)
        if self._executor.count == 0:
            self._periodic.became_idle()
        if self._settings.command is not None:
            outcome = _with_command(self._settings.command, attempt, outcome)
        ended_at = time.time() - time.monotonic() + attempt.started + seconds
        completion = parts.completion.complete(attempt.work, outcome, seconds, ended_at)
        if completion.next is not None and not parts.consumer.requeue(completion.next, completion.delay):
            raise AssertionError("a consumer that keeps no attempts needs messages")
        parts.reporter.put(completion.report)
        if self._logs_tasks:
            for line in completion.lines(attempt.number, seconds, is_alone=self._settings.reuse == 1):
                self._log_task(line)
        if kind is not _COMPLETED:
            self.failed += not completion.retry
            self._unsuccessful += kind is not _LOST
        if outcome.notice is not None:
            self._log_notice(attempt.work.task_id, *outcome.notice)
        if kind is _LOST:
            if outcome.own_failure:
                self._on_own_failure(outcome.details["cause"], counts=True, task_id=attempt.work.task_id)
            return
        self.finished += 1
        mean = self._mean_seconds
        self._mean_seconds = seconds if mean is None else mean * 0.9 + seconds * 0.1
        self._breaker.succeeded()
        if kind is _COMPLETED or kind in _RAN:
            self._forkserver_deaths = self._forkserver_losses = 0

    def _on_returned(self, works: Sequence[PendingAttempt]) -> None:
        if self._is_accepting:
            self._returned.extendleft(reversed(works))
        else:
            self._parts.completion.release_unstarted(works)

    def _on_start_failed(self, reason: str) -> None:
        # While tasks run, processes or files run short because of them.
        self._on_own_failure(reason, counts=not self._executor.running)

    def _on_own_failure(self, cause: str, *, counts: bool, task_id: str | None = None) -> None:
        """Pause after a failure of the worker's own means; end the worker after too many in a row."""
        breaker = self._breaker
        if breaker.failed(cause, counts=counts, task_id=task_id):
            self._parts.log.warning(f"{cause}; the task will run again, here or on another worker")
            self.report("non_fatal_exception", exception=cause)
        if breaker.is_open and self._is_accepting:
            reason = f"this machine failed {breaker.failures} times in a row, and no task ran: {cause}"
            self._report_fatal(reason, "")
            self.stop(reason, code=exit_codes.RUN_FAILED)

    def _check_room(self) -> None:
        """Warn once of a file system that takes no more output of tasks."""
        problem = full_folder(self._settings.folders)
        if not problem:
            self._parts.loop.later(_ROOM_INTERVAL, self._check_room)
            return
        self._parts.log.warning(f"The output of tasks may be lost: {problem}")
        self.report("non_fatal_exception", exception=f"the output of tasks may be lost: {problem}")

    def _on_forkserver_died(self, cause: str) -> None:
        self._is_ready = False
        self._forkserver_deaths += 1
        if self._forkserver_failure:
            cause, self._forkserver_failure = f"the fork server failed: {self._forkserver_failure}", ""
        interrupted = self._executor.on_forkserver_died(cause)
        self._forkserver_losses += interrupted
        self._parts.log.warning(f"{cause[:1].upper()}{cause[1:]}, which interrupted {counted(interrupted, 'task')}")
        if not self._is_accepting:
            return
        if not self._forkserver.can_start_forkserver:
            self.fail("the fork server and the zygote died, so that no task can be started", "")
        elif self._forkserver_deaths > _MAX_FORKSERVER_DEATHS:
            lost = counted(self._forkserver_losses, "task")
            self.fail(
                f"no fork server ran a task in {self._forkserver_deaths} starts ({lost} interrupted): {cause}", ""
            )
        else:
            self.report("non_fatal_exception", exception=cause)
            pause = _FORKSERVER_PAUSE * (self._forkserver_deaths - 1)
            self._parts.loop.later(pause, self._forkserver.start_forkserver)

    # -- shutdown --------------------------------------------------------------------------------------------------

    def stop(self, reason: str, *, grace: float | None = None, code: int | None = None) -> None:
        """Shut down: submit no more attempts, end running ones after the grace period, release the rest.

        Args:
            grace: Seconds that running tasks have; None for the configured grace period.
            code: Exit code of the worker, unless an earlier shutdown has set one.
        """
        executor, log = self._executor, self._parts.log
        if code is not None and self._exit_code == exit_codes.COMPLETED:
            self._exit_code = code
        grace = self._settings.grace if grace is None else grace
        if not self._is_shutting_down:
            self._is_shutting_down = True
            self.stop_reason = reason
            self._flag_updates.append(self._parts.flags.set_shutdown_request)
            executor.on_shutdown()
            log.info(f"Shutting down: {reason}")
            if executor.count:
                log.info(f"Waiting up to {format_duration(grace)} for {counted(executor.count, 'running task')}")
            self._stop_accepting()
        if grace > 0:
            self._parts.loop.later(grace, lambda: executor.end_all("shutdown"))
        else:
            executor.end_all("shutdown")

    def drain(self, reason: str) -> None:
        """Submit no more attempts and release the rest; the worker ends when the running ones have finished."""
        if self._is_accepting:
            self.stop_reason = reason
            self._parts.log.info(f"Draining: {reason}; {counted(self._executor.count, 'running task')}")
            self._stop_accepting()

    def _stop_accepting(self) -> None:
        if self._is_accepting:
            self._is_accepting = False
            self._executor.withdraw()
            self._parts.completion.release_unstarted([*self._returned, *self._parts.consumer.stop()])
            self._returned.clear()

    def fail(self, reason: str, trace: str) -> None:
        """Report a fatal error and shut down at once with exit code 1."""
        self._report_fatal(reason, trace)
        self.stop(reason, grace=0.0, code=exit_codes.RUN_FAILED)

    def _report_fatal(self, reason: str, trace: str) -> None:
        self._parts.log.error(f"Fatal: {reason}")
        self.report("fatal_exception", exception=reason, stack_trace=trace)

    def on_termination_notice(self, reason: str, seconds_left: float | None) -> None:
        """Shut down before the provider reclaims this instance.

        Args:
            seconds_left: Time until unfinished tasks have to be released; None if the notice names no time.
        """
        self._parts.log.warning(f"Termination notice: {reason}")
        self.report("spot_termination", reason=reason)
        self._flag_updates.append(self._parts.flags.set_termination_notice)
        grace = self._settings.grace if seconds_left is None else min(seconds_left, self._settings.grace)
        self.stop("the provider will reclaim this instance", grace=max(0.0, grace))

    def on_leases_lost(self, lease_ids: Sequence[str]) -> None:
        """Mark the attempts of expired leases. Running ones continue, and their results are reported."""
        lost = set(lease_ids)
        for work in [*(attempt.work for attempt in self._executor.unfinished), *self._returned]:
            if work.lease_id in lost:
                work.lease_lost = True
        self._parts.consumer.mark_leases_lost(lease_ids)

    # -- events and log --------------------------------------------------------------------------------------------

    def report(self, kind: str, **fields: Any) -> None:
        """Report an event."""
        self._parts.reporter.put(Report((self._parts.events.encode(kind, **fields),)))

    def _log_notice(self, task_id: str, kind: str, text: str) -> None:
        """Log the first warning of a kind about a result, so that it is known before all tasks have run."""
        if kind not in self._notices and len(self._notices) < _MAX_NOTICES:
            self._notices.add(kind)
            self._parts.log.warning(f"Task {terminal_line(task_id)}: {terminal_line(text)} (shown once)")

    def _log_task(self, text: str) -> None:
        self._parts.log.hold(text, level="INFO" if self._settings.log_tasks else "DEBUG")


def _with_command(command: Command, attempt: RunningAttempt, outcome: Outcome) -> Outcome:
    """Return the outcome with the command that the attempt ran, as a detail of its event."""
    work = attempt.work
    try:
        line = command.line(work.task_id, work.data, attempt=work.attempt, slot=attempt.slot, scratch=attempt.scratch)
    except _UNUSABLE_DATA:
        return outcome
    return outcome._replace(details={**outcome.details, "command": line}) if line else outcome
