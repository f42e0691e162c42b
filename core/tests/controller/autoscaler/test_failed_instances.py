"""Instances that ended before any task finished: preempted ones, failed starts, and what follows from their number."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from controller_fakes import NOW, make_instance, make_observation, ranked
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.controller.autoscaler.actions import Abort, Launch, MarkEnded, Warn
from cloud_tasks.controller.autoscaler.decide import decide
from cloud_tasks.controller.autoscaler.failed_instances import FailedInstances, failed_instances
from cloud_tasks.controller.autoscaler.state import Block, Policy
from cloud_tasks.errors import RefusalScope
from cloud_tasks.model import Limits, Money, ProvisioningModel
from cloud_tasks.plugin import OWN_END
from cloud_tasks.store import InstanceRecord


def record(number: int, *, spot: bool = True, heartbeat: bool = False, notice: bool = False) -> InstanceRecord:
    """Return an instance that lived for 20 seconds."""
    start = NOW - timedelta(minutes=number + 1)
    return InstanceRecord(
        client_token=f"t{number}",
        instance_id=f"i-{number}",
        instance_type="m-8",
        zone="z-a",
        provisioning_model=ProvisioningModel.SPOT if spot else ProvisioningModel.ON_DEMAND,
        boot_disk_type="",
        boot_disk_gb=10.0,
        vcpus=8,
        slots=8,
        price_per_hour=Money(1),
        intended_at=start,
        launched_at=start,
        ended_at=start + timedelta(seconds=20),
        last_heartbeat=start + timedelta(seconds=10) if heartbeat else None,
        spot_terminated_at=start + timedelta(seconds=15) if notice else None,
        end_reason="terminated by itself or by the provider",
    )


def counted(*records: InstanceRecord, **facts: Any) -> FailedInstances:
    known: dict[str, Any] = {"consoles": {}, "timed_out": (), "worker_errors": (), "stop_reasons": {}}
    return failed_instances(records, **{"last_progress": None, **known, **facts})


@pytest.mark.parametrize(
    ("ended", "facts", "is_preempted"),
    [
        (record(1), {}, True),
        (record(1), {"consoles": {"i-1": "booting\nReached target"}}, True),
        (
            record(1),
            {"consoles": {"i-1": f"cloud-tasks: the startup script ended, and no worker runs{OWN_END}"}},
            False,
        ),
        (record(1), {"timed_out": {"i-1"}}, False),
        (record(1, heartbeat=True), {}, False),
        (record(1, heartbeat=True, notice=True), {}, True),
        (record(1, spot=False), {}, False),
        (record(1, spot=False, heartbeat=True, notice=True), {}, False),
    ],
)
def test_spot_instance_that_ends_while_it_boots_is_preempted_unless_it_ended_itself(ended, facts, is_preempted) -> None:
    found = counted(ended, **facts)
    assert (found.preempted, found.without_progress) == ((1, 0) if is_preempted else (0, 1))
    assert found.failed_starts == (not is_preempted and ended.last_heartbeat is None)


def test_instance_whose_program_cannot_start_is_not_preempted() -> None:
    ended = record(1)
    found = counted(ended, start_failures={"i-1"})
    assert (found.preempted, found.without_progress, found.cannot_start) == (0, 1, frozenset({"i-1"}))


@pytest.mark.parametrize("facts", [{"last_progress": NOW}, {"records": [record(2, spot=False, heartbeat=True)]}])
def test_program_that_started_somewhere_can_start(facts) -> None:
    records = [record(1), *facts.pop("records", [])]
    assert counted(*records, start_failures={"i-1"}, **facts).cannot_start == frozenset()


@pytest.mark.parametrize(
    ("failed", "booting", "working", "is_end"),
    [(1, 0, 0, False), (2, 0, 0, True), (2, 2, 0, True), (2, 3, 0, False), (50, 49, 0, True), (5, 0, 1, False)],
)
def test_instances_whose_program_cannot_start_end_the_run(failed: int, booting: int, working: int, is_end) -> None:
    fleet = [
        *(make_instance(n, age=20, heartbeat=5) for n in range(failed)),
        *(make_instance(100 + n, age=20, heartbeat=None) for n in range(booting)),
        *(make_instance(200 + n, age=20, heartbeat=5) for n in range(working)),
    ]
    cannot_start = frozenset(f"i-{n}" for n in range(failed))
    seen = make_observation(
        *fleet, failed_instances=FailedInstances(cannot_start=cannot_start), start_failure="setup: no data"
    )
    ends = [action for action in decide(seen) if isinstance(action, Abort)]
    assert bool(ends) == is_end
    if is_end:
        assert ends[0].reason == f"{failed} instances could not start: setup: no data"


def test_task_that_finishes_starts_the_counts_again() -> None:
    records = [record(number, spot=False, heartbeat=True) for number in range(5)]
    assert counted(*records).without_progress == 5
    found = counted(*records, last_progress=NOW - timedelta(minutes=3, seconds=30))
    assert found.without_progress == 3


def test_reason_is_that_of_the_worker_and_else_that_of_the_end() -> None:
    records = [record(number, spot=False, heartbeat=True) for number in (2, 1)]
    assert counted(*records).reason == "terminated by itself or by the provider"
    assert (
        counted(*records, stop_reasons={"i-1": "its maximum lifetime is over"}).reason == "its maximum lifetime is over"
    )


@pytest.mark.parametrize("preempted", [2, 10, 100])
def test_preempted_starts_are_no_broken_startup_script(preempted: int) -> None:
    gone = [make_instance(n, age=20, heartbeat=None, state=None, is_spot=True) for n in range(preempted)]
    failed = FailedInstances(preempted=preempted - 1, last_end=NOW - timedelta(hours=1))
    policy = Policy(limits=Limits(max_instances=200), max_preempted_without_progress=1000)
    observation = make_observation(
        *gone, failed_instances=failed, policy=policy, offers=(ranked(spot=True),), any_heartbeat=False
    )
    actions = decide(observation)
    assert sum(isinstance(action, MarkEnded) for action in actions) == preempted
    assert any(isinstance(action, Launch) for action in actions)


def test_many_preemptions_in_a_row_end_the_run() -> None:
    (action,) = decide(make_observation(failed_instances=FailedInstances(preempted=20, last_end=NOW)))
    assert isinstance(action, Abort)
    assert "the last 20 spot instances were preempted before any task finished" in action.reason


def first_launch(failed: FailedInstances) -> timedelta:
    """Return the time from the last end to the next launch, in steps of five seconds."""
    for step in range(200):
        now = NOW + timedelta(seconds=5 * step)
        if any(isinstance(action, Launch) for action in decide(make_observation(failed_instances=failed, now=now))):
            return now - NOW
    raise AssertionError("never")


def test_launches_pause_for_longer_after_each_instance_that_achieved_nothing() -> None:
    pauses = [first_launch(FailedInstances(without_progress=n, last_end=NOW)) for n in range(10)]
    assert [pause.total_seconds() for pause in pauses] == [0, 0, 0, 15, 30, 60, 120, 240, 480, 600]
    preempted = [first_launch(FailedInstances(preempted=n, last_end=NOW)) for n in (5, 6, 7)]
    assert [pause.total_seconds() for pause in preempted] == [0, 15, 30]


def test_pause_is_announced_with_the_reason_that_the_worker_gave() -> None:
    failed = FailedInstances(without_progress=4, last_end=NOW, reason="its maximum lifetime of 0.5 seconds is over")
    (action,) = decide(make_observation(failed_instances=failed))
    assert isinstance(action, Warn)
    assert action.message.startswith(
        "4 instances in a row ended before any task finished (its maximum lifetime of 0.5 seconds is over); next launch"
    )


@given(st.integers(0, 9), st.integers(0, 19))
def test_pause_never_ends_a_run_and_is_bounded(without_progress: int, preempted: int) -> None:
    failed = FailedInstances(without_progress=without_progress, preempted=preempted, last_end=NOW)
    assert first_launch(failed) <= timedelta(minutes=10)


def refusal(scope: RefusalScope, *, needs_action: bool, **changes: Any) -> Block:
    return Block(
        scope=scope,
        offer=changes.get("offer", ranked().offer),
        until=NOW + changes.get("left", timedelta(hours=30)),
        reason="DENIED",
        message="this account may not launch instances",
        needs_action=needs_action,
    )


def test_run_that_only_a_person_can_start_is_given_up() -> None:
    block = refusal(RefusalScope.ACCOUNT, needs_action=True)
    since = NOW - timedelta(minutes=16)
    (action,) = decide(make_observation(blocks=(block,), refusals=(block,), refused_since=since))
    assert isinstance(action, Abort)
    assert action.reason == (
        "every launch has been refused for 16m (give_up_after): this account may not launch instances"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"refused_since": NOW - timedelta(minutes=14)},
        {"refusals": (refusal(RefusalScope.ACCOUNT, needs_action=False),)},
        {"refusals": (refusal(RefusalScope.ZONE, needs_action=True),)},
        {"blocks": ()},
        {"policy": Policy(limits=Limits(max_instances=5), give_up_after=None)},
    ],
)
def test_run_that_may_still_start_is_not_given_up(changes: dict[str, Any]) -> None:
    facts = {
        "blocks": (refusal(RefusalScope.ACCOUNT, needs_action=True),),
        "refusals": (refusal(RefusalScope.ACCOUNT, needs_action=True),),
        "refused_since": NOW - timedelta(hours=9),
        **changes,
    }
    assert not any(isinstance(action, Abort) for action in decide(make_observation(**facts)))
    running = make_observation(make_instance(1), remaining=16, **{**facts, "refused_since": NOW - timedelta(days=1)})
    assert not any(isinstance(action, Abort) for action in decide(running))


ONE_BY_ONE = (ranked(), ranked(zone="z-b"))
"""Offers that are refused one after another, each for a shorter time than the next call takes."""


def one_by_one(*, needs_action: bool = True) -> dict[str, Any]:
    first, second = (
        refusal(RefusalScope.OFFER, needs_action=needs, offer=each.offer, left=timedelta(minutes=left))
        for each, left, needs in zip(ONE_BY_ONE, (-3, 1), (True, needs_action), strict=True)
    )
    return {"offers": ONE_BY_ONE, "refusals": (first, second), "blocks": (second,)}


def test_run_whose_offers_are_refused_one_by_one_is_given_up() -> None:
    (action,) = decide(make_observation(**one_by_one(), refused_since=NOW - timedelta(minutes=16)))
    assert isinstance(action, Abort)
    facts = one_by_one(needs_action=False)
    (action,) = decide(make_observation(**facts, refused_since=NOW - timedelta(minutes=16)))
    assert isinstance(action, Launch)


def test_last_refusal_of_an_offer_decides() -> None:
    facts = one_by_one()
    shortage = refusal(RefusalScope.OFFER, needs_action=False, offer=ONE_BY_ONE[0].offer, left=-timedelta(minutes=1))
    facts["refusals"] += (shortage,)
    (action,) = decide(make_observation(**facts, refused_since=NOW - timedelta(minutes=16)))
    assert isinstance(action, Launch)


def test_offers_that_only_a_person_can_permit_come_last_until_a_launch_succeeds() -> None:
    cheap, other = ranked(), ranked(name="m-9", price="9")
    expired = refusal(RefusalScope.OFFER, needs_action=True, offer=cheap.offer, left=-timedelta(minutes=1))
    facts = {"offers": (cheap, other), "refusals": (expired,), "blocks": ()}
    (launch,) = decide(make_observation(**facts, refused_since=NOW - timedelta(minutes=3)))
    assert isinstance(launch, Launch)
    assert launch.ranked is other
    (launch,) = decide(make_observation(**facts))
    assert isinstance(launch, Launch)
    assert launch.ranked is cheap


def test_next_attempt_on_another_day_is_shown_with_its_date() -> None:
    (action,) = decide(make_observation(blocks=(refusal(RefusalScope.ACCOUNT, needs_action=False),)))
    assert isinstance(action, Warn)
    until = NOW + timedelta(hours=30)
    assert action.message == f"All offers are refused; next attempt at {until:%Y-%m-%d %H:%M} UTC"
