"""Completion of attempts: the events of an end, the next attempt if there is one, ack or release of the lease.

Invariants, each with a test:

1. Every attempt that was started gets exactly one event that ends it.
2. Attempts and interrupted attempts are counted separately, and both are limited; past a limit the task is reported
   dead. A delay that grows with their number precedes the next, unless this worker shuts down. A failure without any
   retry uses up no limit: its task is not dead.
3. A task whose lease expired is neither sent nor released, and no interruption makes it dead: the queue delivers it
   again. An attempt of it that would be retried ends as released, under the number that the next delivery has.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cloud_tasks.worker.common.formatting import counted
from cloud_tasks.worker.consumers.attempt_types import PendingAttempt
from cloud_tasks.worker.reporting.event_encoder import EventEncoder
from cloud_tasks.worker.reporting.reporter import Report, Reporter
from cloud_tasks.worker.supervisor.execution.outcome import Outcome, OutcomeKind
from cloud_tasks.worker.supervisor.execution.retry_policy import RetryRules

if TYPE_CHECKING:
    from cloud_tasks.worker.reporting.log_upload import LogUploader

__all__ = ["Completion", "CompletionHandler"]

_EVENT_TYPES = {
    OutcomeKind.COMPLETED: "task_completed",
    OutcomeKind.RETRY_REQUESTED: "task_completed",
    OutcomeKind.EXCEPTION: "task_exception",
    OutcomeKind.EXITED: "task_exited",
    OutcomeKind.TIMED_OUT: "task_timed_out",
    OutcomeKind.LOST: "task_released",
    OutcomeKind.RELEASED: "task_released",
}
# A member of an enumeration takes long to look up, for code that runs once per task.
_COMPLETED, _RETRY_REQUESTED = OutcomeKind.COMPLETED, OutcomeKind.RETRY_REQUESTED
_LOST, _RELEASED = OutcomeKind.LOST, OutcomeKind.RELEASED
_Span = tuple[float | None, float | None]
"""Seconds that an attempt ran, and the Unix time of its end; None for an unknown duration, and for now."""
_MAX_BACKOFF_STEP = 3
"""Failure whose backoff is the longest after failures of the worker's own means: another worker may do better."""
_MIN_OWN_DELAY = 2.0
"""Minimum seconds before the next attempt after such a failure, so that other tasks come first."""
_TRUNCATED_CHARACTERS = 1000
"""Characters that are kept of each long text in an event that is too long."""


class Completion(NamedTuple):
    """Consequences of an attempt's end."""

    report: Report
    task_id: str
    outcome: Outcome
    retry: bool
    next: PendingAttempt | None = None
    """The next attempt, for a consumer that keeps it; with a queue it is in the report."""
    delay: float = 0.0
    """Seconds before the next attempt."""


class CompletionHandler:
    """Decides and reports what follows an attempt's end. Used in the supervisor's loop.

    Args:
        counts_deliveries: Whether the queue counts interrupted attempts itself; None without a queue.
        max_event_bytes: Size above which the texts in an event are truncated; None for no limit.
        logs: Uploads the output of tasks; None if it is not uploaded.
    """

    def __init__(
        self,
        rules: RetryRules,
        events: EventEncoder,
        reporter: Reporter,
        *,
        counts_deliveries: bool | None,
        max_event_bytes: int | None = None,
        logs: LogUploader | None = None,
    ) -> None:
        self._rules = rules
        self._events = events
        self._reporter = reporter
        self._counts_deliveries = counts_deliveries
        self._max_event_bytes = max_event_bytes
        self._logs = logs

    def complete(
        self, work: PendingAttempt, outcome: Outcome, elapsed: float, ended_at: float | None = None
    ) -> Completion:
        """Return the consequences of an attempt's end.

        Args:
            elapsed: Seconds that it ran.
            ended_at: Time of the end (Unix time); None for now.
        """
        kind, span = outcome.kind, (elapsed, ended_at)
        if kind is _LOST or kind is _RELEASED:
            return self._interrupted(work, outcome, span)
        if self._logs is not None:
            address = self._logs.put(work.task_id, work.attempt)
            if address is not None:
                outcome = outcome._replace(details={**outcome.details, "log_address": address})
        if kind is _COMPLETED:
            events = (self._end_event(work, outcome, span, retry=False),)
            return self._completion(work, outcome, events, retry=False, delay=0.0, attempt=work.attempt + 1)
        return self._unsuccessful(work, outcome, span)

    def _unsuccessful(self, work: PendingAttempt, outcome: Outcome, span: _Span) -> Completion:
        allowed = self._rules.attempts(outcome)
        retry = work.attempt < allowed
        if retry and work.lease_lost:
            return self._superseded(work, outcome, span)
        events = []
        out_of_retries = not retry and outcome.kind is _RETRY_REQUESTED
        if not out_of_retries:
            events.append(self._end_event(work, outcome, span, retry=retry))
        if not retry and (allowed > 1 or out_of_retries):
            cause = f"gave up after {counted(work.attempt, 'attempt')}: {_cause(outcome)}"
            result = outcome.result if out_of_retries else b""
            events.append(self._dead_event(work, cause, span, result=result))
        delay = self._rules.delay(outcome, work.attempt) if retry else 0.0
        return self._completion(work, outcome, events, retry=retry, delay=delay, attempt=work.attempt + 1)

    def _interrupted(self, work: PendingAttempt, outcome: Outcome, span: _Span) -> Completion:
        if work.lease_lost:
            return self._superseded(work, outcome, span)
        losses = work.losses + 1
        events = [self._end_event(work, outcome, span, retry=None)]
        if outcome.kind is _LOST and losses > self._rules.max_losses:
            cause = f"{_interruptions(losses)}: {_cause(outcome)}"
            events.append(self._dead_event(work, cause, span))
            return self._completion(work, outcome, events, retry=False, delay=0.0, attempt=work.attempt)
        # A worker that shuts down leaves the task to another one, which can run it at once.
        delay = (
            self._rules.interruption_delay(outcome, min(losses, _MAX_BACKOFF_STEP)) if outcome.kind is _LOST else 0.0
        )
        if outcome.own_failure:
            delay = max(_MIN_OWN_DELAY, delay)
        if work.lease_id is not None and self._counts_deliveries:
            report = Report(events, lease_id=work.lease_id, release=True, delay=delay)
            return Completion(report, work.task_id, outcome, True)
        return self._completion(work, outcome, events, retry=True, delay=delay, attempt=work.attempt, losses=losses)

    def _superseded(self, work: PendingAttempt, outcome: Outcome, span: _Span) -> Completion:
        """Return the completion of an attempt that the queue delivers again, because its lease expired."""
        event = self._end_event(work, outcome, span, retry=None)
        return Completion(Report((event,)), work.task_id, outcome, True)

    def _completion(
        self,
        work: PendingAttempt,
        outcome: Outcome,
        events: Sequence[bytes],
        *,
        retry: bool,
        delay: float,
        attempt: int,
        losses: int | None = None,
    ) -> Completion:
        losses = work.losses if losses is None else losses
        if work.lease_id is None:
            following = PendingAttempt(work.task_id, work.payload, attempt=attempt, losses=losses) if retry else None
            return Completion(Report(events), work.task_id, outcome, retry, following, delay)
        lease_id = None if work.lease_lost else work.lease_id
        body = _next_body(work, attempt, losses, delay) if retry else None
        report = Report(events, lease_id=lease_id, next_body=body, delay=delay)
        return Completion(report, work.task_id, outcome, retry, None, delay)

    def _end_event(self, work: PendingAttempt, outcome: Outcome, span: _Span, *, retry: bool | None) -> bytes:
        """Return the event of an attempt's end; ``retry`` None means that the attempt is released."""
        details: dict[str, Any] = dict(outcome.details)
        if work.lease_lost:
            details["lease_lost"] = True
            if retry is None:
                details.setdefault("cause", "the lease expired")
        event_type = _EVENT_TYPES[_RELEASED if retry is None else outcome.kind]
        result = b"" if retry is None else outcome.result
        event = self._encode(event_type, work, retry, span, result, details)
        if self._max_event_bytes is not None and len(event) > self._max_event_bytes - 2:
            for name in ("log_tail", "stack_trace", "exception"):
                if isinstance(details.get(name), str):
                    details[name] = details[name][-_TRUNCATED_CHARACTERS:]
            event = self._encode(event_type, work, retry, span, result, details)
        return event

    def _dead_event(self, work: PendingAttempt, cause: str, span: _Span, *, result: bytes = b"") -> bytes:
        details = {"cause": cause, "losses": work.losses}
        return self._encode("task_dead", work, False, span, result, details)

    def _encode(
        self,
        event_type: str,
        work: PendingAttempt,
        retry: bool | None,
        span: _Span,
        result: bytes,
        details: dict[str, Any],
    ) -> bytes:
        return self._events.encode(
            event_type,
            task_id=work.task_id,
            attempt=work.attempt,
            retry=retry,
            elapsed=span[0],
            at=span[1],
            result=result,
            **details,
        )

    def report_dead(self, work: PendingAttempt) -> None:
        """Report a task that was interrupted too often before it was received here."""
        event = self._dead_event(work, _interruptions(work.losses), (None, None))
        self._reporter.put(Report((event,), lease_id=work.lease_id))

    def report_malformed(self, lease_id: str, reason: str) -> None:
        """Report and ack a message of the task queue that is not a task."""
        event = self._events.encode("non_fatal_exception", exception=f"a message of the task queue is {reason}")
        self._reporter.put(Report((event,), lease_id=lease_id))

    def release_unstarted(self, attempts: Sequence[PendingAttempt]) -> None:
        """Release tasks that were not started, without counting an interrupted attempt.

        A queue that counts deliveries gets each of them as a new message.
        """
        for work in attempts:
            if work.lease_id is None or work.lease_lost:
                continue
            if self._counts_deliveries:
                delay = max(0.0, work.wait)
                body = _next_body(work, work.attempt, work.losses, delay)
                self._reporter.put(Report((), lease_id=work.lease_id, next_body=body, delay=delay))
            else:
                self._reporter.put(Report((), lease_id=work.lease_id, release=True))


def _next_body(work: PendingAttempt, attempt: int, losses: int, delay: float) -> bytes:
    # Imported here: only a queue needs them, and the import is slow.
    from cloud_tasks.convert import encode_task_message
    from cloud_tasks.model import TaskMessage

    not_before, limit = (time.time() + delay, round(delay, 3)) if delay > 0 else (0.0, None)
    return encode_task_message(
        TaskMessage(
            task_id=work.task_id, data=work.data, attempt=attempt, losses=losses, not_before=not_before, delay=limit
        )
    )


def _interruptions(count: int) -> str:
    return f"gave up after {counted(count, 'interrupted attempt')} (max_losses)"


def _cause(outcome: Outcome) -> str:
    if outcome.kind is _RETRY_REQUESTED:
        reason = str(outcome.details.get("reason") or "")
        # The reason that stands for a returned pair is a clause of its own.
        if outcome.notice is not None:
            return reason
        return f"the task requested a retry: {reason}" if reason else "the task requested a retry"
    if outcome.kind is OutcomeKind.EXCEPTION:
        return outcome.exception_text
    return str(outcome.details.get("cause") or outcome.kind.value)
