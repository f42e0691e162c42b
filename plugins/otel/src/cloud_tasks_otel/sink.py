"""The event sink: attempts become spans and figures, and how the job stands becomes figures.

Invariants, each with a test:

1. Nothing here waits for the network but threads of its own, and `flush` and `close`, which have their patience.
2. Nothing here fails because of the receiver; what it did not get is counted and told at the end.
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
from cloud_tasks_otel.lane import SpanLane
from cloud_tasks_otel.metrics import Metrics
from cloud_tasks_otel.settings import OtelSettings
from cloud_tasks_otel.traces import OUTCOMES, Traces

__all__ = ["OtelSink"]

log = structlog.get_logger()

_FLUSH_SECONDS = 2.0

# What its exporters log of each try is said here in one line each time that it changes.
logging.getLogger("opentelemetry").addHandler(logging.NullHandler())


class _MetricExporter(OTLPMetricExporter):
    """Knows whether the last figures arrived."""

    is_reached = True

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: object
    ) -> MetricExportResult:
        result = super().export(metrics_data, timeout_millis, **kwargs)
        self.is_reached = result is MetricExportResult.SUCCESS
        return result


class OtelSink:
    """Sends metrics and traces of one job."""

    def __init__(self, settings: OtelSettings, context: EventSinkContext) -> None:
        self._patience = settings.patience
        self._closed = False
        resource = _resource(context.job_id)
        self._lane: SpanLane | None = None
        self._traces: Traces | None = None
        self._metrics: Metrics | None = None
        if settings.traces:
            self._lane = SpanLane(OTLPSpanExporter(endpoint=_url(settings, "traces")), most=settings.queue)
            self._traces = Traces(self._lane, resource, job_id=context.job_id, share=settings.trace_share)
        if settings.metrics:
            self._exporter = _MetricExporter(endpoint=_url(settings, "metrics"))
            reader = PeriodicExportingMetricReader(self._exporter)
            self._metrics = Metrics(reader, resource, job_id=context.job_id, dropped=lambda: self.dropped)

    @property
    def dropped(self) -> int:
        """Spans that the receiver never got."""
        return self._lane.dropped if self._lane is not None else 0

    def write(self, events: Sequence[Event]) -> None:
        for event in events:
            if self._metrics is not None:
                self._metrics.take(event)
            if self._traces is not None and event.event_type in OUTCOMES:
                self._traces.add_attempt(event)

    def progress(self, progress: JobProgress) -> None:
        if self._metrics is not None:
            self._metrics.progress(progress)
        if self._traces is not None:
            self._traces.name_run(progress.run_id)
            if progress.phase is not JobPhase.RUNNING:
                self._traces.add_job(progress)

    def flush(self) -> None:
        """Wait a moment for spans to be sent; metrics are sent at their interval."""
        if self._lane is not None:
            self._lane.force_flush(round(_FLUSH_SECONDS * 1000))

    def close(self) -> None:
        """Send the last, as long as the patience lasts; does nothing the second time."""
        if self._closed:
            return
        self._closed = True
        if self._lane is not None:
            self._lane.force_flush(round(self._patience * 1000))
            self._lane.shutdown()
            if self.dropped:
                log.warning(f"OpenTelemetry: the receiver did not get {self.dropped} spans")
        if self._metrics is not None:
            # Collects and sends once more; the exporter may try for longer than our patience lasts.
            provider = self._metrics.provider
            last = threading.Thread(target=provider.shutdown, name="otel-metrics-end", daemon=True)
            last.start()
            last.join(self._patience)
            if last.is_alive() or not self._exporter.is_reached:
                log.warning("OpenTelemetry: the receiver did not get the last metrics")


def _resource(job_id: str) -> Resource:
    """Who says so; the user's own variables win."""
    ours = {"cloud_tasks.job.id": job_id}
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create(ours if named else {**ours, "service.name": "cloud-tasks"})


def _url(settings: OtelSettings, signal: str) -> str | None:
    """Where a signal goes; None: the exporter looks at the environment."""
    return None if settings.endpoint is None else f"{settings.endpoint.rstrip('/')}/v1/{signal}"
