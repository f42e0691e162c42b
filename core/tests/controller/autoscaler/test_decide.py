"""The decision core, case by case and by the thousand."""

from __future__ import annotations

from datetime import timedelta

import attrs
import pytest
from controller_fakes import NOW, ranked
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_tasks.controller.autoscaler.actions import (
    Abort,
    Drain,
    Finish,
    ForgetIntent,
    Launch,
    MarkEnded,
    Requeue,
    Terminate,
    Warn,
)
from cloud_tasks.controller.autoscaler.decide import decide
from cloud_tasks.controller.autoscaler.state import (
    Block,
    FleetInstance,
    LaunchFailures,
    Observation,
    Policy,
)
from cloud_tasks.errors import RefusalScope
from cloud_tasks.model import (
    InstanceState,
    Limits,
    Money,
    Purchase,
)


def machine(number: int, *, age: float = 100, heard: float | None = 10, **changes: object) -> FleetInstance:
    """An instance launched ``age`` seconds ago whose worker was heard ``heard`` seconds ago (None: never)."""
    facts: dict[str, object] = {
        "client_token": f"token{number}",
        "instance_id": f"i-{number}",
        "state": InstanceState.RUNNING,
        "vcpus": 8,
        "slots": 8,
        "price_per_hour": Money("0.25"),
        "launched_at": NOW - timedelta(seconds=age),
        "last_heartbeat": None if heard is None else NOW - timedelta(seconds=heard),
        "running_tasks": 8,
    }
    return FleetInstance(**{**facts, **changes})  # type: ignore[arg-type]


def seen(*fleet: FleetInstance, **changes: object) -> Observation:
    facts: dict[str, object] = {
        "now": NOW,
        "policy": Policy(limits=Limits(max_instances=5)),
        "remaining": 10_000,
        "all_loaded": True,
        "fleet": fleet,
        "offers": (ranked(), ranked(zone="z-b"), ranked("n-8", price="0.30")),
        "blocks": (),
        "events_read_since": NOW - timedelta(hours=5),
        "any_heartbeat": any(instance.last_heartbeat is not None for instance in fleet),
    }
    return Observation(**{**facts, **changes})  # type: ignore[arg-type]


def both_zones(first: int, second: int) -> tuple[Launch, ...]:
    """So many instances of the best offer in each of its zones."""
    return (Launch(ranked=ranked(), count=first), Launch(ranked=ranked(zone="z-b"), count=second))


def test_an_empty_fleet_is_filled_to_the_limit_with_the_best_offer() -> None:
    assert decide(seen()) == both_zones(3, 2)


def test_nothing_is_bought_for_tasks_that_the_fleet_can_hold() -> None:
    assert decide(seen(machine(1), remaining=8)) == ()


def test_the_last_tasks_get_no_more_instances_than_they_can_fill() -> None:
    assert decide(seen(remaining=9)) == both_zones(1, 1)


def test_a_failed_listing_changes_nothing() -> None:
    assert [type(action) for action in decide(seen(fleet=None))] == [Warn]


def test_a_finished_job_is_finished_even_when_the_listing_failed() -> None:
    assert decide(seen(fleet=None, remaining=0)) == (Finish(),)


def test_a_job_whose_tasks_are_not_all_loaded_is_not_finished() -> None:
    assert Finish() not in decide(seen(remaining=0, all_loaded=False))


def test_intents_without_an_answer_count_towards_the_limit() -> None:
    intents = [machine(n, heard=None, instance_id=None, state=None, answered=False) for n in range(5)]
    assert decide(seen(*intents)) == ()


def test_instance_beyond_the_maximum_lifetime_is_terminated() -> None:
    policy = Policy(limits=Limits(max_instances=3), max_lifetime=timedelta(hours=1))
    young, old, starting = (
        machine(1, age=3600),
        machine(2, age=3601),
        machine(3, age=3700, state=InstanceState.STARTING, heard=3),
    )
    reason = "maximum lifetime of 1h exceeded"
    assert decide(seen(young, old, starting, policy=policy)) == (
        Terminate(instance_id="i-2", reason=reason),
        Terminate(instance_id="i-3", reason=reason),
    )
    assert decide(seen(young, old, starting, policy=Policy(limits=Limits(max_instances=3)))) == ()


def test_instance_beyond_the_maximum_lifetime_is_terminated_once_and_only_while_listed_alive() -> None:
    policy = Policy(limits=Limits(max_instances=1), max_lifetime=timedelta(hours=1))
    for state in (None, InstanceState.TERMINATED, InstanceState.STOPPED):
        actions = decide(seen(machine(1, age=4000, heard=5000, state=state), policy=policy))
        assert len([action for action in actions if isinstance(action, (Terminate, MarkEnded))]) == 1
    silent = decide(seen(machine(1, age=9000, heard=8000), machine(2), policy=policy))
    assert [type(action) for action in silent] == [Terminate]
    intent = machine(1, age=4000, heard=None, instance_id=None, state=None, answered=False)
    assert decide(seen(intent, policy=policy)) == ()


def test_an_instance_that_is_gone_is_written_off_and_replaced() -> None:
    gone = machine(1, state=None)
    assert decide(seen(gone, machine(2))) == (
        MarkEnded(instance_id="i-1", reason="ended by itself"),
        *both_zones(2, 2),
    )


def test_an_instance_that_the_listing_may_not_show_yet_is_neither_written_off_nor_bought_again() -> None:
    policy = Policy(limits=Limits(max_instances=1), listing_lag=timedelta(seconds=60))
    young = machine(1, age=10, heard=None, state=None)
    assert decide(seen(young, policy=policy)) == ()


def test_a_stopped_instance_is_removed_and_holds_its_place_until_it_is_gone() -> None:
    stopped = machine(1, state=InstanceState.STOPPED)
    actions = decide(seen(stopped, policy=Policy(limits=Limits(max_instances=1))))
    assert [type(action) for action in actions] == [Terminate]


def test_a_stranger_with_our_label_is_terminated() -> None:
    stranger = machine(9, recorded=False)
    assert decide(seen(machine(1), stranger, remaining=8))[0] == Terminate(
        instance_id="i-9", reason="not in this job's records"
    )


def test_an_intent_that_was_never_answered_is_forgotten_after_its_time() -> None:
    intent = machine(1, age=3600, heard=None, instance_id=None, state=None, answered=True)
    assert isinstance(decide(seen(intent, machine(2)))[0], ForgetIntent)


def test_where_listings_do_not_lag_the_first_complete_one_decides_about_a_launch_of_unknown_outcome() -> None:
    intent = machine(1, age=61, heard=None, instance_id=None, state=None, answered=True)
    assert [type(action) for action in decide(seen(intent, machine(2), remaining=16))] == [ForgetIntent]
    for changes in ({"may_be_unlisted": True}, {"answered": False}):
        assert decide(seen(attrs.evolve(intent, **changes), machine(2), remaining=16)) == ()
    lagging = Policy(limits=Limits(max_instances=5), listing_lag=timedelta(seconds=5))
    assert decide(seen(intent, machine(2), remaining=16, policy=lagging)) == ()


def failed_launches(rounds: int, *, bad_input: bool = False) -> LaunchFailures:
    return LaunchFailures(rounds=rounds, message="no network", bad_input=bad_input)


@pytest.mark.parametrize("bad_input", [False, True])
def test_launches_that_fail_for_certain_end_the_run_once_nothing_runs(bad_input: bool) -> None:
    (action,) = decide(seen(launch_failures=failed_launches(3, bad_input=bad_input)))
    assert isinstance(action, Abort)
    assert action.bad_input is bad_input
    assert not action.show_console
    assert "no network" in action.reason


def test_failed_launches_do_not_end_a_run_whose_instances_work() -> None:
    (action,) = decide(seen(machine(1), launch_failures=failed_launches(99)))
    assert isinstance(action, Launch)
    intent = machine(1, heard=None, instance_id=None, state=None, answered=False)
    assert decide(seen(intent, launch_failures=failed_launches(99))) == ()


def test_after_a_failed_launch_a_single_one_is_tried() -> None:
    assert decide(seen(launch_failures=failed_launches(2))) == (Launch(ranked=ranked(), count=1),)
    chooses = Policy(limits=Limits(max_instances=5), provider_chooses=True)
    (action,) = decide(seen(launch_failures=failed_launches(1), policy=chooses))
    assert isinstance(action, Launch)
    assert action.count == 1


def test_one_silent_instance_among_talking_ones_is_replaced() -> None:
    actions = decide(seen(machine(1, age=1000), machine(2, age=1000, heard=400), remaining=16))
    assert [a.instance_id for a in actions if isinstance(a, Terminate)] == ["i-2"]


def test_when_all_are_silent_the_channel_is_suspected_first() -> None:
    fleet = [machine(n, age=2000, heard=400) for n in range(3)]
    assert [type(action) for action in decide(seen(*fleet, remaining=24))] == [Warn]


def test_when_all_stay_silent_for_long_they_are_replaced() -> None:
    fleet = [machine(n, age=9000, heard=1000) for n in range(3)]
    actions = decide(seen(*fleet, remaining=24))
    assert {a.instance_id for a in actions if isinstance(a, Terminate)} == {"i-0", "i-1", "i-2"}


def test_silence_while_we_did_not_listen_is_no_silence() -> None:
    fleet = [machine(1, age=9000), machine(2, age=9000, heard=5000)]
    awake = NOW - timedelta(seconds=20)
    assert decide(seen(*fleet, remaining=16, events_read_since=awake)) == ()
    assert decide(seen(*fleet, remaining=16, events_read_since=None)) == ()


def test_when_none_ever_spoke_the_job_is_aborted_with_a_console_log() -> None:
    fleet = [machine(n, age=700, heard=None) for n in range(2)]
    action = decide(seen(*fleet))[-1]
    assert isinstance(action, Abort)
    assert action.console_of == "i-0"


def test_instances_that_end_without_a_word_abort_the_job() -> None:
    assert isinstance(decide(seen(failed_starts=3))[-1], Abort)


def test_one_that_ended_without_a_word_beside_living_ones_does_not() -> None:
    young = [machine(n, age=10, heard=None) for n in range(3)]
    assert not any(isinstance(action, Abort) for action in decide(seen(*young, failed_starts=1)))


def test_instances_that_end_without_finishing_anything_abort_the_job() -> None:
    assert isinstance(decide(seen(machine(1), ended_without_progress=10))[-1], Abort)


def test_a_blocked_zone_sends_the_launch_to_the_next_one() -> None:
    block = Block(scope=RefusalScope.ZONE, offer=ranked().offer, until=NOW + timedelta(minutes=5), reason="no capacity")
    assert decide(seen(blocks=(block,))) == (Launch(ranked=ranked(zone="z-b"), count=5),)


def test_a_block_ends() -> None:
    block = Block(scope=RefusalScope.ACCOUNT, offer=ranked().offer, until=NOW, reason="quota")
    assert decide(seen(blocks=(block,))) == both_zones(3, 2)


def test_everything_blocked_is_said_and_nothing_launched() -> None:
    block = Block(scope=RefusalScope.ACCOUNT, offer=ranked().offer, until=NOW + timedelta(minutes=5), reason="quota")
    assert [type(action) for action in decide(seen(blocks=(block,)))] == [Warn]


@pytest.mark.parametrize(("fallback", "bought"), [(False, None), (True, Purchase.ON_DEMAND)])
def test_on_demand_is_bought_only_as_an_allowed_fallback(fallback: bool, bought: Purchase | None) -> None:
    spot = ranked(spot=True)
    block = Block(scope=RefusalScope.REGION, offer=spot.offer, until=NOW + timedelta(minutes=5), reason="no spot")
    policy = Policy(limits=Limits(max_instances=1), spot_fallback=fallback)
    actions = decide(seen(offers=(spot, ranked()), blocks=(block,), policy=policy))
    assert [a.ranked.offer.purchase for a in actions if isinstance(a, Launch)] == ([bought] if bought else [])


def test_a_canary_comes_alone_until_it_finished_a_task() -> None:
    policy = Policy(limits=Limits(max_instances=5), canary=True)
    assert decide(seen(policy=policy)) == (Launch(ranked=ranked(), count=1),)
    assert decide(seen(machine(1), policy=policy)) == ()
    assert decide(seen(machine(1), policy=policy, tasks_finished=1)) == both_zones(2, 2)


def test_idle_surplus_goes_after_the_delay_and_the_busy_stay() -> None:
    idle = {"running_tasks": 0, "last_busy": NOW - timedelta(seconds=90)}
    fleet = (machine(1, age=900), machine(2, age=900, **idle), machine(3, age=900, **idle))
    since = NOW - timedelta(seconds=61)
    actions = decide(seen(*fleet, remaining=5, surplus_since=since))
    assert {a.instance_id for a in actions if isinstance(a, Terminate)} == {"i-2", "i-3"}
    assert decide(seen(*fleet, remaining=5, surplus_since=NOW - timedelta(seconds=59))) == ()


def test_an_empty_queue_with_tasks_to_go_is_filled_again() -> None:
    actions = decide(seen(machine(1), remaining=8, queue_empty_since=NOW - timedelta(minutes=3)))
    assert [type(action) for action in actions] == [Requeue]


def idle_machine(number: int, *, minutes: float, **changes: object) -> FleetInstance:
    return machine(number, age=7200, running_tasks=0, last_busy=NOW - timedelta(minutes=minutes), **changes)


def test_tasks_that_no_idle_worker_finds_are_sent_again_where_the_queue_cannot_tell_what_it_holds() -> None:
    fleet = (idle_machine(1, minutes=30), idle_machine(2, minutes=11))
    actions = decide(seen(*fleet, remaining=16))
    assert [type(action) for action in actions] == [Requeue]


@pytest.mark.parametrize(
    "changes",
    [
        {"queue_visible": 3},
        {"requeued_at": NOW - timedelta(minutes=5)},
        {"events_read_since": NOW - timedelta(minutes=5)},
        {"fleet": (idle_machine(1, minutes=30), machine(2))},
        {"fleet": (idle_machine(1, minutes=30), idle_machine(2, minutes=9))},
        {"fleet": (machine(1, heard=None, running_tasks=0), machine(2, heard=None, running_tasks=0))},
    ],
)
def test_nothing_is_sent_again_while_there_is_a_reason_to_wait(changes: dict[str, object]) -> None:
    facts = {"fleet": (idle_machine(1, minutes=30),), "remaining": 16, **changes}
    actions = decide(attrs.evolve(seen(), **facts))
    assert not any(isinstance(action, Requeue) for action in actions)


def test_what_workers_saw_that_have_ended_counts_too() -> None:
    young = idle_machine(3, minutes=2)
    assert not any(isinstance(action, Requeue) for action in decide(seen(young, remaining=16)))
    actions = decide(attrs.evolve(seen(young, remaining=16), idle_before=timedelta(minutes=8)))
    assert any(isinstance(action, Requeue) for action in actions)


def test_a_budget_that_is_used_up_ends_the_job() -> None:
    policy = Policy(limits=Limits(max_instances=5, max_total_cost=Money(2)))
    assert isinstance(decide(seen(machine(1), policy=policy, accrued_cost=Money(2)))[-1], Abort)


def test_nothing_is_bought_that_the_rest_of_the_budget_does_not_cover() -> None:
    policy = Policy(limits=Limits(max_instances=5, max_total_cost=Money(2)))
    assert decide(seen(machine(1), policy=policy, accrued_cost=Money("1.99"))) == ()


def budget(total: str, **changes: object) -> dict[str, object]:
    policy = Policy(limits=Limits(max_instances=5, max_total_cost=Money(total)))
    return {"policy": policy, "task_time": timedelta(hours=1), **changes}


def test_no_task_is_given_out_that_the_hard_stop_would_cut_short() -> None:
    enough = decide(seen(machine(1), remaining=8, **budget("2", accrued_cost=Money("1.74"))))
    assert enough == ()
    (drain,) = decide(seen(machine(1), remaining=8, **budget("2", accrued_cost=Money("1.75"))))
    assert isinstance(drain, Drain)


def test_without_a_task_time_there_is_no_drain_only_the_hard_stop() -> None:
    assert decide(seen(machine(1), remaining=8, **budget("2", task_time=None, accrued_cost=Money("1.99")))) == ()


def test_a_draining_job_buys_nothing_and_lets_go_what_is_done() -> None:
    idle = machine(2, age=900, running_tasks=0, last_busy=NOW - timedelta(seconds=90))
    booting = machine(3, heard=None, running_tasks=0)
    actions = decide(seen(machine(1), idle, booting, draining=True, **budget("2")))
    assert [action.instance_id for action in actions if isinstance(action, Terminate)] == ["i-2", "i-3"]
    assert len(actions) == 2


def test_a_drain_ends_the_job_when_nothing_runs_any_more() -> None:
    idle = machine(2, age=900, running_tasks=0, last_busy=NOW - timedelta(seconds=90))
    assert isinstance(decide(seen(idle, draining=True, **budget("2")))[-1], Abort)


def test_instances_are_spread_over_the_zones_that_cost_the_same() -> None:
    fleet = [machine(number, zone="z-a") for number in (1, 2)]
    assert decide(seen(*fleet)) == both_zones(1, 2)


def test_a_zone_that_refused_of_late_is_taken_after_one_that_did_not() -> None:
    over = Block(scope=RefusalScope.ZONE, offer=ranked().offer, until=NOW - timedelta(minutes=5), reason="no capacity")
    assert decide(seen(refusals=(over,))) == (Launch(ranked=ranked(zone="z-b"), count=5),)


def test_a_machine_whose_launch_had_been_given_up_goes() -> None:
    (action,) = decide(seen(machine(1, given_up=True), remaining=8))
    assert action == Terminate(instance_id="i-1", reason="its launch had been recorded as failed")


_states = st.sampled_from([None, *InstanceState])


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    fleet = [
        machine(
            number,
            age=draw(st.floats(0, 10_000)),
            heard=draw(st.none() | st.floats(0, 10_000)),
            state=draw(_states),
            recorded=draw(st.booleans()),
            running_tasks=draw(st.integers(0, 8)),
        )
        for number in range(draw(st.integers(0, 8)))
    ]
    limits = Limits(
        max_instances=draw(st.integers(1, 12)),
        max_total_cpus=draw(st.none() | st.integers(8, 64)),
        max_simultaneous_tasks=draw(st.none() | st.integers(8, 64)),
        max_total_price_per_hour=draw(st.none() | st.sampled_from([Money("0.25"), Money("0.9"), Money(10)])),
    )
    return attrs.evolve(
        seen(*fleet, remaining=draw(st.integers(1, 200)), any_heartbeat=draw(st.booleans())),
        policy=Policy(limits=limits, listing_lag=timedelta(seconds=draw(st.sampled_from([0, 60])))),
        events_read_since=draw(st.none() | st.just(NOW - timedelta(seconds=draw(st.floats(0, 9000))))),
    )


@settings(max_examples=400, deadline=None)
@given(observations())
def test_no_decision_takes_the_fleet_past_a_limit_or_the_remaining_tasks(observation: Observation) -> None:
    limits = observation.policy.limits
    lag = observation.policy.listing_lag
    assert observation.fleet is not None
    held = [
        i
        for i in observation.fleet
        if i.state not in (None, InstanceState.TERMINATED)
        or i.instance_id is None
        or (i.state is None and NOW - i.launched_at <= lag)
    ]
    bought = sum(action.count for action in decide(observation) if isinstance(action, Launch))
    if bought:
        after = len(held) + bought
        assert limits.max_instances is not None
        assert after <= limits.max_instances
        assert limits.max_total_cpus is None or after * 8 <= limits.max_total_cpus
        assert limits.max_simultaneous_tasks is None or after * 8 <= limits.max_simultaneous_tasks
        price = Money("0.25") * after
        assert limits.max_total_price_per_hour is None or price <= limits.max_total_price_per_hour
        assert (after - 1) * 8 < observation.remaining


@settings(max_examples=200, deadline=None)
@given(observations())
def test_deciding_twice_gives_the_same_actions(observation: Observation) -> None:
    assert decide(observation) == decide(observation)


def choosing(**limits: object) -> Policy:
    return Policy(limits=Limits(**limits), provider_chooses=True)  # type: ignore[arg-type]


SPOT_OFFERS = (ranked("m-8", "z-a", "0.20", spot=True), ranked("n-8", "z-b", "0.22", spot=True))


def test_a_provider_that_chooses_is_given_all_that_will_do() -> None:
    (launch,) = decide(seen(policy=choosing(max_instances=3), offers=SPOT_OFFERS, remaining=100))
    assert launch == Launch(ranked=SPOT_OFFERS[0], count=3, alternatives=SPOT_OFFERS[1:])


def test_where_the_limit_cannot_bear_the_dearest_it_is_not_offered() -> None:
    policy = choosing(max_total_price_per_hour=Money("0.60"))
    (launch,) = decide(seen(policy=policy, offers=SPOT_OFFERS, remaining=100))
    assert launch == Launch(ranked=SPOT_OFFERS[0], count=3)


def test_what_is_refused_for_now_is_no_alternative() -> None:
    block = Block(scope=RefusalScope.OFFER, offer=SPOT_OFFERS[1].offer, until=NOW + timedelta(minutes=1), reason="")
    policy = choosing(max_instances=3)
    (launch,) = decide(seen(policy=policy, offers=SPOT_OFFERS, remaining=100, blocks=(block,)))
    assert launch == Launch(ranked=SPOT_OFFERS[0], count=3)
