"""What follows from the end of an attempt: its events, the next attempt or none, the fate of its lease.

Invariants, each with a test:

1. Every attempt that was started gets exactly one event that ends it.
2. Attempts and losses are counted apart, and both are bounded; past them the task is reported dead.
3. A task whose lease was lost is neither sent nor given back, and no interruption makes it dead: the queue delivers it
   again. An attempt of it that would be retried ends as released, under the number that the next delivery has.
"""

from __future__ import annotations

import json
import os
import threading
import time
from _queue import SimpleQueue
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cloud_tasks.worker.consumers.attempt_types import PendingAttempt
from cloud_tasks.worker.reporting.event_encoder import EventEncoder
from cloud_tasks.worker.reporting.reporter import Report, Reporter
from cloud_tasks.worker.supervisor.outcome import Outcome, OutcomeKind
from cloud_tasks.worker.supervisor.retry_policy import RetryRules

if TYPE_CHECKING:
    from cloud_tasks.worker.reporting.log_upload import LogUploader

__all__ = ["Completion", "CompletionHandler"]

_EVENTS = {
    OutcomeKind.COMPLETED: "task_completed",
    OutcomeKind.RETRY_REQUESTED: "task_completed",
    OutcomeKind.EXCEPTION: "task_exception",
    OutcomeKind.EXITED: "task_exited",
    OutcomeKind.TIMED_OUT: "task_timed_out",
}
_SHOWN = 1000
"""Bytes of a result that the log shows."""
_CUT = 1000
"""Characters that stay of a text in an event that is too long."""


class Completion(NamedTuple):
    report: Report
    task_id: str
    outcome: Outcome
    retry: bool
    again: PendingAttempt | None = None
    """The next attempt, for a feed that keeps it; a queue's is in the report."""
    delay: float = 0.0

    def lines(self, number: int, elapsed: float, *, is_alone: bool) -> Iterator[str]:
        """What the log says of it; ``is_alone``: its process was for it alone."""
        outcome, who = self.outcome, f"Worker #{number}"
        if is_alone and outcome.kind in (OutcomeKind.COMPLETED, OutcomeKind.RETRY_REQUESTED):
            yield f"{who}: Completed task {self.task_id} in {elapsed:.2f} seconds, retry {self.retry}"
            yield f"{who}: Exiting"
        elif is_alone and outcome.kind is OutcomeKind.EXCEPTION:
            yield f"{who}: Task {self.task_id} raised {_what(outcome)} after {elapsed:.2f} seconds"
            yield f"{who}: Exiting"
        again = "with retry" if self.retry else "with no retry"
        start = f"{who} reported task {self.task_id}"
        if outcome.kind in (OutcomeKind.COMPLETED, OutcomeKind.RETRY_REQUESTED):
            result = outcome.result[:_SHOWN].decode("utf-8", "replace")
            text = json.loads(result) if len(result) < _SHOWN and result.startswith('"') else result
            yield f"{start} completed in {elapsed:.1f} seconds {again}; result: {text}"
        elif outcome.kind is OutcomeKind.EXCEPTION:
            yield f"{start} raised an exception in {elapsed:.1f} seconds {again}; {_what(outcome)}"
        elif outcome.kind is OutcomeKind.TIMED_OUT:
            yield f"{start} timed out in {elapsed:.1f} seconds {again}"
        elif outcome.kind is OutcomeKind.EXITED:
            cause = f"exit code {outcome.exit_code} ({outcome.details['cause']})"
            yield f"{start} exited in {elapsed:.1f} seconds {again}; {cause}"
        else:
            yield f"{start} unfinished after {elapsed:.1f} seconds; {outcome.details.get('cause', '')}"


class CompletionHandler:
    """Judges ends. Used by the supervisor's loop; the scratch folders are removed by a thread.

    Args:
        counts_deliveries: Whether the queue itself counts losses; None: there is no queue.
        max_event_bytes: Longer events have their texts cut.
        logs: Where what tasks printed is uploaded; None: it is not.
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
        self._scratch: SimpleQueue[str | None] = SimpleQueue()
        self._cleaner: threading.Thread | None = None

    def judge(self, work: PendingAttempt, outcome: Outcome, elapsed: float) -> Completion:
        """Return the consequences of an attempt's end."""
        if outcome.kind in (OutcomeKind.LOST, OutcomeKind.RELEASED):
            return self._lost(work, outcome, elapsed)
        if self._logs is not None:
            address = self._logs.put(work.task_id, work.attempt)
            if address is not None:
                outcome = outcome._replace(details={**outcome.details, "log_address": address})
        retry = outcome.kind is not OutcomeKind.COMPLETED and work.attempt < self._rules.attempts(outcome)
        if retry and work.lease_lost:
            return self._superseded(work, outcome, elapsed)
        events = []
        out_of_retries = not retry and outcome.kind is OutcomeKind.RETRY_REQUESTED
        if not out_of_retries:
            events.append(self._ending(work, outcome, elapsed, retry=retry))
        if not retry and outcome.kind is not OutcomeKind.COMPLETED and (work.attempt > 1 or out_of_retries):
            cause = f"attempt {work.attempt} was its last: {_cause(outcome)}"
            result = outcome.result if out_of_retries else b""
            events.append(self._dead(work, cause, elapsed, result=result))
        delay = self._rules.delay(outcome, work.attempt) if retry else 0.0
        return self._verdict(work, outcome, events, retry=retry, delay=delay, attempt=work.attempt + 1)

    def _lost(self, work: PendingAttempt, outcome: Outcome, elapsed: float) -> Completion:
        if work.lease_lost:
            return self._superseded(work, outcome, elapsed)
        losses = work.losses + 1
        events = [self._ending(work, outcome, elapsed, retry=None)]
        if outcome.kind is OutcomeKind.LOST and losses > self._rules.max_losses:
            events.append(self._dead(work, f"it was lost {losses} times", elapsed))
            return self._verdict(work, outcome, events, retry=False, delay=0.0, attempt=work.attempt)
        if work.lease_id is not None and self._counts_deliveries:
            report = Report(events, lease_id=work.lease_id, release=True)
            return Completion(report=report, task_id=work.task_id, outcome=outcome, retry=True)
        return self._verdict(work, outcome, events, retry=True, delay=0.0, attempt=work.attempt, losses=losses)

    def _superseded(self, work: PendingAttempt, outcome: Outcome, elapsed: float) -> Completion:
        event = self._ending(work, outcome, elapsed, retry=None)
        return Completion(report=Report((event,)), task_id=work.task_id, outcome=outcome, retry=True)

    def _verdict(
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
        lease_id = None if work.lease_lost else work.lease_id
        if work.lease_id is None:
            again = PendingAttempt(work.task_id, work.payload, attempt=attempt, losses=losses) if retry else None
            report = Report(events)
            return Completion(
                report=report, task_id=work.task_id, outcome=outcome, retry=retry, again=again, delay=delay
            )
        body = _next_body(work, attempt, losses, delay) if retry else None
        report = Report(events, lease_id=lease_id, next_body=body, delay=delay)
        return Completion(report=report, task_id=work.task_id, outcome=outcome, retry=retry, delay=delay)

    def _ending(self, work: PendingAttempt, outcome: Outcome, elapsed: float, *, retry: bool | None) -> bytes:
        """The event of an attempt's end; ``retry`` None: the attempt is released."""
        details: dict[str, Any] = dict(outcome.details)
        if work.lease_lost:
            details["lease_lost"] = True
            if retry is None:
                details.setdefault("cause", "its lease was lost")

        def make() -> bytes:
            return self._events.make(
                "task_released" if retry is None else _EVENTS[outcome.kind],
                task_id=work.task_id,
                attempt=work.attempt,
                retry=retry,
                elapsed=elapsed,
                result=b"" if retry is None else outcome.result,
                **details,
            )

        event = make()
        if self._max_event_bytes is not None and len(event) > self._max_event_bytes - 2:
            for name in ("log_tail", "stack_trace", "exception"):
                if isinstance(details.get(name), str):
                    details[name] = details[name][-_CUT:]
            event = make()
        return event

    def _dead(self, work: PendingAttempt, cause: str, elapsed: float | None, *, result: bytes = b"") -> bytes:
        return self._events.make(
            "task_dead",
            task_id=work.task_id,
            attempt=work.attempt,
            retry=False,
            elapsed=elapsed,
            result=result,
            cause=cause,
            losses=work.losses,
        )

    def dead_on_arrival(self, work: PendingAttempt) -> None:
        """A task that was lost too often before it came here."""
        event = self._dead(work, f"it was lost {work.losses} times", None)
        self._reporter.put(Report((event,), lease_id=work.lease_id))

    def malformed(self, lease_id: str, reason: str) -> None:
        """A message that is no task: said, and set aside."""
        event = self._events.make("non_fatal_exception", exception=f"a message of the task queue is {reason}")
        self._reporter.put(Report((event,), lease_id=lease_id))

    def release_unstarted(self, works: Sequence[PendingAttempt]) -> None:
        """Give back what was never begun. A queue that counts deliveries gets it anew: it is no loss."""
        for work in works:
            if work.lease_id is None or work.lease_lost:
                continue
            if self._counts_deliveries:
                delay = max(0.0, work.not_before - time.time())
                body = _next_body(work, work.attempt, work.losses, delay)
                self._reporter.put(Report((), lease_id=work.lease_id, next_body=body, delay=delay))
            else:
                self._reporter.put(Report((), lease_id=work.lease_id, release=True))

    def remove_scratch(self, path: str) -> None:
        if self._cleaner is None:
            self._cleaner = threading.Thread(target=self._clean, name="worker-scratch", daemon=True)
            self._cleaner.start()
        self._scratch.put(path)

    def close(self, scratch_root: str) -> None:
        """Remove all scratch folders."""
        if self._cleaner is not None:
            self._scratch.put(None)
            self._cleaner.join()
        if os.path.isdir(scratch_root):
            _remove(scratch_root)

    def _clean(self) -> None:
        for path in iter(self._scratch.get, None):
            _remove(path)


def _remove(path: str) -> None:
    import shutil

    shutil.rmtree(path, ignore_errors=True)


def _next_body(work: PendingAttempt, attempt: int, losses: int, delay: float) -> bytes:
    # Only a queue needs these, and they take a while to import.
    from cloud_tasks.convert import encode_task_message
    from cloud_tasks.model import TaskMessage

    not_before = time.time() + delay if delay > 0 else 0.0
    return encode_task_message(
        TaskMessage(task_id=work.task_id, data=work.data, attempt=attempt, losses=losses, not_before=not_before)
    )


def _cause(outcome: Outcome) -> str:
    if outcome.kind is OutcomeKind.RETRY_REQUESTED:
        return "it asked to be run again"
    if outcome.kind is OutcomeKind.EXCEPTION:
        return _what(outcome)
    return str(outcome.details.get("cause") or outcome.kind.value)


def _what(outcome: Outcome) -> str:
    return f"{outcome.details.get('exception_type')}: {outcome.details.get('exception')}"
