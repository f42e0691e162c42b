"""Metrics and traces as received over OTLP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
import structlog

from cloud_tasks.model import Event, EventType, JobPhase, JobProgress, Money, TaskStatus
from cloud_tasks.plugin import EventSinkContext
from cloud_tasks.testing import EventSinkContract, EventSinkSubject, eventually
from cloud_tasks_otel.plugin import cloud_tasks_register_event_sink
from cloud_tasks_otel.settings import OtelSettings
from cloud_tasks_otel.sink import OtelSink

(BACKEND,) = cloud_tasks_register_event_sink()
BEGAN = datetime(2026, 1, 2, 3, tzinfo=UTC)


class TestOtel(EventSinkContract):
    @pytest.fixture
    def subject(self, receiver: Any) -> EventSinkSubject:
        return EventSinkSubject(
            backend=BACKEND,
            settings=OtelSettings(endpoint=receiver.address),
            read_back=lambda: (),
            keeps_no_events="a trace is made of attempts, a metric of sums",
        )


def sink_of(receiver: Any, **settings: Any) -> OtelSink:
    return OtelSink(OtelSettings(endpoint=receiver.address, **settings), EventSinkContext(job_id="sums"))


def ended(number: int, kind: EventType = EventType.TASK_COMPLETED, *, elapsed: float = 2.0, **facts: Any) -> Event:
    details = {name: facts.pop(name) for name in list(facts) if name not in ("retry", "attempt", "task_id")}
    values: dict[str, Any] = {"task_id": f"task-{number}", "attempt": 1, "retry": False, **facts}
    return Event(
        event_id=f"e{number}",
        event_type=kind,
        timestamp=BEGAN + timedelta(seconds=number, microseconds=123_456),
        hostname="host-a",
        instance_id="i-1",
        elapsed_time=elapsed,
        details=details,
        **values,
    )


def job_progress(phase: JobPhase = JobPhase.RUNNING, **facts: Any) -> JobProgress:
    return JobProgress(
        job_id="sums",
        run_id="run",
        now=BEGAN + timedelta(hours=1),
        created_at=BEGAN,
        started_at=BEGAN,
        phase=phase,
        counts={TaskStatus.COMPLETED: 3, TaskStatus.FAILED: 1, TaskStatus.QUEUED: 0},
        **facts,
    )


def facts_of(span: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}


# Traces


def test_attempt_is_a_span_below_the_job_span(receiver: Any) -> None:
    sink = sink_of(receiver)
    sink.progress(job_progress())
    sink.write([ended(1, result={"sum": "very private"})])
    sink.progress(job_progress(JobPhase.COMPLETE, cost=Money("0.27")))
    sink.close()
    sink.close()
    attempt, job = receiver.span(cloud_tasks__task__id="task-1"), receiver.span(cloud_tasks__phase="complete")
    assert (attempt.name, job.name) == ("attempt", "job")
    assert (attempt.trace_id, attempt.parent_span_id, job.parent_span_id) == (job.trace_id, job.span_id, b"")
    end = int((BEGAN + timedelta(seconds=1)).timestamp()) * 10**9 + 123_456_000
    assert (attempt.start_time_unix_nano, attempt.end_time_unix_nano) == (end - 2 * 10**9, end)
    assert facts_of(attempt) == {
        "cloud_tasks.job.id": "sums",
        "cloud_tasks.task.id": "task-1",
        "cloud_tasks.attempt": 1,
        "cloud_tasks.outcome": "completed",
        "cloud_tasks.retry": False,
        "cloud_tasks.event.id": "e1",
        "host.name": "host-a",
        "host.id": "i-1",
    }
    assert job.end_time_unix_nano - job.start_time_unix_nano == 3600 * 10**9
    assert (facts_of(job)["cloud_tasks.tasks"], facts_of(job)["cloud_tasks.tasks.failed"]) == (4, 1)
    assert facts_of(job)["cloud_tasks.cost"] == 0.27
    assert "very private" not in str(receiver.spans)


def test_span_of_a_failed_attempt_has_the_exception(receiver: Any) -> None:
    sink = sink_of(receiver)
    trouble: dict[str, Any] = {
        "exception_type": "ValueError",
        "exception": "bad",
        "stack_trace": "x" * 5000 + "the end",
    }
    sink.write(
        [
            ended(1, EventType.TASK_EXCEPTION, retry=True, **trouble),
            ended(2, EventType.TASK_EXITED, exit_code=3),
            ended(3, EventType.TASK_RELEASED, cause="preempted"),
            ended(4, EventType.TASK_TIMED_OUT),
        ]
    )
    sink.close()
    failed = receiver.span(cloud_tasks__outcome="exception", cloud_tasks__retry=True)
    (exception,) = failed.events
    found = facts_of(exception)
    assert (exception.name, found["exception.type"], found["exception.message"]) == ("exception", "ValueError", "bad")
    assert found["exception.stacktrace"] == ("x" * 5000 + "the end")[-4000:]
    error = 2
    assert (failed.status.code, failed.status.message) == (error, "bad")
    assert facts_of(receiver.span(cloud_tasks__outcome="exited"))["process.exit.code"] == 3
    assert receiver.span(cloud_tasks__outcome="released").status.message == "preempted"
    assert receiver.span(cloud_tasks__outcome="timed_out").status.code == error


def test_other_events_create_no_span(receiver: Any) -> None:
    sink = sink_of(receiver)
    kinds = (EventType.TASK_STARTED, EventType.TASK_DEAD, EventType.KEEP_ALIVE, EventType.WORKER_STOPPED)
    sink.write([ended(number, kind) for number, kind in enumerate(kinds)])
    sink.close()
    assert receiver.spans == []


def test_resumed_run_keeps_its_trace_and_a_duplicate_event_its_span(receiver: Any) -> None:
    for phase in (JobPhase.STOPPED, JobPhase.COMPLETE):
        sink = sink_of(receiver)
        sink.progress(job_progress())
        sink.write([ended(1)])
        sink.progress(job_progress(phase))
        sink.close()
    attempts = [span for span in receiver.spans if span.name == "attempt"]
    jobs = [span for span in receiver.spans if span.name == "job"]
    assert (len(attempts), len(jobs)) == (2, 2)
    assert len({span.trace_id for span in receiver.spans}) == 1
    assert len({span.span_id for span in attempts}) == len({span.span_id for span in jobs}) == 1
    other = sink_of(receiver)
    other.progress(attrs.evolve(job_progress(), run_id="another"))
    other.write([ended(1)])
    other.close()
    assert len({span.trace_id for span in receiver.spans}) == 2


def test_trace_share_samples_tasks_and_keeps_failed_attempts(receiver: Any) -> None:
    sink = sink_of(receiver, trace_share=0.25)
    sink.write([ended(number) for number in range(400)])
    sink.write([ended(number, EventType.TASK_EXITED) for number in range(1000, 1010)])
    sink.close()
    outcomes = [facts_of(span)["cloud_tasks.outcome"] for span in receiver.spans]
    assert 50 < outcomes.count("completed") < 150
    assert outcomes.count("exited") == 10
    assert receiver.points("cloud_tasks.attempts")["outcome=completed,retry=False"] == 400


def test_sampler_variable_decides_on_the_trace(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    sink = sink_of(receiver)
    sink.progress(job_progress())
    sink.write([ended(1)])
    sink.progress(job_progress(JobPhase.COMPLETE))
    sink.close()
    assert receiver.spans == []
    assert sink.dropped == 0


# Metrics


def test_attempts_are_counted_by_outcome_with_durations(receiver: Any) -> None:
    sink = sink_of(receiver)
    sink.write([ended(1, elapsed=0.2), ended(2, elapsed=45.0), ended(3, EventType.TASK_EXCEPTION, retry=True)])
    sink.write([ended(2, elapsed=45.0)])
    sink.write([ended(4, EventType.SPOT_TERMINATION)])
    sink.close()
    counts = receiver.points("cloud_tasks.attempts")
    assert counts == {"outcome=completed,retry=False": 2, "outcome=exception,retry=True": 1}
    completed = receiver.points("cloud_tasks.attempt.duration")["outcome=completed"]
    assert (completed.count, completed.sum) == (2, 45.2)
    bounds = [0.0, *completed.explicit_bounds]
    filled = [bounds[place] for place, count in enumerate(completed.bucket_counts) if count]
    assert filled == [0.1, 30.0]
    assert receiver.unit("cloud_tasks.attempt.duration") == "s"
    assert receiver.points("cloud_tasks.spot_terminations") == {"": 1}


def test_progress_becomes_gauges(receiver: Any) -> None:
    sink = sink_of(receiver)
    money: dict[str, Any] = {"price_per_hour": Money("0.5"), "cost": Money("0.27"), "max_total_cost": Money(3)}
    sink.progress(job_progress(instances={"n2-standard-4": 2, "e2-small": 1}, expected_cost=Money("1.5"), **money))
    sink.close()
    assert receiver.points("cloud_tasks.tasks") == {"status=completed": 3, "status=failed": 1, "status=queued": 0}
    assert receiver.points("cloud_tasks.instances") == {"instance_type=n2-standard-4": 2, "instance_type=e2-small": 1}
    figures = {
        name: receiver.points(f"cloud_tasks.{name}") for name in ("price", "cost", "cost.expected", "cost.limit")
    }
    assert figures == {"price": {"": 0.5}, "cost": {"": 0.27}, "cost.expected": {"": 1.5}, "cost.limit": {"": 3.0}}
    assert (receiver.unit("cloud_tasks.price"), receiver.unit("cloud_tasks.cost")) == ("USD/h", "USD")


def test_unknown_values_have_no_gauge(receiver: Any) -> None:
    sink = sink_of(receiver)
    sink.close()
    assert receiver.points("cloud_tasks.cost") == receiver.points("cloud_tasks.tasks") == {}


def test_metrics_are_sent_at_the_interval_of_the_variable(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
    sink = sink_of(receiver, traces=False)
    sink.write([ended(1)])
    eventually(lambda: receiver.asked >= 2)
    assert receiver.points("cloud_tasks.attempts") == {"outcome=completed,retry=False": 1}
    sink.close()


@pytest.mark.parametrize(("left_out", "asked"), [("metrics", "/v1/traces"), ("traces", "/v1/metrics")])
def test_metrics_or_traces_can_be_disabled(receiver: Any, left_out: str, asked: str) -> None:
    sink = sink_of(receiver, **{left_out: False})
    sink.write([ended(1)])
    sink.progress(job_progress(JobPhase.COMPLETE))
    sink.flush()
    sink.close()
    assert bool(receiver.spans) is (asked == "/v1/traces")
    assert receiver.asked == 1


# Where it goes


def test_endpoint_and_headers_default_to_the_variables(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.address)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=secret")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    sink = OtelSink(OtelSettings(), EventSinkContext(job_id="sums"))
    sink.write([ended(1)])
    sink.close()
    assert len(receiver.spans) == 1
    assert receiver.points("cloud_tasks.attempts") == {"outcome=completed,retry=False": 1}
    assert {headers.get("api-key") for headers in receiver.headers} == {"secret"}


def test_service_name_defaults_to_cloud_tasks(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, text, name in (
        ("OTEL_SERVICE_NAME", "mine", "mine"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,a=b", "other"),
        ("UNRELATED", "", "cloud-tasks"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(variable, text)
            sink = sink_of(receiver)
            sink.write([ended(1)])
            sink.close()
        assert receiver.resource["service.name"] == name
        assert receiver.resource["cloud_tasks.job.id"] == "sums"


@pytest.mark.parametrize(
    "settings",
    [
        {"endpoint": "localhost:4318"},
        {"endpoint": "http://user:word@host"},
        {"endpoint": "http://host/?a=b"},
        {"trace_share": 1.5},
        {"queue": 0},
        {"patience": 0},
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^(expected|must)") as raised:
        OtelSettings(**settings)
    assert "word@" not in str(raised.value)


# A receiver in trouble


def test_unresponsive_receiver_delays_neither_the_job_nor_its_end(receiver: Any) -> None:
    receiver.hold.clear()
    sink = sink_of(receiver, queue=100, patience=0.2)
    with structlog.testing.capture_logs() as logged:
        for number in range(2000):
            sink.write([ended(number)])
        sink.close()
    assert sink.dropped == 2000
    assert "OpenTelemetry: 2000 spans were not delivered" in [line["event"] for line in logged]
    assert "OpenTelemetry: the last metrics were not delivered" in [line["event"] for line in logged]
