"""Lifetimes of instances: derived from the budget, so that it holds also if no controller ever returns."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import attrs
import pytest
from controller_fakes import NOW, make_instance, make_observation, ranked
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_tasks.controller.autoscaler.actions import Abort, Launch, MarkEnded, Terminate
from cloud_tasks.controller.autoscaler.decide import decide
from cloud_tasks.controller.autoscaler.state import FleetInstance, Observation, Policy
from cloud_tasks.model import InstanceState, Limits, Money
from cloud_tasks.selection import drain_after

HOUR = timedelta(hours=1)
REPORTS = timedelta(seconds=30)
"""Time for the last events of a worker."""
ROUNDING = Decimal("1e-9")
"""Decimals have 28 digits."""
LIVING = [InstanceState.STARTING, InstanceState.RUNNING, InstanceState.STOPPING, InstanceState.STOPPED]


def hours(span: timedelta) -> Decimal:
    return Decimal(str(span.total_seconds())) / 3600


def committed(seen: Observation) -> Decimal:
    """Return the cost of a job whose controller never returns, in US dollars."""
    billed = [i for i in seen.fleet or () if i.state is not InstanceState.TERMINATED and i.deadline is not None]
    rest = sum(i.price_per_hour.usd * hours(max(i.deadline - seen.now, timedelta(0))) for i in billed if i.deadline)
    return seen.accrued_cost.usd + rest


def launches(seen: Observation) -> list[Launch]:
    return [action for action in decide(seen) if isinstance(action, Launch)]


def with_launches(seen: Observation) -> Observation:
    """Return the observation with the intents of its launches."""
    fleet = list(seen.fleet or ())
    for launch in launches(seen):
        for _ in range(launch.count):
            price = max(each.offer.price_per_hour for each in (launch.ranked, *launch.alternatives))
            fleet.append(
                make_instance(
                    len(fleet) + 100,
                    age=0,
                    heartbeat=None,
                    instance_id=None,
                    state=None,
                    answered=False,
                    price_per_hour=price,
                    launched_at=seen.now,
                    deadline=None if launch.lifetime is None else seen.now + launch.lifetime,
                )
            )
    return attrs.evolve(seen, fleet=tuple(fleet))


# -- the invariant --

policies = st.builds(
    Policy,
    limits=st.builds(
        Limits,
        max_instances=st.none() | st.integers(1, 50),
        max_total_price_per_hour=st.none() | st.just(Money(10)),
        max_total_cost=st.floats(0.01, 1000).map(Money),
    ),
    max_lifetime=st.none() | st.timedeltas(timedelta(minutes=1), timedelta(days=30)),
    max_runtime=st.timedeltas(timedelta(seconds=1), timedelta(days=2)),
    max_runtime_is_given=st.booleans(),
    startup_timeout=st.none() | st.just(timedelta(minutes=10)),
    provider_chooses=st.booleans(),
    canary=st.booleans(),
)


@st.composite
def fleets(draw: st.DrawFn) -> tuple[FleetInstance, ...]:
    """Draw instances of this run and of earlier ones, with any price and any deadline, passed ones included."""
    return tuple(
        make_instance(
            number,
            age=draw(st.floats(0, 1e5)),
            heartbeat=draw(st.none() | st.floats(0, 100)),
            state=draw(st.sampled_from(LIVING)),
            price_per_hour=Money(draw(st.floats(0, 50))),
            deadline=draw(st.just(None) | st.timedeltas(-HOUR, timedelta(days=30)).map(lambda span: NOW + span)),
            from_earlier_run=draw(st.booleans()),
        )
        for number in range(draw(st.integers(0, 8)))
    )


@settings(max_examples=300, deadline=None)
@given(
    fleet=fleets(),
    policy=policies,
    accrued=st.floats(0, 1000).map(Money),
    price=st.floats(0.0001, 30).map(lambda usd: str(round(usd, 4))),
    remaining=st.integers(1, 100_000),
    task_time=st.none() | st.timedeltas(timedelta(seconds=1), timedelta(days=1)),
)
def test_launches_keep_the_committed_cost_within_the_budget(
    fleet: tuple[FleetInstance, ...],
    policy: Policy,
    accrued: Money,
    price: str,
    remaining: int,
    task_time: timedelta | None,
) -> None:
    offers = (ranked(price=price), ranked("n-8", price=str(Decimal(price) * 2)))
    seen = make_observation(
        *fleet, policy=policy, accrued_cost=accrued, offers=offers, remaining=remaining, task_time=task_time
    )
    after = with_launches(seen)
    limit = policy.limits.max_total_cost
    assert limit is not None
    if after == seen:
        return
    assert committed(after) <= limit.usd + ROUNDING
    assert all(i.deadline is not None for i in after.fleet or () if i.price_per_hour)
    if policy.max_lifetime is not None:
        assert all(launch.lifetime is not None and launch.lifetime <= policy.max_lifetime for launch in launches(seen))


@settings(max_examples=100, deadline=None)
@given(policy=policies, data=st.data())
def test_committed_cost_stays_within_the_budget_whenever_the_controller_dies(
    policy: Policy, data: st.DataObject
) -> None:
    """Instances start, end early or at their deadlines, and are replaced; each decision might be the last one."""
    limit = policy.limits.max_total_cost
    assert limit is not None
    seen = make_observation(policy=policy, offers=(ranked(price="0.25"), ranked("n-8", price="0.40")))
    for _ in range(8):
        seen = with_launches(seen)
        assert committed(seen) <= limit.usd + ROUNDING
        step = data.draw(st.timedeltas(timedelta(seconds=1), timedelta(hours=12)))
        fleet, cost = [], seen.accrued_cost
        for number, instance in enumerate(seen.fleet or ()):
            assert instance.deadline is not None
            ends = min(instance.deadline, seen.now + step) if data.draw(st.integers(0, 3)) else seen.now
            cost += instance.price_per_hour * hours(max(ends - seen.now, timedelta(0)))
            if ends == seen.now + step and ends < instance.deadline:
                known = {"instance_id": f"i-{number}", "state": InstanceState.RUNNING, "last_heartbeat": ends}
                fleet.append(attrs.evolve(instance, answered=True, **known))  # type: ignore[arg-type]
        seen = attrs.evolve(
            seen,
            now=seen.now + step,
            fleet=tuple(fleet),
            accrued_cost=cost,
            events_read_since=seen.now,
            any_heartbeat=True,
        )
    assert seen.accrued_cost.usd <= limit.usd + ROUNDING


# -- lifetimes --


def lifetime_and_count(
    limits: Limits, *fleet: FleetInstance, remaining: int = 10_000, **policy: object
) -> tuple[object, int]:
    seen = make_observation(*fleet, policy=Policy(limits=limits, **policy), remaining=remaining)  # type: ignore[arg-type]
    found = launches(seen)
    return found[0].lifetime, sum(launch.count for launch in found)


@pytest.mark.parametrize(
    ("budget", "maximum", "expected"),
    [
        # Five instances at $0.25 an hour.
        ("12.50", timedelta(days=1), (timedelta(hours=10), 5)),
        ("125", timedelta(days=1), (timedelta(days=1), 5)),
        ("125", None, (timedelta(hours=100), 5)),
        # Rather fewer than such as live shorter than the start and two tasks: 130 minutes.
        ("2.00", timedelta(days=1), (timedelta(hours=8) / 3, 3)),
        ("0.50", timedelta(days=1), (timedelta(hours=2), 1)),
        ("0.10", timedelta(days=1), (timedelta(minutes=24), 1)),
        # A maximum that is shorter anyway.
        ("2.50", timedelta(minutes=30), (timedelta(minutes=30), 5)),
    ],
)
def test_lifetime_is_the_share_of_the_budget(
    budget: str, maximum: timedelta | None, expected: tuple[timedelta, int]
) -> None:
    limits = Limits(max_instances=5, max_total_cost=Money(budget))
    assert lifetime_and_count(limits, max_lifetime=maximum) == expected


def test_lifetime_without_a_budget_is_the_maximum() -> None:
    assert lifetime_and_count(Limits(max_instances=2), max_lifetime=HOUR) == (HOUR, 2)
    assert lifetime_and_count(Limits(max_instances=2), max_lifetime=None) == (None, 2)


def test_canary_gets_its_share_of_the_budget_only() -> None:
    limits = Limits(max_instances=5, max_total_cost=Money("12.50"))
    assert lifetime_and_count(limits, canary=True, max_lifetime=None) == (timedelta(hours=10), 1)


def test_replacement_lives_from_what_is_not_reserved() -> None:
    limits = Limits(max_instances=2, max_total_cost=Money(5))
    other = make_instance(1, deadline=NOW + 12 * HOUR)
    assert lifetime_and_count(limits, other, max_lifetime=None) == (timedelta(hours=8), 1)


def test_launch_waits_while_the_rest_of_the_budget_is_reserved() -> None:
    seen = make_observation(
        make_instance(1, deadline=NOW + 20 * HOUR), policy=Policy(limits=Limits(max_total_cost=Money(5)))
    )
    assert decide(seen) == ()


def test_run_ends_when_nothing_is_left_for_another_instance() -> None:
    policy = Policy(limits=Limits(max_total_cost=Money(5)))
    (abort,) = decide(make_observation(policy=policy, accrued_cost=Money("4.99")))
    assert isinstance(abort, Abort)
    assert "max_total_cost" in abort.reason


# -- draining --


@pytest.mark.parametrize(
    ("lifetime", "max_runtime", "is_given", "expected"),
    [
        (24 * HOUR, HOUR, False, 23 * HOUR - REPORTS),
        (24 * HOUR, HOUR, True, 23 * HOUR - REPORTS),
        (HOUR, HOUR, False, HOUR / 2),
        # The user's limit is kept where the lifetime allows it.
        (12 * HOUR, 8 * HOUR, True, 4 * HOUR - REPORTS),
        (12 * HOUR, 8 * HOUR, False, 6 * HOUR),
        (8 * HOUR, 8 * HOUR, True, 4 * HOUR),
    ],
)
def test_drain_after_leaves_time_for_the_running_tasks(
    lifetime: timedelta, max_runtime: timedelta, is_given: bool, expected: timedelta
) -> None:
    found = drain_after(lifetime, max_runtime=max_runtime, is_given=is_given, startup_timeout=timedelta(minutes=10))
    assert found == expected


@given(
    lifetime=st.timedeltas(timedelta(seconds=1), timedelta(days=400)),
    max_runtime=st.timedeltas(timedelta(seconds=1), timedelta(days=40)),
    is_given=st.booleans(),
    startup_timeout=st.none() | st.timedeltas(timedelta(seconds=1), HOUR),
)
def test_drain_after_is_within_the_lifetime(
    lifetime: timedelta, max_runtime: timedelta, is_given: bool, startup_timeout: timedelta | None
) -> None:
    age = drain_after(lifetime, max_runtime=max_runtime, is_given=is_given, startup_timeout=startup_timeout)
    assert timedelta(0) < age < lifetime
    needed = max_runtime + REPORTS
    if lifetime >= 2 * needed or (is_given and startup_timeout and lifetime >= startup_timeout + needed):
        assert lifetime - age == needed


def test_draining_instance_is_replaced_as_far_as_the_limits_allow() -> None:
    draining = make_instance(1, age=23.5 * 3600, deadline=NOW + HOUR / 2)
    assert sum(launch.count for launch in launches(make_observation(draining, remaining=8))) == 1
    fresh = make_instance(1, deadline=NOW + 24 * HOUR)
    assert launches(make_observation(fresh, remaining=8)) == []
    only_one = Policy(limits=Limits(max_instances=1))
    assert launches(make_observation(draining, remaining=8, policy=only_one)) == []


def test_draining_instance_is_no_surplus_and_no_capacity() -> None:
    draining = make_instance(1, age=23.5 * 3600, deadline=NOW + HOUR / 2)
    idle = make_instance(2, running_tasks=0, deadline=NOW + 24 * HOUR, last_busy=NOW - HOUR)
    seen = make_observation(draining, idle, remaining=8, surplus_since=NOW - HOUR)
    assert [action for action in decide(seen) if isinstance(action, Terminate)] == []


# -- deadlines --


def test_instance_beyond_its_deadline_is_terminated() -> None:
    policy = Policy(limits=Limits(max_instances=3), deadline_grace=timedelta(seconds=30))
    young, old, starting, immortal = (
        make_instance(1, age=3600, deadline=NOW - timedelta(seconds=30)),
        make_instance(2, age=3631, deadline=NOW - timedelta(seconds=31)),
        make_instance(3, age=3700, deadline=NOW - HOUR / 36, state=InstanceState.STARTING, heartbeat=3),
        make_instance(4, age=1e6),
    )
    reason = "maximum lifetime of 1h exceeded (max_lifetime)"
    assert [
        action
        for action in decide(make_observation(young, old, starting, immortal, policy=policy))
        if isinstance(action, Terminate)
    ] == [Terminate(instance_id="i-2", reason=reason), Terminate(instance_id="i-3", reason=reason)]


def test_instance_beyond_its_deadline_is_terminated_once_and_only_while_listed_alive() -> None:
    policy = Policy(limits=Limits(max_instances=1))
    late = {"age": 4000, "deadline": NOW - timedelta(seconds=1)}
    for state in (None, InstanceState.TERMINATED, InstanceState.STOPPED):
        actions = decide(make_observation(make_instance(1, heartbeat=5000, state=state, **late), policy=policy))  # type: ignore[arg-type]
        assert len([action for action in actions if isinstance(action, (Terminate, MarkEnded))]) == 1
    intent = make_instance(1, heartbeat=None, instance_id=None, state=None, answered=False, **late)  # type: ignore[arg-type]
    assert decide(make_observation(intent, policy=policy)) == ()


# -- a lower limit --


def ended_by(*fleet: FleetInstance, accrued: str = "0") -> list[str]:
    policy = Policy(limits=Limits(max_total_cost=Money(5)))
    seen = make_observation(*fleet, policy=policy, accrued_cost=Money(accrued), remaining=8 * len(fleet))
    return [action.instance_id for action in decide(seen) if isinstance(action, Terminate)]


def test_resumed_job_terminates_what_a_lower_limit_does_not_cover() -> None:
    earlier = [make_instance(n, deadline=NOW + n * 4 * HOUR, from_earlier_run=True) for n in range(1, 5)]
    # $1, $2, $3, $4 until their deadlines.
    assert ended_by(*earlier) == ["i-4", "i-3"]
    assert ended_by(*earlier, accrued="3.5") == ["i-4", "i-3", "i-2"]
    assert ended_by(*earlier[:2]) == []


def test_resumed_job_terminates_an_instance_without_deadline_under_a_limit() -> None:
    assert ended_by(make_instance(1, from_earlier_run=True), make_instance(2, deadline=NOW + HOUR)) == ["i-1"]


@pytest.mark.parametrize(("price", "ended"), [("0.2", []), ("0.24", []), ("0.25", ["i-0"]), ("0.5", ["i-0", "i-1"])])
def test_instances_of_this_run_are_terminated_when_prices_rise_by_more_than_a_fifth(
    price: str, ended: list[str]
) -> None:
    # Their lifetimes were derived from a limit of $5 at $0.20 an hour.
    hours_of = (10, 8, 7)
    own = [make_instance(n, deadline=NOW + hours_of[n] * HOUR, price_per_hour=Money(price)) for n in range(3)]
    assert ended_by(*own) == ended


@settings(max_examples=200, deadline=None)
@given(fleet=fleets(), limit=st.floats(0.1, 1000).map(Money), accrued=st.floats(0, 0.99))
def test_committed_cost_exceeds_the_budget_by_the_tolerated_rise_at_most(
    fleet: tuple[FleetInstance, ...], limit: Money, accrued: float
) -> None:
    seen = make_observation(
        *fleet, policy=Policy(limits=Limits(max_total_cost=limit)), accrued_cost=limit * accrued, remaining=8
    )
    actions = decide(seen)
    if any(isinstance(action, Abort) for action in actions):
        return
    ended = {action.instance_id for action in actions if isinstance(action, (Terminate, MarkEnded))}
    left = attrs.evolve(seen, fleet=tuple(i for i in seen.fleet or () if i.instance_id not in ended))
    living = [i for i in left.fleet or () if i.state in (InstanceState.STARTING, InstanceState.RUNNING)]
    assert committed(attrs.evolve(left, fleet=tuple(living))) <= limit.usd * Decimal("1.2") + ROUNDING


def test_instance_that_is_terminating_counts_for_what_is_to_be_ended() -> None:
    ending = make_instance(4, deadline=NOW + 16 * HOUR, state=InstanceState.STOPPING, from_earlier_run=True)
    others = [make_instance(n, deadline=NOW + n * 4 * HOUR, from_earlier_run=True) for n in (1, 2)]
    assert ended_by(*others, ending) == []


def test_decide_requests_no_longer_lifetime_than_the_provider_allows() -> None:
    kind = attrs.evolve(ranked().offer.instance_type, max_lifetime=HOUR)
    short = attrs.evolve(ranked(), offer=attrs.evolve(ranked().offer, instance_type=kind))
    for wanted, expected in ((None, HOUR), (2 * HOUR, HOUR), (HOUR / 2, HOUR / 2)):
        policy = Policy(limits=Limits(max_instances=2), max_lifetime=wanted)
        (launch,) = launches(make_observation(policy=policy, offers=(short,)))
        assert launch.lifetime == expected
