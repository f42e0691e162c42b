"""Sink dispatcher: a failing sink never stops a run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from controller_fakes import event
from virtual_loop import VirtualLoop

from cloud_tasks.controller.messaging.sink_dispatcher import SinkDispatcher
from cloud_tasks.model import Event, EventType, JobPhase, JobProgress


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
        """Do nothing: no event is buffered."""

    def close(self) -> None:
        """Do nothing: no connection is open."""


def write_three_batches(loop: VirtualLoop, dispatcher: SinkDispatcher) -> None:
    for number in range(3):
        dispatcher.write([event(EventType.KEEP_ALIVE, number)])
    loop.run(lambda: dispatcher.idle)


def test_sinks_get_every_event_in_order(loop: VirtualLoop) -> None:
    first, second = Sink(), Sink()
    write_three_batches(loop, SinkDispatcher(loop, {"a": first, "b": second}))
    assert first.taken == second.taken == ["e0", "e1", "e2"]


def test_sink_that_fails_temporarily_misses_no_event(loop: VirtualLoop) -> None:
    sink = Sink(failures=4)
    dispatcher = SinkDispatcher(loop, {"a": sink})
    write_three_batches(loop, dispatcher)
    assert sink.taken == ["e0", "e1", "e2"]
    assert dispatcher.dropped() == {}


def test_failing_sink_is_counted_and_delays_no_other(loop: VirtualLoop) -> None:
    broken, good = Sink(failures=10**6), Sink()
    dispatcher = SinkDispatcher(loop, {"bad": broken, "good": good})
    started_at = loop.now()
    write_three_batches(loop, dispatcher)
    assert good.taken == ["e0", "e1", "e2"]
    assert dispatcher.dropped() == {"bad": 3}
    assert loop.now() - started_at < timedelta(minutes=5)


def test_slow_sink_gets_no_more_than_its_queue_holds(loop: VirtualLoop) -> None:
    sink = Sink()
    dispatcher = SinkDispatcher(loop, {"slow": sink})
    half = [event(EventType.KEEP_ALIVE, number) for number in range(50_000)]
    for _ in range(4):
        dispatcher.write(half)
    loop.run(lambda: dispatcher.idle)
    assert (len(sink.taken), dispatcher.dropped()) == (100_000, {"slow": 100_000})
    dispatcher.write(half)
    loop.run(lambda: dispatcher.idle)
    assert len(sink.taken) == 150_000


def test_single_batch_is_queued_whatever_its_size(loop: VirtualLoop) -> None:
    sink = Sink()
    dispatcher = SinkDispatcher(loop, {"a": sink})
    dispatcher.write([event(EventType.KEEP_ALIVE, number) for number in range(100_001)])
    loop.run(lambda: dispatcher.idle)
    assert len(sink.taken) == 100_001


def test_failing_sink_gets_one_attempt_for_each_batch_until_one_succeeds(loop: VirtualLoop) -> None:
    sink = Sink(failures=5 + 30)
    dispatcher = SinkDispatcher(loop, {"a": sink})
    started_at = loop.now()
    for number in range(40):
        dispatcher.write([event(EventType.KEEP_ALIVE, number)])
    loop.run(lambda: dispatcher.idle)
    assert sink.taken == [f"e{number}" for number in range(31, 40)]
    assert dispatcher.dropped() == {"a": 31}
    assert loop.now() - started_at < timedelta(minutes=1)


def test_finish_waits_for_a_failing_sink_up_to_the_timeout(loop: VirtualLoop) -> None:
    broken, good = Sink(failures=10**6), Sink()
    dispatcher = SinkDispatcher(loop, {"bad": broken, "good": good})
    for number in range(3):
        dispatcher.write([event(EventType.KEEP_ALIVE, number)])
    started_at = loop.now()
    dispatcher.finish(timedelta(seconds=2))
    assert loop.now() - started_at <= timedelta(seconds=5)
    assert (good.taken, dispatcher.dropped()) == (["e0", "e1", "e2"], {"bad": 3})
    dispatcher.write([event(EventType.KEEP_ALIVE, 3)])
    assert dispatcher.dropped() == {"bad": 4, "good": 1}


class Watching(Sink):
    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.refusals = failures
        self.told: list[JobPhase] = []

    def progress(self, progress: JobProgress) -> None:
        self.taken.append(progress.phase.value)
        if self.refusals:
            self.refusals -= 1
            raise OSError("not now")
        self.told.append(progress.phase)


def progress(phase: JobPhase = JobPhase.RUNNING) -> JobProgress:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return JobProgress(job_id="job", run_id="run", now=now, created_at=now, started_at=now, phase=phase)


def test_progress_is_sent_to_sinks_that_take_it_in_order_with_events(loop: VirtualLoop) -> None:
    watching, other = Watching(), Sink()
    dispatcher = SinkDispatcher(loop, {"watching": watching, "other": other})
    dispatcher.send_progress(progress())
    dispatcher.write([event(EventType.KEEP_ALIVE, 0)])
    dispatcher.send_progress(progress(JobPhase.COMPLETE))
    dispatcher.finish(timedelta(minutes=1))
    assert watching.taken == ["running", "e0", "complete"]
    assert other.taken == ["e0"]
    assert (dispatcher.takes_progress, SinkDispatcher(loop, {"other": other}).takes_progress) == (True, False)


def test_waiting_progress_is_replaced_by_newer_progress_except_the_last(loop: VirtualLoop) -> None:
    watching = Watching()
    dispatcher = SinkDispatcher(loop, {"watching": watching})
    for _ in range(5):
        dispatcher.send_progress(progress())
    dispatcher.send_progress(progress(JobPhase.ABORTED))
    dispatcher.finish(timedelta(minutes=1))
    assert watching.told == [JobPhase.RUNNING, JobPhase.ABORTED]


def test_sink_that_rejects_progress_still_gets_its_events(loop: VirtualLoop) -> None:
    watching = Watching(failures=1)
    dispatcher = SinkDispatcher(loop, {"watching": watching})
    dispatcher.send_progress(progress())
    dispatcher.write([event(EventType.KEEP_ALIVE, 0)])
    dispatcher.send_progress(progress(JobPhase.COMPLETE))
    dispatcher.finish(timedelta(minutes=1))
    assert watching.taken == ["running", "e0", "complete"]
    assert dispatcher.dropped() == {}


class Picky(Sink):
    """Sink that refuses certain events, and every batch with one of them."""

    def write(self, events: Sequence[Event]) -> None:
        if any(each.event_id in ("e1", "e4") for each in events):
            raise ValueError("cannot take it")
        super().write(events)


def test_event_that_a_sink_refuses_stops_no_other(loop: VirtualLoop) -> None:
    picky, good = Picky(), Sink()
    dispatcher = SinkDispatcher(loop, {"picky": picky, "good": good})
    for first in (0, 3):
        dispatcher.write([event(EventType.KEEP_ALIVE, number) for number in range(first, first + 3)])
    loop.run(lambda: dispatcher.idle)
    assert picky.taken == ["e0", "e2", "e3", "e5"]
    assert good.taken == [f"e{number}" for number in range(6)]
    assert dispatcher.dropped() == {"picky": 2}


def test_batch_of_a_failing_sink_is_dropped_as_a_whole(loop: VirtualLoop) -> None:
    broken = Sink(failures=10**6)
    dispatcher = SinkDispatcher(loop, {"bad": broken})
    dispatcher.write([event(EventType.KEEP_ALIVE, number) for number in range(500)])
    loop.run(lambda: dispatcher.idle)
    assert 10**6 - broken.failures < 10
    assert dispatcher.dropped() == {"bad": 500}
