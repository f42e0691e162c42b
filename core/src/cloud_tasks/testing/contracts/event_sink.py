"""What every event sink has to do."""

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
    """An event sink to be tested, empty at first."""

    backend: EventSinkBackend
    read_back: Callable[[], Sequence[Mapping[str, Any]]]
    """What arrived, each event as its flat JSON object, in order."""
    settings: Any = attrs.field(factory=NoSettings)
    context: EventSinkContext = attrs.field(factory=lambda: EventSinkContext(job_id="contract"))
    keeps_no_events: str = ""
    """Why events do not arrive as such: a sink that sends a message, or a figure. Then only that is tested which holds
    without; ``read_back`` is not called."""

    def open(self) -> AbstractContextManager[EventSink]:
        return self.backend.open(self.settings, self.context)

    def arrived(self) -> list[Mapping[str, Any]]:
        """What arrived; leaves the test out where no event does."""
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
    """How a job of 100 tasks stands, of which some have ended."""
    began = datetime(2026, 1, 2, 3, tzinfo=UTC)
    counts = dict.fromkeys(TaskStatus, 0)
    counts |= {TaskStatus.PENDING: 100 - finished, TaskStatus.COMPLETED: finished}
    now = began + timedelta(seconds=finished)
    return JobProgress(
        job_id="contract",
        run_id="run",
        created_at=began,
        started_at=began,
        now=now,
        phase=phase,
        counts=counts,
        **facts,
    )


class EventSinkContract(Contract):
    """What was written and flushed has arrived, whole and in order; see `cloud_tasks.plugin.EventSink`."""

    def test_flushed_events_have_arrived_in_order(self, subject: EventSinkSubject) -> None:
        events = [make_event(number) for number in range(10)]
        with subject.open() as sink:
            sink.write(events[:3])
            sink.write(events[3:])
            sink.flush()
            assert [each["event_id"] for each in subject.arrived()] == [event.event_id for event in events]

    def test_closing_flushes(self, subject: EventSinkSubject) -> None:
        with subject.open() as sink:
            sink.write([make_event(1)])
            sink.close()
        assert [each["event_id"] for each in subject.arrived()] == ["event-1"]

    def test_leaving_the_context_flushes(self, subject: EventSinkSubject) -> None:
        with subject.open() as sink:
            sink.write([make_event(1)])
        assert [each["event_id"] for each in subject.arrived()] == ["event-1"]

    def test_an_event_arrives_with_all_that_it_says(self, subject: EventSinkSubject) -> None:
        event = make_event(7, result={"sum": 3, "list": [1, None, "λ ≠ 木"]}, stack_trace='line 1\n  line "2"\n')
        with subject.open() as sink:
            sink.write([event])
        (arrived,) = subject.arrived()
        assert event_to_json(event).items() <= dict(arrived).items()

    def test_an_empty_batch_is_nothing(self, subject: EventSinkSubject) -> None:
        with subject.open() as sink:
            sink.write([])
            sink.flush()
        assert subject.arrived() == []

    def test_a_large_batch_arrives_whole(self, subject: EventSinkSubject) -> None:
        events = [make_event(number, result="x" * 200) for number in range(2000)]
        with subject.open() as sink:
            sink.write(events)
        assert [each["event_id"] for each in subject.arrived()] == [event.event_id for event in events]

    def test_events_of_every_kind_are_taken(self, subject: EventSinkSubject) -> None:
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

    def test_a_batch_that_is_given_again_is_taken(self, subject: EventSinkSubject) -> None:
        events = [make_event(number) for number in range(3)]
        with subject.open() as sink:
            sink.write(events)
            sink.write(events)
            sink.write([make_event(3)])
        arrived = [each["event_id"] for each in subject.arrived()]
        assert set(arrived) == {f"event-{number}" for number in range(4)}

    def test_an_event_is_kept_once_where_the_backend_says_so(self, subject: EventSinkSubject) -> None:
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
    def test_who_wants_to_know_how_the_job_stands_is_content_with_every_end(
        self, subject: EventSinkSubject, end: JobPhase
    ) -> None:
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
