"""Attempts as spans of one trace per job.

Invariants, each with a test:

1. Identifiers are derived from job and event: resumed runs continue the job's trace, and a duplicate event repeats the
   same span.
2. Spans contain neither task data nor results.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags

from cloud_tasks.model import TASK_FINAL_EVENTS, Event, EventType, JobPhase, JobProgress, TaskStatus

__all__ = ["OUTCOMES", "Traces"]

OUTCOMES: Mapping[EventType, str] = {
    event_type: event_type.value.removeprefix("task_")
    for event_type in (*(TASK_FINAL_EVENTS - {EventType.TASK_DEAD}), EventType.TASK_RELEASED)
}
"""Outcomes of attempts by the event that ends them."""

_MAX_TEXT = 4000
"""Maximum length of a message or traceback, in characters; the end is kept."""


class _PresetIds(IdGenerator):
    """Generator of preset identifiers; spans are created by one thread at a time."""

    trace_id = 1
    span_id = 1

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


def _number(text: str, size: int) -> int:
    """Return a nonzero number of ``size`` bytes derived from a text."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:size], "big") or 1


class Traces:
    """Creates spans and passes them to a processor.

    Args:
        share: Share of tasks whose completed attempts become spans.
    """

    def __init__(self, processor: SpanProcessor, resource: Resource, *, job_id: str, share: float) -> None:
        self._job_id = job_id
        self._share = share
        self._ids = _PresetIds()
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False, id_generator=self._ids)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("cloud_tasks_otel")
        self.set_run("")

    def set_run(self, run_id: str) -> None:
        """Set the run, which identifies the trace; a resumed run has the same id."""
        self._trace_id = _number(f"{self._job_id}/{run_id}", 16)
        self._job_span_id = _number(f"job {self._job_id}/{run_id}", 8)
        # OTEL_TRACES_SAMPLER decides on the whole trace.
        sampled = (
            self._provider.sampler.should_sample(None, self._trace_id, "job").decision is Decision.RECORD_AND_SAMPLE
        )
        self._flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)

    def add_attempt(self, event: Event) -> None:
        """Add the span of a finished attempt."""
        outcome = OUTCOMES[event.event_type]
        if event.event_type is EventType.TASK_COMPLETED and not self._is_selected(event.task_id or ""):
            return
        parent = SpanContext(self._trace_id, self._job_span_id, is_remote=False, trace_flags=self._flags)
        self._ids.span_id = _number(event.event_id, 8)
        span = self._tracer.start_span(
            "attempt",
            context=trace.set_span_in_context(NonRecordingSpan(parent)),
            start_time=_nanoseconds(event.timestamp - timedelta(seconds=max(event.elapsed_time or 0.0, 0.0))),
            attributes=_attributes(
                {
                    "cloud_tasks.job.id": self._job_id,
                    "cloud_tasks.task.id": event.task_id,
                    "cloud_tasks.attempt": event.attempt,
                    "cloud_tasks.outcome": outcome,
                    "cloud_tasks.retry": event.retry,
                    "cloud_tasks.event.id": event.event_id,
                    "host.name": event.hostname or None,
                    "host.id": event.instance_id,
                    "process.exit.code": event.details.get("exit_code"),
                }
            ),
        )
        if event.event_type is not EventType.TASK_COMPLETED:
            message = _text(event.details.get("exception") or event.details.get("cause") or outcome)
            span.set_status(Status(StatusCode.ERROR, message))
        if event.event_type is EventType.TASK_EXCEPTION:
            facts = {
                "exception.type": event.details.get("exception_type"),
                "exception.message": event.details.get("exception"),
                "exception.stacktrace": event.details.get("stack_trace"),
            }
            texts = {name: _text(value) for name, value in facts.items() if value is not None}
            span.add_event("exception", attributes=texts, timestamp=_nanoseconds(event.timestamp))
        span.end(end_time=_nanoseconds(event.timestamp))

    def add_job(self, progress: JobProgress) -> None:
        """Add the span of the job up to now."""
        self._ids.trace_id, self._ids.span_id = self._trace_id, self._job_span_id
        span = self._tracer.start_span(
            "job",
            start_time=_nanoseconds(progress.created_at),
            attributes=_attributes(
                {
                    "cloud_tasks.job.id": progress.job_id,
                    "cloud_tasks.run.id": progress.run_id,
                    "cloud_tasks.phase": progress.phase.value,
                    "cloud_tasks.tasks": progress.total,
                    "cloud_tasks.tasks.completed": progress.counts.get(TaskStatus.COMPLETED, 0),
                    "cloud_tasks.tasks.failed": progress.failed,
                    "cloud_tasks.cost": float(progress.cost.usd),
                }
            ),
        )
        if progress.phase is JobPhase.ABORTED:
            span.set_status(Status(StatusCode.ERROR, _text(progress.reason)))
        span.end(end_time=_nanoseconds(progress.now))

    def _is_selected(self, task_id: str) -> bool:
        """Return whether the attempts of a task become spans: all of them, or none."""
        return _number(task_id, 8) < self._share * 2**64


def _attributes(values: Mapping[str, Any]) -> dict[str, str | bool | int | float]:
    """Return the values as valid attributes; events of other programs may contain invalid ones."""
    return {
        name: value
        if isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 2**63)
        else _text(value)
        for name, value in values.items()
        if value is not None
    }


def _text(value: object) -> str:
    return str(value).encode("utf-8", "replace").decode("utf-8")[-_MAX_TEXT:]


def _nanoseconds(moment: datetime) -> int:
    return max(0, round(moment.timestamp() * 1_000_000)) * 1000
