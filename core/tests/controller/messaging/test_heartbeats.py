"""Heartbeats by the controller's clock: the clocks of workers decide nothing, and are reported once."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from controller_fakes import NOW, completed_by, event, message
from structlog.testing import capture_logs
from virtual_loop import START

from cloud_tasks.controller.controller import StopMode
from cloud_tasks.controller.messaging.heartbeats import Heartbeats
from cloud_tasks.model import EventType, JobPhase

MINUTE = timedelta(minutes=1)
NUMBERS = itertools.count(1000)


def beat(instance: str, skew: timedelta, at, running: int = 1):
    facts = {"instance_id": instance, "timestamp": at + skew, "details": {"running_tasks": running}}
    return event(EventType.KEEP_ALIVE, next(NUMBERS), **facts)


def report(skews: dict[str, timedelta], *, batches: int = 6, delay: float = 1.0, is_current: bool = True) -> list[str]:
    """Return the log lines about instances whose clocks are ahead by these times, and whose events take a while."""
    beats = Heartbeats(NOW)
    with capture_logs() as logs:
        for number in range(batches):
            at = NOW + number * MINUTE
            arrived = at + timedelta(seconds=delay)
            beats.note([beat(name, skew, at) for name, skew in skews.items()], arrived, is_current=is_current)
    return [entry["event"].partition(";")[0] for entry in logs]


SECONDS = {name: timedelta(seconds=seconds) for name, seconds in (("small", 20), ("large", 300))}


@pytest.mark.parametrize("sign", [1, -1])
def test_clock_of_an_instance_that_differs_is_reported_once(sign: int) -> None:
    lines = report({"i-1": sign * SECONDS["large"], "i-2": SECONDS["small"], "i-3": -SECONDS["small"]})
    assert len(lines) == 1
    place = "4m 59s ahead of it" if sign > 0 else "5m 1s behind it"
    assert lines == [f"The clock of instance 'i-1' differs from that of this machine: it is {place}"]


def test_clock_of_this_machine_that_differs_is_reported_once_for_all_instances() -> None:
    (line,) = report({f"i-{n}": -25 * MINUTE for n in range(20)})
    assert line == "The clocks of the instances differ from that of this machine: they are 25m 1s behind it"


@pytest.mark.parametrize(
    ("skews", "options"),
    [
        ({"i-1": SECONDS["small"], "i-2": -SECONDS["small"]}, {}),
        ({"i-1": timedelta(0), "i-2": timedelta(0)}, {"delay": 20.0}),
        ({"i-1": timedelta(0)}, {"delay": 3600.0, "is_current": False}),
        ({"i-1": timedelta(0)}, {"delay": 3600.0, "batches": 2}),
    ],
)
def test_small_differences_and_delays_are_not_reported(skews, options) -> None:
    assert report(skews, **options) == []


@pytest.mark.parametrize("skew", [-25 * MINUTE, timedelta(0), 25 * MINUTE], ids=str)
def test_instances_live_by_the_arrival_of_their_events(loop, store, compute, events, make_controller, skew) -> None:
    """i-1 sends heartbeats; i-2 does not any more."""
    controller = make_controller()

    def send(*names: str) -> None:
        events.inbox.append(message(*(beat(name, skew, loop.now()) for name in names)))

    for minute in range(1, 60):
        loop.later(minute * MINUTE, lambda names=("i-1", "i-2") if minute < 4 else ("i-1",): send(*names))
    seen: list[set[str]] = []
    for minute in (8, 12, 30):
        loop.later(minute * MINUTE, lambda: seen.append(set(compute.existing)))
    loop.later(31 * MINUTE, lambda: controller.stop(StopMode.TERMINATE))
    assert controller.run() is JobPhase.STOPPED
    assert [("i-1" in names, "i-2" in names) for names in seen] == [(True, True), (True, False), (True, False)]
    # Those that replace i-2 never send a heartbeat within ten minutes.
    assert len(compute.launched) <= 5


def test_event_that_is_delivered_again_is_no_heartbeat(loop, compute, events, make_controller) -> None:
    controller = make_controller()
    body = message(beat("i-2", timedelta(0), START))
    for minute in range(1, 20):
        loop.later(minute * MINUTE, lambda: events.inbox.append(message(beat("i-1", timedelta(0), loop.now()))))
        loop.later(minute * MINUTE, lambda: events.inbox.append(body))
    seen: list[bool] = []
    loop.later(10 * MINUTE, lambda: seen.append("i-2" in compute.existing))
    loop.later(11 * MINUTE, lambda: controller.stop(StopMode.TERMINATE))
    controller.run()
    assert seen == [False]


@pytest.mark.parametrize("skew", [-25 * MINUTE, 25 * MINUTE], ids=str)
def test_instances_end_without_progress_by_the_arrival_of_results(
    loop, store, compute, events, make_controller, skew
) -> None:
    """Each instance finishes a task before it ends; by its own clock, that was before its launch, or is yet to come."""
    controller = make_controller(max_instances_without_progress=3)

    def work() -> None:
        for name in tuple(compute.existing):
            events.inbox.append(message(completed_by(name, next(tasks), loop.now() + skew)))
            compute.existing.pop(name)

    tasks = itertools.count()
    for minute in range(1, 9):
        loop.later(minute * MINUTE + timedelta(seconds=30), work)
    loop.later(10 * MINUTE, lambda: controller.stop(StopMode.TERMINATE))
    assert controller.run() is JobPhase.STOPPED
    assert store.summary().finished_tasks > 10
