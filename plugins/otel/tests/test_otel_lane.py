"""The lane that sends spans: bounded, exact about what it dropped, and with an end to all waiting."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import structlog
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from cloud_tasks.testing import eventually
from cloud_tasks_otel.lane import SpanLane


class Exporter(SpanExporter):
    """Takes spans, or fails so often before."""

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


def end_spans(lane: SpanLane, count: int) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(lane)
    tracer = provider.get_tracer("test")
    for number in range(count):
        tracer.start_span(f"span-{number}").end()


def test_all_spans_arrive_in_order() -> None:
    exporter = Exporter()
    lane = SpanLane(exporter, most=5000)
    end_spans(lane, 2000)
    assert lane.force_flush()
    lane.shutdown()
    lane.shutdown()
    assert exporter.names == [f"span-{number}" for number in range(2000)]
    assert lane.dropped == 0


def test_what_does_not_fit_is_dropped_and_counted() -> None:
    exporter = Exporter()
    exporter.let_go.clear()
    lane = SpanLane(exporter, most=10)
    end_spans(lane, 1)
    eventually(lambda: exporter.tries == 1)
    end_spans(lane, 30)
    assert lane.dropped == 20
    assert not lane.force_flush(10)
    exporter.let_go.set()
    assert lane.force_flush()
    lane.shutdown()
    assert (len(exporter.names), lane.dropped) == (11, 20)


def test_an_outage_is_waited_out_and_told_once() -> None:
    exporter = Exporter(failures=1)
    with structlog.testing.capture_logs() as logged:
        lane = SpanLane(exporter, most=10)
        end_spans(lane, 3)
        eventually(lambda: len(exporter.names) == 3)
        lane.shutdown()
    assert [line["log_level"] for line in logged] == ["warning", "info"]
    assert lane.dropped == 0


def test_a_batch_that_is_never_taken_is_given_up_and_counted() -> None:
    exporter = Exporter(failures=10**6)
    lane = SpanLane(exporter, most=10, persistence=0.0)
    end_spans(lane, 3)
    eventually(lambda: lane.dropped == 3)
    assert exporter.tries >= 1
    lane.shutdown()
    assert lane.dropped == 3


def test_nobody_waits_for_a_receiver_that_is_away() -> None:
    exporter = Exporter(failures=10**6)
    lane = SpanLane(exporter, most=10)
    end_spans(lane, 3)
    eventually(lambda: exporter.tries == 1)
    assert not lane.force_flush(3_600_000)
    lane.shutdown()
    assert lane.dropped == 3


def test_after_the_end_spans_are_counted_as_dropped() -> None:
    lane = SpanLane(Exporter(), most=10)
    lane.shutdown()
    end_spans(lane, 2)
    assert lane.dropped == 2
