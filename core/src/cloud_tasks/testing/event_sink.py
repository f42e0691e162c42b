"""What every event sink has to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

import attrs

from cloud_tasks.convert import event_to_json
from cloud_tasks.model import Event, EventType
from cloud_tasks.plugin import EventSink, EventSinkBackend, EventSinkContext, NoSettings
from cloud_tasks.testing.contract import Contract

__all__ = ["EventSinkContract", "EventSinkSubject"]


@attrs.frozen(kw_only=True)
class EventSinkSubject:
    """An event sink to be tested, empty at first."""

    backend: EventSinkBackend
    read_back: Callable[[], Sequence[Mapping[str, Any]]]
    """What arrived, each event as its flat JSON object, in order."""
    settings: Any = attrs.field(factory=NoSettings)
    context: EventSinkContext = attrs.field(factory=lambda: EventSinkContext(job_id="contract"))

    def open(self) -> AbstractContextManager[EventSink]:
        return self.backend.open(self.settings, self.context)


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


class EventSinkContract(Contract):
    """What was written and flushed has arrived, whole and in order; see `cloud_tasks.plugin.EventSink`."""

    def test_flushed_events_have_arrived_in_order(self, subject: EventSinkSubject) -> None:
        events = [make_event(number) for number in range(10)]
        with subject.open() as sink:
            sink.write(events[:3])
            sink.write(events[3:])
            sink.flush()
            assert [each["event_id"] for each in subject.read_back()] == [event.event_id for event in events]

    def test_closing_flushes(self, subject: EventSinkSubject) -> None:
        with subject.open() as sink:
            sink.write([make_event(1)])
            sink.close()
        assert [each["event_id"] for each in subject.read_back()] == ["event-1"]

    def test_leaving_the_context_flushes(self, subject: EventSinkSubject) -> None:
        with subject.open() as sink:
            sink.write([make_event(1)])
        assert [each["event_id"] for each in subject.read_back()] == ["event-1"]

    def test_an_event_arrives_with_all_that_it_says(self, subject: EventSinkSubject) -> None:
        event = make_event(7, result={"sum": 3, "list": [1, None, "λ ≠ 木"]}, stack_trace='line 1\n  line "2"\n')
        with subject.open() as sink:
            sink.write([event])
        (arrived,) = subject.read_back()
        assert event_to_json(event).items() <= dict(arrived).items()

    def test_an_empty_batch_is_nothing(self, subject: EventSinkSubject) -> None:
        with subject.open() as sink:
            sink.write([])
            sink.flush()
        assert list(subject.read_back()) == []

    def test_a_large_batch_arrives_whole(self, subject: EventSinkSubject) -> None:
        events = [make_event(number, result="x" * 200) for number in range(2000)]
        with subject.open() as sink:
            sink.write(events)
        assert [each["event_id"] for each in subject.read_back()] == [event.event_id for event in events]
