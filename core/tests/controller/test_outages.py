"""Runs whose provider answers late or not at all: limits hold, and instances end."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import timedelta

import pytest
from controller_fakes import FakeCompute, event, message
from structlog.testing import capture_logs
from virtual_loop import START, VirtualLoop

from cloud_tasks.controller.controller import StopMode
from cloud_tasks.controller.event_loop import gather, start
from cloud_tasks.controller.timed_calls import CallTimeoutError, TimedCalls
from cloud_tasks.errors import ProviderError
from cloud_tasks.model import EventType, JobPhase, Limits, Money

HOUR = timedelta(hours=1)
CHEAP = Limits(max_instances=2, max_total_cost=Money("0.05"))
"""Pays for six minutes of two instances."""


def send_heartbeats(loop: VirtualLoop, events, *, until: timedelta) -> None:
    """Have both instances send a heartbeat every minute, with a running task."""
    for minute in range(1, int(until / timedelta(minutes=1))):
        for number in (1, 2):
            facts = {"instance_id": f"i-{number}", "timestamp": START + timedelta(minutes=minute)}
            beat = event(EventType.KEEP_ALIVE, 10 * minute + number, details={"running_tasks": 1}, **facts)
            loop.later(timedelta(minutes=minute), functools.partial(events.inbox.append, message(beat)))


def fail(compute: FakeCompute, loop: VirtualLoop) -> None:
    compute.listing_fails = True


def hang(compute: FakeCompute, loop: VirtualLoop) -> None:
    compute.before_listing = lambda: loop.charge(HOUR)


@pytest.mark.parametrize("outage", [fail, hang])
def test_cost_limit_ends_the_run_although_listings_are_not_answered(
    loop, compute, events, make_controller, outage
) -> None:
    controller = make_controller(limits=CHEAP)
    send_heartbeats(loop, events, until=HOUR)
    loop.later(timedelta(seconds=90), lambda: outage(compute, loop))
    running: list[int] = []
    # The limit covers the lifetime of one instance.
    loop.later(timedelta(minutes=13, seconds=30), lambda: running.append(len(compute.existing)))
    assert controller.run() is JobPhase.ABORTED
    assert "cost limit reached" in controller.reason
    assert (running, compute.existing) == ([0], {})
    assert not controller.all_gone
    assert controller.instances_left() == ("i-1",)


def test_run_continues_after_a_listing_that_is_not_answered(loop, compute, events, make_controller) -> None:
    controller = make_controller()
    send_heartbeats(loop, events, until=HOUR)
    loop.later(timedelta(seconds=90), lambda: hang(compute, loop))

    def recover() -> None:
        compute.before_listing = lambda: None
        compute.existing.pop("i-1")

    loop.later(timedelta(seconds=150), recover)
    launched: list[int] = []
    loop.later(timedelta(minutes=9), lambda: launched.append(len(compute.launched)))
    loop.later(timedelta(minutes=10), lambda: controller.stop(StopMode.TERMINATE))
    controller.run()
    assert launched == [3]


def test_failed_listings_are_logged_once_for_as_long_as_they_fail(loop, compute, events, make_controller) -> None:
    controller = make_controller()
    send_heartbeats(loop, events, until=HOUR)
    loop.later(timedelta(seconds=90), lambda: fail(compute, loop))
    loop.later(timedelta(minutes=20), lambda: setattr(compute, "listing_fails", False))
    loop.later(timedelta(minutes=22), lambda: controller.stop(StopMode.TERMINATE))
    with capture_logs() as logs:
        controller.run()
    lines = [entry["event"] for entry in logs if "listed" in entry["event"] and entry["log_level"] == "warning"]
    assert lines == ["Instances could not be listed: listing is out of order", "Instances can be listed again"]


@pytest.mark.parametrize("is_listed", [True, False])
@pytest.mark.parametrize("error", [None, ProviderError("not ready"), KeyError("a defect")], ids=repr)
def test_end_terminates_the_others_although_one_termination_fails(
    loop, compute, make_controller, is_listed, error
) -> None:
    """Without an error, the call is not answered."""
    controller = make_controller(limits=Limits(max_instances=3))
    terminate = compute.terminate

    def reluctant(instance_ids: Sequence[str]) -> None:
        if "i-2" not in instance_ids:
            return terminate(instance_ids)
        if error is not None:
            raise error
        return loop.charge(HOUR)

    compute.terminate = reluctant

    def stop() -> None:
        compute.listing_fails = not is_listed
        controller.stop(StopMode.TERMINATE)

    loop.later(timedelta(seconds=30), stop)
    assert controller.run() is JobPhase.STOPPED
    assert (set(compute.existing), controller.all_gone) == ({"i-2"}, False)
    assert "i-2" in controller.instances_left()
    assert loop.now() < START + timedelta(minutes=20)


def test_end_terminates_recorded_instances_before_the_first_listing(loop, compute, make_controller) -> None:
    controller = make_controller()
    order: list[str] = []
    terminate = compute.terminate

    def record(instance_ids: Sequence[str]) -> None:
        order.append("terminate")
        terminate(instance_ids)

    def stop() -> None:
        compute.terminate = record
        compute.before_listing = lambda: order.append("list")
        controller.stop(StopMode.TERMINATE)

    loop.later(timedelta(seconds=30), stop)
    controller.run()
    assert order == ["terminate", "list"]


# -- calls with a time limit ------------------------------------------------------------------------------------------


def results(loop: VirtualLoop, calls: TimedCalls, *durations: timedelta) -> list[object]:
    """Return the results of calls of these durations, which run together, and the time that they took in seconds."""

    async def one(duration: timedelta) -> object:
        begun = loop.now()

        def take() -> timedelta:
            loop.charge(duration)
            return duration

        try:
            return await calls.call(take)
        except CallTimeoutError as error:
            return f"{error} after {(loop.now() - begun).total_seconds():.0f}"

    found: list[object] = []

    async def collect() -> None:
        found.extend(await gather([one(duration) for duration in durations]))

    start(collect())
    loop.run(lambda: bool(found))
    return found


def test_timed_call_returns_the_result_of_its_work(loop) -> None:
    calls = TimedCalls(loop, timeout=timedelta(seconds=30), max_abandoned=1)
    assert results(loop, calls, timedelta(seconds=5)) == [timedelta(seconds=5)]


def test_timed_call_raises_what_its_work_raises(loop) -> None:
    calls = TimedCalls(loop, timeout=timedelta(seconds=30), max_abandoned=1)
    raised: list[str] = []

    async def ask() -> None:
        try:
            await calls.call(lambda: [].pop())
        except IndexError as error:
            raised.append(str(error))

    start(ask())
    loop.run(lambda: bool(raised))
    assert raised == ["pop from empty list"]


def test_timed_call_is_given_up_at_its_time_limit(loop) -> None:
    calls = TimedCalls(loop, timeout=timedelta(seconds=30), max_abandoned=1)
    assert results(loop, calls, HOUR) == ["no answer within 30s after 30"]
    loop.run_for(2 * HOUR)


def test_timed_calls_fail_at_once_while_too_many_are_open(loop) -> None:
    calls = TimedCalls(loop, timeout=timedelta(seconds=30), max_abandoned=2)
    results(loop, calls, HOUR, HOUR)
    assert results(loop, calls, timedelta(0)) == ["2 earlier calls have not been answered after 0"]
    loop.run_for(HOUR)
    assert results(loop, calls, timedelta(seconds=1)) == [timedelta(seconds=1)]
