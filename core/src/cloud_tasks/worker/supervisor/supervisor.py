"""The supervisor: one loop that submits attempts and handles their ends; threads do whatever may block.

Invariants, each with a test:

1. Every task that was received is reported or released, whatever happens.
2. A shutdown receives no more tasks, gives running ones the grace period, releases the rest at once, flushes events.
   It ends ``worker_init``, and a fork server that does not end its tasks. A drain does the same without a grace period:
   running tasks finish.
3. Running tasks see a shutdown request or termination notice only after the fork server has withdrawn its waiting
   attempts: the slot of a task that returns because of it is not used again.
4. A failure of the worker's own means ends no task: the attempt is given back, the worker pauses, and after ten such
   failures of different tasks in a row it releases its tasks and exits with code 1. The end of a function never counts.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cloud_tasks import exit_codes
from cloud_tasks.worker.common.formatting import counted, format_duration
from cloud_tasks.worker.consumers.attempt_types import UNUSABLE_DATA, RunningAttempt
from cloud_tasks.worker.forkserver.protocol import Failed, Ready
from cloud_tasks.worker.reporting.reporter import Report
from cloud_tasks.worker.supervisor.execution.attempt_executor import AttemptExecutor
from cloud_tasks.worker.supervisor.execution.circuit_breaker import CircuitBreaker
from cloud_tasks.worker.supervisor.execution.forkserver_client import ForkserverClient
from cloud_tasks.worker.supervisor.execution.outcome import Outcome, OutcomeKind
from cloud_tasks.worker.supervisor.execution.scratch_cleaner import ScratchCleaner
from cloud_tasks.worker.supervisor.parts import SupervisorParts
from cloud_tasks.worker.supervisor.periodic_tasks import Activity, PeriodicTasks
from cloud_tasks.worker.supervisor.settings import SupervisorSettings
from cloud_tasks.worker.supervisor.signal_handlers import handle_signals
from cloud_tasks.worker.supervisor.submitter import Submitter
from cloud_tasks.worker.supervisor.task_log import TaskLog

if TYPE_CHECKING:
    from cloud_tasks.worker.worker_config import Command

__all__ = ["Supervisor"]

_MAX_FORKSERVER_DEATHS = 20
"""Deaths of fork servers in a row, without a finished task in between, that the worker survives."""
_MAX_EARLY_DEATHS = 4
"""Such deaths before any task has started."""
_MAX_WAIT = 60.0
"""Seconds that the loop waits for an event at most."""
_END_TIMEOUT = 10.0
"""Seconds in which the fork server has to report the ends of tasks that it was to kill."""
_MIN_CLOSE = 5.0
"""Seconds that processes without a task have to exit, at least."""
_FORKSERVER_PAUSE = 0.1
"""Seconds before a dead fork server is replaced, for each death in a row after the first."""
# A member of an enumeration takes long to look up, for code that runs once per task.
_COMPLETED, _LOST = OutcomeKind.COMPLETED, OutcomeKind.LOST
_RAN = frozenset({OutcomeKind.COMPLETED, OutcomeKind.RETRY_REQUESTED, OutcomeKind.EXCEPTION})


class Supervisor:
    """Runs the tasks of a consumer. Used in one thread; others call ``parts.loop.post``."""

    def __init__(self, settings: SupervisorSettings, parts: SupervisorParts) -> None:
        self._settings = settings
        self._parts = parts
        self._task_log = TaskLog(settings, parts.log)
        self._scratch = ScratchCleaner(settings.scratch_root, parts.log.warning)
        self._forkserver_deaths = 0
        self._forkserver_failure = ""
        """Error that the fork server reported before it died."""
        self._has_started = False
        """Whether any task has started."""
        self._forkserver_interruptions = 0
        """Tasks that the deaths in a row interrupted."""
        self._breaker = CircuitBreaker()
        self._is_shutting_down = False
        self._is_ending = False
        """Whether a shutdown has ended running tasks."""
        self._end_at = float("inf")
        """Time at which a shutdown ends running tasks (`time.monotonic`); infinite for no shutdown."""
        self._flag_updates: deque[Callable[[], None]] = deque()
        """Updates of the flags that running tasks see, held back by a withdrawal."""
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
            secret_variables=settings.secret_variables,
            on_message=self._on_message,
            on_forkserver_died=self._on_forkserver_died,
            on_zygote_died=lambda: parts.log.warning("The zygote died: the fork server cannot be restarted any more"),
            on_problem=parts.log.warning,
        )
        self._executor = AttemptExecutor(
            settings,
            self._forkserver,
            parts.loop,
            parts.flags,
            on_started=self._on_started,
            on_ended=self._on_ended,
            on_returned=lambda attempts: self._submitter.submit_again(attempts),
            on_start_failed=self._on_start_failed,
        )
        self._submitter = Submitter(
            settings,
            parts,
            forkserver=self._forkserver,
            executor=self._executor,
            breaker=self._breaker,
            on_unusable_command=self._on_unusable_command,
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
                self._scratch.create()
                self._forkserver.start_forkserver()
                self._submitter.start()
                steps = {"start_steps": self._settings.start_steps} if self._settings.start_steps else {}
                self.report("worker_started", slots=self._settings.slots, pid=os.getpid(), **steps)
                self._periodic.start()
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
        """End all processes, and remove their scratch folders."""
        try:
            self._executor.close()
            self._forkserver.close(max(_MIN_CLOSE, self._end_at - time.monotonic()))
        finally:
            self._scratch.close()

    def _is_over(self) -> bool:
        return not self._executor.count and self._submitter.is_done

    def _run_once(self) -> None:
        self._submitter.submit()
        self._parts.log.flush()
        self._executor.flush()
        self._forkserver.flush()
        self._parts.loop.run_once(self._timeout())
        self._executor.enforce_limits()
        while self._flag_updates and not self._executor.is_withdrawing:
            self._flag_updates.popleft()()

    def _timeout(self) -> float:
        """Return the seconds until something is due."""
        due = min(self._parts.loop.due_at, self._executor.due_at, self._submitter.due_at)
        return min(max(0.0, due - time.monotonic()), _MAX_WAIT)

    def _activity(self) -> Activity:
        executor, reporter, consumer = self._executor, self._parts.reporter, self._parts.consumer
        return Activity(
            is_accepting=self._submitter.is_accepting,
            is_busy=bool(
                executor.count
                or self._submitter.has_returned
                or reporter.is_clogged
                or reporter.problem
                or consumer.is_refused
            ),
            running=len(executor.running),
            finished=self.finished,
            expected=consumer.expected,
        )

    # -- attempts --------------------------------------------------------------------------------------------------

    def _on_message(self, message: Any) -> None:
        if type(message) is Failed:
            self._forkserver_failure = message.reason
            return
        if type(message) is not Ready:
            self._executor.on_message(message)
            return
        self._submitter.is_ready = not message.problem
        if message.problem:
            self._parts.log.error("worker_init failed:", block=message.problem)
            self.fail("worker_init failed", message.problem)

    def _on_started(self, attempt: RunningAttempt) -> None:
        work = attempt.work
        self._has_started = True
        # The time at which the process started: its message arrives a few milliseconds later.
        at = time.time() - time.monotonic() + attempt.started
        self.report(
            "task_started", task_id=work.task_id, attempt=work.attempt, at=at, slot=attempt.slot, pid=attempt.pid
        )
        if self._task_log.is_enabled:
            self._task_log.started(attempt)

    def _on_ended(self, attempt: RunningAttempt, outcome: Outcome, seconds: float, may_have_scratch: bool) -> None:
        parts, kind = self._parts, outcome.kind
        if may_have_scratch and os.path.lexists(attempt.scratch):
            self._scratch.remove(attempt.scratch)
        if self._executor.count == 0:
            self._periodic.became_idle()
        if self._settings.command is not None:
            outcome = _with_command(self._settings.command, attempt, outcome)
        ended_at = time.time() - time.monotonic() + attempt.started + seconds
        completion = parts.completion.complete(attempt.work, outcome, seconds, ended_at)
        if completion.next is not None and not parts.consumer.requeue(completion.next, completion.delay):
            raise AssertionError("a consumer that keeps no attempts needs messages")
        parts.reporter.put(completion.report)
        if self._task_log.is_enabled:
            self._task_log.ended(completion, attempt.number, seconds)
        if kind is not _COMPLETED:
            self.failed += not completion.retry
            self._unsuccessful += kind is not _LOST
        if outcome.notice is not None:
            self._task_log.notice(attempt.work.task_id, *outcome.notice)
        if kind is _LOST:
            if outcome.own_failure:
                self._on_own_failure(outcome.details["cause"], counts=True, task_id=attempt.work.task_id)
            return
        self.finished += 1
        self._submitter.ran(seconds)
        self._breaker.succeeded()
        if kind is _COMPLETED or kind in _RAN:
            self._forkserver_deaths = self._forkserver_interruptions = 0

    def _on_start_failed(self, reason: str) -> None:
        # While tasks run, processes or files run short because of them.
        self._on_own_failure(reason, counts=not self._executor.running)

    def _on_own_failure(self, cause: str, *, counts: bool, task_id: str | None = None) -> None:
        """Pause after a failure of the worker's own means; end the worker after too many in a row."""
        breaker = self._breaker
        if breaker.failed(cause, counts=counts, task_id=task_id):
            self._parts.log.warning(f"{cause}; the task will run again, here or on another worker")
            self.report("non_fatal_exception", exception=cause)
        if breaker.is_open and self._submitter.is_accepting:
            reason = f"this machine failed {breaker.failures} times in a row, and no task ran: {cause}"
            self._report_fatal(reason, "")
            self.stop(reason, code=exit_codes.RUN_FAILED)

    def _on_forkserver_died(self, cause: str) -> None:
        self._submitter.is_ready = False
        self._forkserver_deaths += 1
        if self._forkserver_failure:
            cause, self._forkserver_failure = f"the fork server failed: {self._forkserver_failure}", ""
        interrupted = self._executor.on_forkserver_died(cause)
        self._forkserver_interruptions += interrupted
        self._parts.log.warning(f"{cause[:1].upper()}{cause[1:]}, which interrupted {counted(interrupted, 'task')}")
        if not self._submitter.is_accepting:
            return
        if not self._forkserver.can_start_forkserver:
            self.fail("the fork server and the zygote died, so that no task can be started", "")
        elif self._forkserver_deaths > (_MAX_FORKSERVER_DEATHS if self._has_started else _MAX_EARLY_DEATHS):
            lost = counted(self._forkserver_interruptions, "task")
            hint = "" if self._has_started else "; check worker_init, which runs there"
            self.fail(
                f"no fork server ran a task in {self._forkserver_deaths} starts ({lost} interrupted): {cause}{hint}", ""
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
        self._end_at = min(self._end_at, time.monotonic() + grace)
        if grace > 0:
            self._parts.loop.later(grace, self._end_running)
        else:
            self._end_running()

    def _end_running(self) -> None:
        self._executor.end_all("shutdown")
        if not self._is_ending:
            self._is_ending = True
            self._parts.loop.later(_END_TIMEOUT, self._end_forkserver)

    def _end_forkserver(self) -> None:
        """Kill a fork server that has not ended its tasks."""
        if not self._executor.count:
            return
        self._parts.log.warning("The fork server does not end its tasks; it will be killed")
        self._forkserver.kill()
        self._parts.loop.later(_END_TIMEOUT, self._end_forkserver)

    def drain(self, reason: str) -> None:
        """Submit no more attempts and release the rest; the worker ends when the running ones have finished."""
        if self._submitter.is_accepting:
            self.stop_reason = reason
            self._parts.log.info(f"Draining: {reason}; {counted(self._executor.count, 'running task')}")
            self._stop_accepting()

    def _stop_accepting(self) -> None:
        if self._submitter.is_accepting:
            self._submitter.is_accepting = False
            self._executor.withdraw()
            self._submitter.release_unstarted()

    def _on_unusable_command(self, error: str) -> None:
        self._parts.log.error(error)
        self.report("fatal_exception", exception=error, stack_trace="")
        self.stop(error, grace=0.0, code=exit_codes.BAD_INPUT)

    def fail(self, reason: str, trace: str) -> None:
        """Report a fatal error and shut down at once with exit code 1."""
        self._report_fatal(reason, trace)
        self.stop(reason, grace=0.0, code=exit_codes.RUN_FAILED)

    def _report_fatal(self, reason: str, trace: str) -> None:
        self._parts.log.error(f"Fatal: {reason}")
        self.report("fatal_exception", exception=reason, stack_trace=trace)

    def on_queue_refused(self, reason: str) -> None:
        """Report that a queue refuses this worker; finish the running tasks and end with exit code 1."""
        if self._submitter.is_accepting:
            self._report_fatal(reason, "")
            if self._exit_code == exit_codes.COMPLETED:
                self._exit_code = exit_codes.RUN_FAILED
            self.drain(reason)

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
        for attempt in self._executor.unfinished:
            if attempt.work.lease_id in lost:
                attempt.work.lease_lost = True
        self._submitter.mark_leases_lost(lease_ids)

    # -- events and log --------------------------------------------------------------------------------------------

    def report(self, kind: str, **fields: Any) -> None:
        """Report an event."""
        self._parts.reporter.put(Report((self._parts.events.encode(kind, **fields),)))


def _with_command(command: Command, attempt: RunningAttempt, outcome: Outcome) -> Outcome:
    """Return the outcome with the command that the attempt ran, as a detail of its event."""
    work = attempt.work
    try:
        line = command.line(work.task_id, work.data, attempt=work.attempt, slot=attempt.slot, scratch=attempt.scratch)
    except UNUSABLE_DATA:
        return outcome
    return outcome._replace(details={**outcome.details, "command": line}) if line else outcome
