"""Copies of events: a sink that fails never stops a run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from controller_fakes import event

from cloud_tasks.controller.copies import EventCopies
from cloud_tasks.model import Event, EventType
from cloud_tasks.testing.virtual import VirtualLoop


class Sink:
    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.taken: list[str] = []

    def write(self, events: Sequence[Event]) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("no space left")
        self.taken.extend(e.event_id for e in events)

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        """Nothing is open."""


def write_three_batches(loop: VirtualLoop, copies: EventCopies) -> None:
    for number in range(3):
        copies.write([event(EventType.KEEP_ALIVE, number)])
    loop.run(lambda: copies.idle)


def test_every_sink_gets_every_event_in_order(loop: VirtualLoop) -> None:
    first, second = Sink(), Sink()
    write_three_batches(loop, EventCopies(loop, {"a": first, "b": second}))
    assert first.taken == second.taken == ["e0", "e1", "e2"]


def test_a_sink_that_fails_for_a_while_loses_nothing(loop: VirtualLoop) -> None:
    sink = Sink(failures=4)
    copies = EventCopies(loop, {"a": sink})
    write_three_batches(loop, copies)
    assert sink.taken == ["e0", "e1", "e2"]
    assert copies.lost() == {}


def test_a_sink_that_stays_broken_is_counted_and_holds_up_nobody(loop: VirtualLoop) -> None:
    broken, good = Sink(failures=10**6), Sink()
    copies = EventCopies(loop, {"bad": broken, "good": good})
    begun = loop.now()
    write_three_batches(loop, copies)
    assert good.taken == ["e0", "e1", "e2"]
    assert copies.lost() == {"bad": 3}
    assert loop.now() - begun < timedelta(minutes=5)
