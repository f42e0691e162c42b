"""The event sink: attempts become spans and metrics, progress becomes metrics.

Invariants, each with a test:

1. Only background threads wait for the network, and `flush` and `close`, which have a time limit.
2. No failure of the receiver raises an error; undelivered spans are counted and logged at the end.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence

import structlog
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from cloud_tasks.model import Event, JobPhase, JobProgress
from cloud_tasks.plugin import EventSinkContext
from cloud_tasks_otel.metrics import Metrics
from cloud_tasks_otel.settings import OtelSettings
from cloud_tasks_otel.span_queue import SpanQueue
from cloud_tasks_otel.traces import OUTCOMES, Traces

__all__ = ["OtelSink"]

log = structlog.get_logger()

_FLUSH_SECONDS = 2.0

# The exporters log every attempt; this module logs changes only.
logging.getLogger("opentelemetry").addHandler(logging.NullHandler())


class _MetricExporter(OTLPMetricExporter):
    """Exporter that records whether the last export succeeded."""

    is_reached = True

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: object
    ) -> MetricExportResult:
        result = super().export(metrics_data, timeout_millis, **kwargs)
        self.is_reached = result is MetricExportResult.SUCCESS
        return result


class OtelSink:
    """Sink that sends metrics and traces of one job."""

    def __init__(self, settings: OtelSettings, context: EventSinkContext) -> None:
        self._timeout = settings.patience
        self._closed = False
        resource = _resource(context.job_id)
        self._spans: SpanQueue | None = None
        self._traces: Traces | None = None
        self._metrics: Metrics | None = None
        if settings.traces:
            self._spans = SpanQueue(OTLPSpanExporter(endpoint=_url(settings, "traces")), max_spans=settings.queue)
            self._traces = Traces(self._spans, resource, job_id=context.job_id, share=settings.trace_share)
        if settings.metrics:
            self._exporter = _MetricExporter(endpoint=_url(settings, "metrics"))
            reader = PeriodicExportingMetricReader(self._exporter)
            self._metrics = Metrics(reader, resource, job_id=context.job_id, dropped=lambda: self.dropped)

    @property
    def dropped(self) -> int:
        """Number of spans that were not delivered."""
        return self._spans.dropped if self._spans is not None else 0

    def write(self, events: Sequence[Event]) -> None:
        for event in events:
            if self._metrics is not None:
                self._metrics.add(event)
            if self._traces is not None and event.event_type in OUTCOMES:
                self._traces.add_attempt(event)

    def progress(self, progress: JobProgress) -> None:
        if self._metrics is not None:
            self._metrics.progress(progress)
        if self._traces is not None:
            self._traces.set_run(progress.run_id)
            if progress.phase is not JobPhase.RUNNING:
                self._traces.add_job(progress)

    def flush(self) -> None:
        """Wait briefly for spans to be sent; metrics are sent at their interval."""
        if self._spans is not None:
            self._spans.force_flush(round(_FLUSH_SECONDS * 1000))

    def close(self) -> None:
        """Send the remaining data within the time limit. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._spans is not None:
            self._spans.force_flush(round(self._timeout * 1000))
            self._spans.shutdown()
            if self.dropped:
                log.warning(f"OpenTelemetry: {self.dropped} spans were not delivered")
        if self._metrics is not None:
            # Collects and sends once more; the exporter may retry beyond the time limit.
            provider = self._metrics.provider
            last = threading.Thread(target=provider.shutdown, name="otel-metrics-end", daemon=True)
            last.start()
            last.join(self._timeout)
            if last.is_alive() or not self._exporter.is_reached:
                log.warning("OpenTelemetry: the last metrics were not delivered")


def _resource(job_id: str) -> Resource:
    """Return the resource attributes; the user's variables have precedence."""
    attributes = {"cloud_tasks.job.id": job_id}
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create(attributes if named else {**attributes, "service.name": "cloud-tasks"})


def _url(settings: OtelSettings, signal: str) -> str | None:
    """Return the URL of a signal, or None to use the environment."""
    return None if settings.endpoint is None else f"{settings.endpoint.rstrip('/')}/v1/{signal}"
