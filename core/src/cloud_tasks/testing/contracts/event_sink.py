"""Contract of event sinks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from cloud_tasks.convert import event_to_json
from cloud_tasks.model import Event, EventType, JobPhase, JobProgress, Money, TaskStatus
from cloud_tasks.plugin import EventSink, EventSinkBackend, EventSinkContext, NoSettings, ProgressSink
from cloud_tasks.testing.contracts.contract import Contract

__all__ = ["EventSinkContract", "EventSinkSubject"]


@attrs.frozen(kw_only=True)
class EventSinkSubject:
    """An event sink under test, empty at first."""

    backend: EventSinkBackend
    """Descriptor of the backend, found like an installed plugin: ``Registry(only=[\'name\'])``."""
    read_back: Callable[[], Sequence[Mapping[str, Any]]]
    """Return the events that arrived, as flat JSON objects, in order."""
    settings: Any = attrs.field(factory=NoSettings)
    """Settings of the backend."""
    context: EventSinkContext = attrs.field(factory=lambda: EventSinkContext(job_id="contract"))
    """Context in which the backend is opened."""
    keeps_no_events: str = ""
    """Why events cannot be read back, e.g. "sends a message"; skips the tests that read events, and ``read_back``."""

    def open(self) -> AbstractContextManager[EventSink]:
        """Open the backend."""
        return self.backend.open(self.settings, self.context)

    def arrived(self) -> list[Mapping[str, Any]]:
        """Return the events that arrived; skip the test if the sink keeps none."""
        if self.keeps_no_events:
            pytest.skip(self.keeps_no_events)
        return list(self.read_back())


def make_event(number: int, **details: Any) -> Event:
    return Event(
        event_id=f"event-{number}",
        event_type=EventType.TASK_COMPLETED,
        timestamp=datetime(2026, 1, 2, 3, 4, 5, number % 1_000_000, tzinfo=UTC),
        hostname="host",
        task_id=f"task-{number}",
        attempt=1,
        retry=False,
        elapsed_time=0.5,
        details=details,
    )


def make_progress(phase: JobPhase, *, finished: int = 0, **facts: Any) -> JobProgress:
    """Return the progress of a job of 100 tasks, some of them finished."""
    created_at = datetime(2026, 1, 2, 3, tzinfo=UTC)
    counts = dict.fromkeys(TaskStatus, 0)
    counts |= {TaskStatus.PENDING: 100 - finished, TaskStatus.COMPLETED: finished}
    now = created_at + timedelta(seconds=finished)
    return JobProgress(
        job_id="contract",
        run_id="run",
        created_at=created_at,
        started_at=created_at,
        now=now,
        phase=phase,
        counts=counts,
        **facts,
    )


class EventSinkContract(Contract):
    """Flushed events have arrived, complete and in order; see `cloud_tasks.plugin.EventSink`."""

    def test_flush_delivers_events_in_order(self, subject: EventSinkSubject) -> None:
        events = [make_event(number) for number in range(10)]
        with subject.open() as sink:
            sink.write(events[:3])
            sink.write(events[3:])
            sink.flush()
            assert [each["event_id"] for each in subject.arrived()] == [event.event_id for event in events]

    def test_close_flushes(self, subject: EventSinkSubject) -> None:
        with subject.open() as sink:
            sink.write([make_event(1)])
            sink.close()
        assert [each["event_id"] for each in subject.arrived()] == ["event-1"]

    def test_context_exit_flushes(self, subject: EventSinkSubject) -> None:
        with subject.open() as sink:
            sink.write([make_event(1)])
        assert [each["event_id"] for each in subject.arrived()] == ["event-1"]

    def test_open_keeps_the_events_of_former_runs(self, subject: EventSinkSubject) -> None:
        events = [make_event(number) for number in range(3)]
        for event in events:
            with subject.open() as sink:
                sink.write([event])
        assert [each["event_id"] for each in subject.arrived()] == [event.event_id for event in events]

    def test_write_keeps_every_field_of_an_event(self, subject: EventSinkSubject) -> None:
        event = make_event(7, result={"sum": 3, "list": [1, None, "λ ≠ 木"]}, stack_trace='line 1\n  line "2"\n')
        with subject.open() as sink:
            sink.write([event])
        (arrived,) = subject.arrived()
        assert event_to_json(event).items() <= dict(arrived).items()

    def test_write_of_an_empty_batch_does_nothing(self, subject: EventSinkSubject) -> None:
        with subject.open() as sink:
            sink.write([])
            sink.flush()
        assert subject.arrived() == []

    def test_write_of_a_large_batch_is_complete(self, subject: EventSinkSubject) -> None:
        events = [make_event(number, result="x" * 200) for number in range(2000)]
        with subject.open() as sink:
            sink.write(events)
        assert [each["event_id"] for each in subject.arrived()] == [event.event_id for event in events]

    def test_write_accepts_every_event_type(self, subject: EventSinkSubject) -> None:
        bare = [
            Event(event_id=f"bare-{kind.value}", event_type=kind, timestamp=datetime(2026, 1, 2, tzinfo=UTC))
            for kind in EventType
        ]
        full = [attrs.evolve(make_event(number), event_type=kind) for number, kind in enumerate(EventType)]
        with subject.open() as sink:
            sink.write(bare)
            sink.write(full)
        ids = [each["event_id"] for each in subject.arrived()]
        assert ids == [event.event_id for event in (*bare, *full)]

    def test_write_accepts_a_repeated_batch(self, subject: EventSinkSubject) -> None:
        events = [make_event(number) for number in range(3)]
        with subject.open() as sink:
            sink.write(events)
            sink.write(events)
            sink.write([make_event(3)])
        arrived = [each["event_id"] for each in subject.arrived()]
        assert set(arrived) == {f"event-{number}" for number in range(4)}

    def test_write_is_idempotent_if_declared(self, subject: EventSinkSubject) -> None:
        events = [make_event(number) for number in range(4)]
        with subject.open() as sink:
            sink.write(events[:2])
            sink.write(events[:3])
        with subject.open() as sink:
            sink.write(events)
        arrived = [each["event_id"] for each in subject.arrived()]
        if subject.backend.idempotent:
            assert arrived == [event.event_id for event in events]

    @pytest.mark.parametrize("end", [phase for phase in JobPhase if phase is not JobPhase.RUNNING])
    def test_progress_accepts_every_job_phase(self, subject: EventSinkSubject, end: JobPhase) -> None:
        with subject.open() as sink:
            if not isinstance(sink, ProgressSink):
                return
            sink.progress(make_progress(JobPhase.RUNNING))
            sink.write([make_event(1)])
            price = Money("0.5")
            sink.progress(
                make_progress(
                    JobPhase.RUNNING,
                    finished=50,
                    instances={"type": 2},
                    price_per_hour=price,
                    cost=price,
                    expected_cost=price * 2,
                    max_total_cost=price,
                )
            )
            sink.progress(make_progress(end, finished=50, reason="because"))
