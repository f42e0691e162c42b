"""Registration of the event sink; imports nothing that other commands would pay for."""

from __future__ import annotations

from collections.abc import Sequence

from cloud_tasks.plugin import EventSinkBackend, hookimpl
from cloud_tasks_otel.settings import OtelSettings

__all__ = ["cloud_tasks_register_event_sink"]


@hookimpl
def cloud_tasks_register_event_sink() -> Sequence[EventSinkBackend]:
    """Metrics and traces by OTLP."""
    return (
        EventSinkBackend(
            name="otel",
            summary="send metrics and traces by OpenTelemetry (OTLP)",
            settings=OtelSettings,
            open="cloud_tasks_otel.sink:OtelSink",
        ),
    )
