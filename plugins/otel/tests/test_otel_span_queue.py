"""The span queue: bounded, with an exact count of dropped spans and time limits."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import structlog
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from cloud_tasks.testing import eventually
from cloud_tasks_otel.span_queue import SpanQueue


class Exporter(SpanExporter):
    """Exporter that fails a number of times, then succeeds."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.names: list[str] = []
        self.tries = 0
        self.let_go = threading.Event()
        self.let_go.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.tries += 1
        self.let_go.wait(30)
        if self.failures:
            self.failures -= 1
            return SpanExportResult.FAILURE
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.let_go.set()


def end_spans(spans: SpanQueue, count: int) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(spans)
    tracer = provider.get_tracer("test")
    for number in range(count):
        tracer.start_span(f"span-{number}").end()


def test_spans_arrive_in_order() -> None:
    exporter = Exporter()
    spans = SpanQueue(exporter, max_spans=5000)
    end_spans(spans, 2000)
    assert spans.force_flush()
    spans.shutdown()
    spans.shutdown()
    assert exporter.names == [f"span-{number}" for number in range(2000)]
    assert spans.dropped == 0


def test_spans_beyond_the_limit_are_dropped_and_counted() -> None:
    exporter = Exporter()
    exporter.let_go.clear()
    spans = SpanQueue(exporter, max_spans=10)
    end_spans(spans, 1)
    eventually(lambda: exporter.tries == 1)
    end_spans(spans, 30)
    assert spans.dropped == 20
    assert not spans.force_flush(10)
    exporter.let_go.set()
    assert spans.force_flush()
    spans.shutdown()
    assert (len(exporter.names), spans.dropped) == (11, 20)


def test_outage_is_retried_and_logged_once() -> None:
    exporter = Exporter(failures=1)
    with structlog.testing.capture_logs() as logged:
        spans = SpanQueue(exporter, max_spans=10)
        end_spans(spans, 3)
        eventually(lambda: len(exporter.names) == 3)
        spans.shutdown()
    assert [line["log_level"] for line in logged] == ["warning", "info"]
    assert spans.dropped == 0


def test_batch_is_dropped_and_counted_after_the_retry_period() -> None:
    exporter = Exporter(failures=10**6)
    spans = SpanQueue(exporter, max_spans=10, retry_period=0.0)
    end_spans(spans, 3)
    eventually(lambda: spans.dropped == 3)
    assert exporter.tries >= 1
    spans.shutdown()
    assert spans.dropped == 3


def test_flush_returns_at_once_for_an_unreachable_receiver() -> None:
    exporter = Exporter(failures=10**6)
    spans = SpanQueue(exporter, max_spans=10)
    end_spans(spans, 3)
    eventually(lambda: exporter.tries == 1)
    assert not spans.force_flush(3_600_000)
    spans.shutdown()
    assert spans.dropped == 3


def test_spans_after_shutdown_are_counted_as_dropped() -> None:
    spans = SpanQueue(Exporter(), max_spans=10)
    spans.shutdown()
    end_spans(spans, 2)
    assert spans.dropped == 2


def test_exporter_that_raises_stops_no_later_span() -> None:
    class Raising(Exporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            if self.failures:
                self.failures -= 1
                raise RuntimeError("planted")
            return super().export(spans)

    exporter = Raising(failures=1)
    spans = SpanQueue(exporter, max_spans=100)
    end_spans(spans, 1)
    eventually(lambda: exporter.names == ["span-0"])
    spans.shutdown()
