"""Runs on a machine that is asleep for a time: what was seen before says nothing about the present."""

from __future__ import annotations

from datetime import timedelta

import attrs
import pytest
from controller_fakes import FakeCompute, ranked, refusal
from virtual_loop import VirtualLoop

from cloud_tasks.controller.controller import StopMode
from cloud_tasks.errors import ProviderError, RefusalScope
from cloud_tasks.model import InstanceState, JobPhase, Limits

HOUR = timedelta(hours=1)
OFFERS = tuple(ranked(f"m-{n}", zone=f"z-{n}", price=f"0.{20 + n}") for n in range(4))


@pytest.fixture
def fall_asleep(loop: VirtualLoop, compute: FakeCompute):
    """Return a function that lets an hour pass, in which another controller launches an instance of the job."""

    def sleep() -> None:
        (known, *_) = compute.existing.values()
        labels = {"run": "another", "owner": "bob"}
        compute.existing["i-99"] = attrs.evolve(
            known, instance_id="i-99", client_token="theirs", labels=labels, state=InstanceState.RUNNING
        )
        loop.sleep(HOUR)

    return sleep


def take(seconds: float, loop: VirtualLoop):
    """Return a function that makes a call take this long."""
    return lambda *_: loop.charge(timedelta(seconds=seconds))


def test_listing_that_was_requested_before_a_sleep_leads_to_no_launch(
    loop, compute, make_controller, fall_asleep
) -> None:
    controller = make_controller(offers=OFFERS)
    # The pass at 60 s finds one instance gone, and its listing is on its way when the machine falls asleep.
    loop.later(timedelta(seconds=30), lambda: compute.existing.pop("i-1"))
    loop.later(timedelta(seconds=59), lambda: setattr(compute, "before_listing", take(10, loop)))
    loop.later(timedelta(seconds=65), fall_asleep)
    assert controller.run() is JobPhase.ABORTED
    assert controller.reason.startswith("another controller runs a job of this name")
    assert len(compute.launched) == 2


def test_refusal_after_a_sleep_leads_to_a_new_listing_before_another_launch(
    loop, compute, make_controller, fall_asleep
) -> None:
    controller = make_controller(offers=OFFERS)

    def lose_one() -> None:
        compute.existing.pop("i-1")
        compute.faults.append(refusal(RefusalScope.OFFER))
        compute.before_launch = take(10, loop)

    loop.later(timedelta(seconds=30), lose_one)
    loop.later(timedelta(seconds=65), fall_asleep)
    assert controller.run() is JobPhase.ABORTED
    assert controller.reason.startswith("another controller runs a job of this name")
    assert len(compute.launched) == 3


def test_launch_is_not_called_again_after_a_sleep_before_another_decision(
    loop, compute, make_controller, fall_asleep
) -> None:
    controller = make_controller(offers=OFFERS)

    def lose_one() -> None:
        compute.existing.pop("i-1")
        compute.faults.append(ProviderError("time-out", transient=True))

    loop.later(timedelta(seconds=30), lose_one)
    # Between the first call, and its repetition after two seconds.
    loop.later(timedelta(seconds=61), fall_asleep)
    assert controller.run() is JobPhase.ABORTED
    assert controller.reason.startswith("another controller runs a job of this name")
    assert len(compute.launched) == 3


def test_launch_that_waits_for_another_is_not_called_after_a_sleep_before_another_decision(
    loop, compute, make_controller, fall_asleep
) -> None:
    controller = make_controller(offers=OFFERS, limits=Limits(max_instances=3), max_parallel=1)
    # Answers at 10 s and 110 s; the third launch waits when the machine falls asleep.
    compute.before_launch = lambda request: loop.charge(timedelta(seconds=100 if compute.launched else 10))
    loop.later(timedelta(seconds=50), fall_asleep)
    assert controller.run() is JobPhase.ABORTED
    assert controller.reason.startswith("another controller runs a job of this name")
    assert len(compute.launched) == 2


def test_launch_that_waits_for_another_is_called_after_a_decision_that_counts_it(
    loop, compute, make_controller
) -> None:
    controller = make_controller(offers=OFFERS, limits=Limits(max_instances=3), max_parallel=1)
    compute.before_launch = lambda request: loop.charge(timedelta(seconds=100 if compute.launched else 10))
    loop.later(timedelta(seconds=50), lambda: loop.sleep(HOUR))
    launched: list[int] = []
    loop.later(HOUR + timedelta(minutes=4), lambda: launched.append(len(compute.existing)))
    loop.later(HOUR + timedelta(minutes=4), lambda: controller.stop(StopMode.TERMINATE))
    controller.run()
    assert launched == [3]
