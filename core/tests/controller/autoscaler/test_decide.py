"""The decision, rule by rule and for generated observations."""

from __future__ import annotations

from datetime import timedelta

import attrs
import pytest
from controller_fakes import NOW, make_instance, make_observation, ranked
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_tasks.controller.autoscaler.actions import (
    Abort,
    Action,
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
from cloud_tasks.controller.autoscaler.failed_instances import FailedInstances
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
    ProvisioningModel,
)


def both_zones(first: int, second: int) -> tuple[Launch, ...]:
    """Return launches of the best offer in each of its zones."""
    return (Launch(ranked=ranked(), count=first), Launch(ranked=ranked(zone="z-b"), count=second))


def test_decide_fills_an_empty_fleet_with_the_best_offer_up_to_the_limit() -> None:
    assert decide(make_observation()) == both_zones(3, 2)


def test_decide_launches_nothing_for_tasks_that_the_fleet_has_slots_for() -> None:
    assert decide(make_observation(make_instance(1), remaining=8)) == ()


def test_decide_launches_no_more_instances_than_the_last_tasks_can_fill() -> None:
    assert decide(make_observation(remaining=9)) == both_zones(1, 1)


def test_decide_only_warns_about_a_failed_listing() -> None:
    assert [type(action) for action in decide(make_observation(fleet=None))] == [Warn]


def without_listing(*recorded: FleetInstance, **changes: object) -> tuple[Action, ...]:
    """Return the decision on these recorded launches while the listing is unknown, without its warning."""
    *actions, warning = decide(make_observation(fleet=None, recorded=recorded, any_heartbeat=True, **changes))
    return tuple(actions) if isinstance(warning, Warn) else (*actions, warning)


def test_decide_aborts_at_the_cost_limit_without_a_listing() -> None:
    (abort,) = without_listing(make_instance(1), **budget("10", accrued_cost=Money(10)))
    assert isinstance(abort, Abort)
    assert "cost limit reached: $10.00 of $10.00 spent" in abort.reason


def test_decide_drains_without_a_listing() -> None:
    facts = budget("10", accrued_cost=Money("9.9"))
    (start,) = without_listing(make_instance(1), **facts)
    assert isinstance(start, Drain)
    idle = make_instance(2, running_tasks=0, last_busy=NOW - timedelta(minutes=5))
    (end,) = without_listing(make_instance(1), idle, draining=True, **facts)
    assert isinstance(end, Terminate)
    assert end.instance_id == "i-2"
    assert isinstance(without_listing(idle, draining=True, **facts)[0], Abort)


def test_decide_ends_instances_beyond_their_lifetime_without_a_listing() -> None:
    old = make_instance(1, deadline=NOW - timedelta(hours=1))
    (action,) = without_listing(old, make_instance(2, deadline=NOW + timedelta(minutes=5)))
    assert isinstance(action, Terminate)
    assert action.instance_id == "i-1"


def test_decide_ends_an_instance_without_heartbeat_without_a_listing() -> None:
    (action,) = without_listing(make_instance(1, age=4000, heartbeat=400), make_instance(2))
    assert isinstance(action, Terminate)
    assert action.instance_id == "i-1"


def test_decide_neither_launches_nor_records_an_end_without_a_listing() -> None:
    intent = make_instance(3, instance_id=None, state=None, heartbeat=None, age=4000)
    idle = make_instance(1, running_tasks=0, last_busy=NOW - timedelta(hours=1))
    facts = {"queue_empty_since": NOW - timedelta(hours=1), "surplus_since": NOW - timedelta(hours=1), "remaining": 1}
    assert without_listing(idle, make_instance(2), intent, **facts) == ()
    assert without_listing() == ()


def test_decide_finishes_a_complete_job_even_if_the_listing_failed() -> None:
    assert decide(make_observation(fleet=None, remaining=0)) == (Finish(),)


def test_decide_does_not_finish_a_job_before_all_tasks_are_enqueued() -> None:
    assert Finish() not in decide(make_observation(remaining=0, all_loaded=False))


def test_decide_needs_no_budget_while_the_tasks_of_a_complete_job_are_still_enqueued() -> None:
    assert decide(make_observation(remaining=0, all_loaded=False, **budget("10"))) == ()


def test_unanswered_intents_count_towards_the_limit() -> None:
    intents = [make_instance(n, heartbeat=None, instance_id=None, state=None, answered=False) for n in range(5)]
    assert decide(make_observation(*intents)) == ()


def test_instance_missing_from_the_listing_is_recorded_as_ended_and_replaced() -> None:
    gone = make_instance(1, state=None)
    assert decide(make_observation(gone, make_instance(2))) == (
        MarkEnded(instance_id="i-1", reason="terminated by itself or by the provider"),
        *both_zones(2, 2),
    )


def test_instance_that_a_lagging_listing_need_not_show_is_neither_ended_nor_replaced() -> None:
    policy = Policy(limits=Limits(max_instances=1), listing_lag=timedelta(seconds=60))
    young = make_instance(1, age=10, heartbeat=None, state=None)
    assert decide(make_observation(young, policy=policy)) == ()


def test_stopped_instance_is_terminated_and_counts_towards_the_limit_until_it_is_gone() -> None:
    stopped = make_instance(1, state=InstanceState.STOPPED)
    actions = decide(make_observation(stopped, policy=Policy(limits=Limits(max_instances=1))))
    assert [type(action) for action in actions] == [Terminate]


def test_unmanaged_instance_with_the_label_of_the_job_is_terminated() -> None:
    unmanaged = make_instance(9, recorded=False)
    assert decide(make_observation(make_instance(1), unmanaged, remaining=8))[0] == Terminate(
        instance_id="i-9", reason="not in this job's records"
    )


def test_intent_of_unknown_outcome_is_forgotten_after_the_intent_timeout() -> None:
    intent = make_instance(1, age=3600, heartbeat=None, instance_id=None, state=None, answered=True)
    assert isinstance(decide(make_observation(intent, make_instance(2)))[0], ForgetIntent)


def test_intent_of_unknown_outcome_is_forgotten_at_once_where_listings_do_not_lag() -> None:
    intent = make_instance(1, age=61, heartbeat=None, instance_id=None, state=None, answered=True)
    assert [type(action) for action in decide(make_observation(intent, make_instance(2), remaining=16))] == [
        ForgetIntent
    ]
    for changes in ({"may_be_unlisted": True}, {"answered": False}):
        assert decide(make_observation(attrs.evolve(intent, **changes), make_instance(2), remaining=16)) == ()
    lagging = Policy(limits=Limits(max_instances=5), listing_lag=timedelta(seconds=5))
    assert decide(make_observation(intent, make_instance(2), remaining=16, policy=lagging)) == ()


def failed_launches(rounds: int, *, bad_input: bool = False) -> LaunchFailures:
    return LaunchFailures(rounds=rounds, message="no network", bad_input=bad_input)


@pytest.mark.parametrize("bad_input", [False, True])
def test_failed_launches_abort_the_run_once_no_instance_is_left(bad_input: bool) -> None:
    (action,) = decide(make_observation(launch_failures=failed_launches(3, bad_input=bad_input)))
    assert isinstance(action, Abort)
    assert action.bad_input is bad_input
    assert not action.show_console
    assert "no network" in action.reason


def test_failed_launches_do_not_end_a_run_whose_instances_work() -> None:
    (action,) = decide(make_observation(make_instance(1), launch_failures=failed_launches(99)))
    assert isinstance(action, Launch)
    intent = make_instance(1, heartbeat=None, instance_id=None, state=None, answered=False)
    assert decide(make_observation(intent, launch_failures=failed_launches(99))) == ()


def test_failed_launch_is_followed_by_a_single_launch() -> None:
    assert decide(make_observation(launch_failures=failed_launches(2))) == (Launch(ranked=ranked(), count=1),)
    chooses = Policy(limits=Limits(max_instances=5), provider_chooses=True)
    (action,) = decide(make_observation(launch_failures=failed_launches(1), policy=chooses))
    assert isinstance(action, Launch)
    assert action.count == 1


def test_instance_without_heartbeat_among_others_with_heartbeats_is_replaced() -> None:
    actions = decide(
        make_observation(make_instance(1, age=1000), make_instance(2, age=1000, heartbeat=400), remaining=16)
    )
    assert [a.instance_id for a in actions if isinstance(a, Terminate)] == ["i-2"]


def test_event_queue_is_suspected_first_if_no_instance_sends_heartbeats() -> None:
    fleet = [make_instance(n, age=2000, heartbeat=400) for n in range(3)]
    assert [type(action) for action in decide(make_observation(*fleet, remaining=24))] == [Warn]


def test_instances_are_replaced_if_none_sends_heartbeats_for_long() -> None:
    fleet = [make_instance(n, age=9000, heartbeat=1000) for n in range(3)]
    actions = decide(make_observation(*fleet, remaining=24))
    assert {a.instance_id for a in actions if isinstance(a, Terminate)} == {"i-0", "i-1", "i-2"}


def test_time_without_reading_the_event_queue_is_not_time_without_heartbeat() -> None:
    fleet = [make_instance(1, age=9000), make_instance(2, age=9000, heartbeat=5000)]
    awake = NOW - timedelta(seconds=20)
    assert decide(make_observation(*fleet, remaining=16, events_read_since=awake)) == ()
    assert decide(make_observation(*fleet, remaining=16, events_read_since=None)) == ()


def test_run_is_aborted_with_a_console_log_if_no_instance_ever_sent_a_heartbeat() -> None:
    fleet = [make_instance(n, age=700, heartbeat=None) for n in range(2)]
    action = decide(make_observation(*fleet))[-1]
    assert isinstance(action, Abort)
    assert action.console_of == "i-0"


def test_instances_that_end_without_a_heartbeat_abort_the_run() -> None:
    assert isinstance(decide(make_observation(failed_instances=FailedInstances(failed_starts=3)))[-1], Abort)


def test_single_failed_start_beside_booting_instances_does_not_abort_the_run() -> None:
    young = [make_instance(n, age=10, heartbeat=None) for n in range(3)]
    assert not any(
        isinstance(action, Abort)
        for action in decide(make_observation(*young, failed_instances=FailedInstances(failed_starts=1)))
    )


def test_instances_that_end_without_progress_abort_the_run() -> None:
    assert isinstance(
        decide(make_observation(make_instance(1), failed_instances=FailedInstances(without_progress=10)))[-1], Abort
    )


def test_launch_avoids_a_blocked_zone() -> None:
    block = Block(scope=RefusalScope.ZONE, offer=ranked().offer, until=NOW + timedelta(minutes=5), reason="no capacity")
    assert decide(make_observation(blocks=(block,))) == (Launch(ranked=ranked(zone="z-b"), count=5),)


def test_block_expires() -> None:
    block = Block(scope=RefusalScope.ACCOUNT, offer=ranked().offer, until=NOW, reason="quota")
    assert decide(make_observation(blocks=(block,))) == both_zones(3, 2)


def test_decide_warns_if_all_offers_are_blocked() -> None:
    block = Block(scope=RefusalScope.ACCOUNT, offer=ranked().offer, until=NOW + timedelta(minutes=5), reason="quota")
    assert [type(action) for action in decide(make_observation(blocks=(block,)))] == [Warn]


@pytest.mark.parametrize(("fallback", "bought"), [(False, None), (True, ProvisioningModel.ON_DEMAND)])
def test_on_demand_is_launched_only_as_an_allowed_fallback(fallback: bool, bought: ProvisioningModel | None) -> None:
    spot = ranked(spot=True)
    block = Block(scope=RefusalScope.REGION, offer=spot.offer, until=NOW + timedelta(minutes=5), reason="no spot")
    policy = Policy(limits=Limits(max_instances=1), spot_fallback=fallback)
    actions = decide(make_observation(offers=(spot, ranked()), blocks=(block,), policy=policy))
    assert [a.ranked.offer.provisioning_model for a in actions if isinstance(a, Launch)] == ([bought] if bought else [])


def test_canary_runs_alone_until_it_finishes_a_task() -> None:
    policy = Policy(limits=Limits(max_instances=5), canary=True)
    assert decide(make_observation(policy=policy)) == (Launch(ranked=ranked(), count=1),)
    assert decide(make_observation(make_instance(1), policy=policy)) == ()
    assert decide(make_observation(make_instance(1), policy=policy, tasks_finished=1)) == both_zones(2, 2)


def test_idle_surplus_is_terminated_after_the_delay_and_busy_instances_stay() -> None:
    idle = {"running_tasks": 0, "last_busy": NOW - timedelta(seconds=90)}
    fleet = (make_instance(1, age=900), make_instance(2, age=900, **idle), make_instance(3, age=900, **idle))
    since = NOW - timedelta(seconds=61)
    actions = decide(make_observation(*fleet, remaining=5, surplus_since=since))
    assert {a.instance_id for a in actions if isinstance(a, Terminate)} == {"i-2", "i-3"}
    assert decide(make_observation(*fleet, remaining=5, surplus_since=NOW - timedelta(seconds=59))) == ()


def test_unfinished_tasks_are_requeued_if_the_queue_is_empty() -> None:
    actions = decide(make_observation(make_instance(1), remaining=8, queue_empty_since=NOW - timedelta(minutes=3)))
    assert [type(action) for action in actions] == [Requeue]


def make_idle_instance(number: int, *, minutes: float, **changes: object) -> FleetInstance:
    return make_instance(number, age=7200, running_tasks=0, last_busy=NOW - timedelta(minutes=minutes), **changes)


def test_unfinished_tasks_are_requeued_if_all_workers_are_idle_and_the_depth_is_not_exact() -> None:
    fleet = (make_idle_instance(1, minutes=30), make_idle_instance(2, minutes=11))
    actions = decide(make_observation(*fleet, remaining=16))
    assert [type(action) for action in actions] == [Requeue]


@pytest.mark.parametrize(
    "changes",
    [
        {"queue_visible": 3},
        {"requeued_at": NOW - timedelta(minutes=5)},
        {"events_read_since": NOW - timedelta(minutes=5)},
        {"fleet": (make_idle_instance(1, minutes=30), make_instance(2))},
        {"fleet": (make_idle_instance(1, minutes=30), make_idle_instance(2, minutes=9))},
        {
            "fleet": (
                make_instance(1, heartbeat=None, running_tasks=0),
                make_instance(2, heartbeat=None, running_tasks=0),
            )
        },
    ],
)
def test_unfinished_tasks_are_not_requeued_while_they_may_be_queued(changes: dict[str, object]) -> None:
    facts = {"fleet": (make_idle_instance(1, minutes=30),), "remaining": 16, **changes}
    actions = decide(attrs.evolve(make_observation(), **facts))
    assert not any(isinstance(action, Requeue) for action in actions)


def test_idle_time_of_exited_workers_counts_towards_the_requeue() -> None:
    young = make_idle_instance(3, minutes=2)
    assert not any(isinstance(action, Requeue) for action in decide(make_observation(young, remaining=16)))
    actions = decide(attrs.evolve(make_observation(young, remaining=16), idle_before=timedelta(minutes=8)))
    assert any(isinstance(action, Requeue) for action in actions)


def test_budget_that_is_used_up_aborts_the_run() -> None:
    policy = Policy(limits=Limits(max_instances=5, max_total_cost=Money(2)))
    assert isinstance(decide(make_observation(make_instance(1), policy=policy, accrued_cost=Money(2)))[-1], Abort)


def test_launch_needs_the_rest_of_the_budget_to_cover_it() -> None:
    policy = Policy(limits=Limits(max_instances=5, max_total_cost=Money(2)))
    assert decide(make_observation(make_instance(1), policy=policy, accrued_cost=Money("1.99"))) == ()


def budget(total: str, **changes: object) -> dict[str, object]:
    policy = Policy(limits=Limits(max_instances=5, max_total_cost=Money(total)))
    return {"policy": policy, "task_time": timedelta(hours=1), **changes}


def test_drain_starts_when_new_tasks_would_be_interrupted_by_the_cost_limit() -> None:
    enough = decide(make_observation(make_instance(1), remaining=8, **budget("2", accrued_cost=Money("1.74"))))
    assert enough == ()
    (drain,) = decide(make_observation(make_instance(1), remaining=8, **budget("2", accrued_cost=Money("1.75"))))
    assert isinstance(drain, Drain)


def test_drain_does_not_start_before_the_task_time_is_known() -> None:
    assert (
        decide(
            make_observation(make_instance(1), remaining=8, **budget("2", task_time=None, accrued_cost=Money("1.99")))
        )
        == ()
    )


def test_drain_launches_nothing_and_terminates_instances_without_tasks() -> None:
    idle = make_instance(2, age=900, running_tasks=0, last_busy=NOW - timedelta(seconds=90))
    booting = make_instance(3, heartbeat=None, running_tasks=0)
    actions = decide(make_observation(make_instance(1), idle, booting, draining=True, **budget("2")))
    assert [action.instance_id for action in actions if isinstance(action, Terminate)] == ["i-2", "i-3"]
    assert len(actions) == 2


def test_drain_aborts_the_run_when_no_task_runs_any_more() -> None:
    idle = make_instance(2, age=900, running_tasks=0, last_busy=NOW - timedelta(seconds=90))
    assert isinstance(decide(make_observation(idle, draining=True, **budget("2")))[-1], Abort)


def test_launches_are_spread_over_zones_of_the_same_price() -> None:
    fleet = [make_instance(number, zone="z-a") for number in (1, 2)]
    assert decide(make_observation(*fleet)) == both_zones(1, 2)


def test_launch_prefers_a_zone_without_recent_refusal() -> None:
    over = Block(scope=RefusalScope.ZONE, offer=ranked().offer, until=NOW - timedelta(minutes=5), reason="no capacity")
    assert decide(make_observation(refusals=(over,))) == (Launch(ranked=ranked(zone="z-b"), count=5),)


def test_instance_whose_launch_was_recorded_as_failed_is_terminated() -> None:
    (action,) = decide(make_observation(make_instance(1, given_up=True), remaining=8))
    assert action == Terminate(instance_id="i-1", reason="its launch had been recorded as failed")


_states = st.sampled_from([None, *InstanceState])


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    fleet = [
        make_instance(
            number,
            age=draw(st.floats(0, 10_000)),
            heartbeat=draw(st.none() | st.floats(0, 10_000)),
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
        make_observation(*fleet, remaining=draw(st.integers(1, 200)), any_heartbeat=draw(st.booleans())),
        policy=Policy(limits=limits, listing_lag=timedelta(seconds=draw(st.sampled_from([0, 60])))),
        events_read_since=draw(st.none() | st.just(NOW - timedelta(seconds=draw(st.floats(0, 9000))))),
    )


@settings(max_examples=400, deadline=None)
@given(observations())
def test_launches_never_exceed_a_limit_or_the_remaining_tasks(observation: Observation) -> None:
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
def test_decide_gives_the_same_actions_for_the_same_observation(observation: Observation) -> None:
    assert decide(observation) == decide(observation)


def choosing(**limits: object) -> Policy:
    return Policy(limits=Limits(**limits), provider_chooses=True)  # type: ignore[arg-type]


SPOT_OFFERS = (ranked("m-8", "z-a", "0.20", spot=True), ranked("n-8", "z-b", "0.22", spot=True))


def test_launch_gives_a_selecting_provider_all_acceptable_offers() -> None:
    (launch,) = decide(make_observation(policy=choosing(max_instances=3), offers=SPOT_OFFERS, remaining=100))
    assert launch == Launch(ranked=SPOT_OFFERS[0], count=3, alternatives=SPOT_OFFERS[1:])


def test_launch_excludes_alternatives_that_the_price_limit_does_not_cover() -> None:
    policy = choosing(max_total_price_per_hour=Money("0.60"))
    (launch,) = decide(make_observation(policy=policy, offers=SPOT_OFFERS, remaining=100))
    assert launch == Launch(ranked=SPOT_OFFERS[0], count=3)


def test_launch_excludes_blocked_alternatives() -> None:
    block = Block(scope=RefusalScope.OFFER, offer=SPOT_OFFERS[1].offer, until=NOW + timedelta(minutes=1), reason="")
    policy = choosing(max_instances=3)
    (launch,) = decide(make_observation(policy=policy, offers=SPOT_OFFERS, remaining=100, blocks=(block,)))
    assert launch == Launch(ranked=SPOT_OFFERS[0], count=3)
