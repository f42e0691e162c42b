"""Pending instances: the provider decides when they start."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import attrs
import pytest
from controller_fakes import NOW, FakeCompute, completed_by, make_instance, make_observation, message, ranked
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.controller.autoscaler.actions import Abort, Launch, MarkEnded, Terminate, Warn
from cloud_tasks.controller.autoscaler.decide import decide
from cloud_tasks.controller.autoscaler.state import FleetInstance, Policy
from cloud_tasks.controller.controller import StopMode
from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Instance, InstanceState, JobPhase, LaunchRequest, Limits, Money

HOURS = 3600.0


def waiting(number: int, *, since: float = 5 * HOURS, **changes: object) -> FleetInstance:
    """Return an instance that was requested ``since`` seconds ago and is pending."""
    facts = {"state": InstanceState.PENDING, "pending_since": NOW - timedelta(seconds=since), "running_tasks": 0}
    return make_instance(number, age=0, heartbeat=None, **{**facts, **changes})


def full(*fleet: FleetInstance, **changes: object) -> Policy:
    return Policy(limits=Limits(max_instances=len(fleet)), **changes)  # type: ignore[arg-type]


@given(st.integers(1, 5), st.integers(0, 4), st.floats(0, 1e7), st.booleans())
def test_decide_neither_ends_nor_replaces_pending_instances(
    pending: int, working: int, since: float, lists: bool
) -> None:
    fleet = [
        *(waiting(n, since=since) for n in range(pending)),
        *(make_instance(10 + n, age=since, heartbeat=1) for n in range(working)),
    ]
    seen = make_observation(*fleet, policy=full(*fleet), recorded=tuple(fleet))
    actions = decide(seen if lists else attrs.evolve(seen, fleet=None))
    assert [action for action in actions if not isinstance(action, Warn)] == []


def test_decide_suspects_the_event_queue_if_all_started_instances_are_silent() -> None:
    fleet = [waiting(1), make_instance(2, age=4000, heartbeat=400)]
    (action,) = decide(make_observation(*fleet, policy=full(*fleet)))
    assert isinstance(action, Warn)
    assert "event queue" in action.message


def test_decide_never_takes_pending_instances_that_end_for_failed_starts() -> None:
    pending_since = NOW - timedelta(hours=5)
    gone = {"state": None, "pending_since": pending_since, "listed_reason": "PartitionTimeLimit"}
    fleet = [make_instance(n, heartbeat=None, **gone) for n in range(5)]
    actions = decide(make_observation(*fleet, policy=full(*fleet)))
    assert not [action for action in actions if isinstance(action, Abort)]
    ends = [action for action in actions if isinstance(action, MarkEnded)]
    assert {action.reason for action in ends} == {
        "canceled while it was pending, or ended soon after its start (it was pending for: PartitionTimeLimit)"
    }


def test_decide_aborts_for_failed_starts_beside_pending_instances() -> None:
    fleet = [waiting(1), waiting(2), *(make_instance(n, age=1000, heartbeat=None) for n in (3, 4))]
    (action,) = decide(make_observation(*fleet, policy=full(*fleet)))
    assert isinstance(action, Abort)


def test_decide_logs_why_nothing_runs() -> None:
    fleet = [waiting(1, listed_reason="Resources"), waiting(2, listed_reason="Resources"), waiting(3)]
    (action,) = decide(make_observation(*fleet, policy=full(*fleet)))
    assert isinstance(action, Warn)
    assert action.message == "3 instances are pending (Resources); no instance runs until the provider starts one"
    assert decide(make_observation(waiting(1, since=30), policy=full(*fleet[:1]))) == ()


def test_decide_counts_pending_instances_towards_every_limit() -> None:
    for limits in (
        Limits(max_instances=2),
        Limits(max_total_cpus=16),
        Limits(max_simultaneous_tasks=16),
        Limits(max_total_price_per_hour=Money("0.60")),
    ):
        seen = make_observation(waiting(1, since=1), waiting(2, since=1), policy=Policy(limits=limits))
        assert decide(seen) == ()


def test_decide_reserves_the_whole_lifetime_of_pending_instances() -> None:
    pending = waiting(1, since=1, deadline=NOW + timedelta(hours=10))
    policy = Policy(limits=Limits(max_total_cost=Money("2.50")), max_lifetime=timedelta(hours=10))
    assert decide(make_observation(pending, policy=policy)) == ()


@pytest.mark.parametrize(("limit", "launched"), [(None, 5), (4, 2), (2, 0)])
def test_decide_requests_no_more_instances_than_may_wait(limit: int | None, launched: int) -> None:
    intent = make_instance(9, instance_id=None, state=None, heartbeat=None, answered=False)
    policy = Policy(limits=Limits(max_instances=7), max_pending=limit)
    actions = decide(make_observation(waiting(1, since=1), intent, policy=policy))
    assert sum(action.count for action in actions if isinstance(action, Launch)) == launched


def test_decide_terminates_surplus_pending_instances_before_idle_ones() -> None:
    idle = make_instance(2, running_tasks=0, last_busy=NOW - timedelta(hours=1))
    fleet = [waiting(1, since=100), idle, waiting(3, since=50)]
    seen = make_observation(*fleet, policy=full(*fleet), surplus_since=NOW - timedelta(hours=1), remaining=9)
    ended = [action.instance_id for action in decide(seen) if isinstance(action, Terminate)]
    assert ended == ["i-3"]
    seen = attrs.evolve(seen, remaining=8)
    assert [a.instance_id for a in decide(seen) if isinstance(a, Terminate)] == ["i-3", "i-1"]


def test_decide_terminates_pending_instances_while_it_drains() -> None:
    fleet = [waiting(1), make_instance(2)]
    actions = decide(make_observation(*fleet, policy=full(*fleet), draining=True))
    assert [action.instance_id for action in actions if isinstance(action, Terminate)] == ["i-1"]


def test_decide_ends_pending_instances_first_that_a_lowered_limit_does_not_cover() -> None:
    later = NOW + timedelta(hours=10)
    fleet = [
        waiting(1, deadline=later, from_earlier_run=True),
        make_instance(2, deadline=later, from_earlier_run=True, price_per_hour=Money("0.40")),
    ]
    policy = Policy(limits=Limits(max_total_cost=Money("5")))
    actions = decide(make_observation(*fleet, policy=policy))
    assert [action.instance_id for action in actions if isinstance(action, Terminate)] == ["i-1"]


class Scheduler(FakeCompute):
    """A provider whose instances wait until `start`; it remembers the ended ones."""

    names_times = True
    remembers = True

    def __init__(self, loop) -> None:
        super().__init__(loop)
        self.started: dict[str, datetime] = {}
        self.ended: dict[str, Instance] = {}

    def launch(self, request: LaunchRequest) -> Instance:
        launched = super().launch(request)
        found = attrs.evolve(launched, state=InstanceState.PENDING, reason="Resources")
        self.existing[launched.instance_id] = found
        return found

    def start(self, instance_id: str) -> None:
        self.started[instance_id] = self._loop.now()
        times = {"started_at": self._loop.now()} if self.names_times else {}
        found = self.existing[instance_id]
        self.existing[instance_id] = attrs.evolve(found, state=InstanceState.RUNNING, reason="", **times)

    def end(self, instance_id: str, reason: str = "") -> None:
        found = self.existing.pop(instance_id)
        times = {"ended_at": self._loop.now()} if self.names_times else {}
        self.ended[instance_id] = attrs.evolve(found, state=InstanceState.TERMINATED, reason=reason, **times)

    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        shown = super().instances(job_id)
        return (*shown, *self.ended.values()) if include_terminated and self.remembers else shown

    def terminate(self, instance_ids: Sequence[str]) -> None:
        for instance_id in set(instance_ids) & self.existing.keys():
            self.end(instance_id)


@pytest.fixture
def compute(loop) -> Scheduler:
    return Scheduler(loop)


def run(loop, controller, *steps: tuple[timedelta, Callable[[], object]], until: timedelta) -> JobPhase:
    """Run a controller, with something to do at some times after its start, and stop it."""
    for after, step in steps:
        loop.later(after, step)
    loop.later(until, lambda: controller.stop(StopMode.TERMINATE))
    return controller.run()


def test_controller_keeps_a_job_that_waits_for_hours_and_books_nothing(
    loop, store, compute, make_controller, capsys
) -> None:
    shown: list[object] = []

    def look() -> None:
        shown.append(sorted(compute.existing))
        shown.append(store.spending(loop.now()))
        shown.append({record.shown_state for record in store.instances()})

    assert run(loop, make_controller(), (timedelta(hours=5), look), until=timedelta(hours=5.01)) is JobPhase.STOPPED
    assert shown == [["i-1", "i-2"], Money(0), {"pending (Resources)"}]
    output = capsys.readouterr().out
    assert "2 instances are pending (Resources)" in output
    assert "Requested on-demand instance 'i-1' in zone 'z-a'; it is pending (Resources)" in output
    assert "Provisioned 0 of 2 requested instances: 2 pending" in output
    assert "Started" not in output
    assert compute.existing == {}
    assert store.spending(loop.now() + timedelta(hours=1)) == Money(0)


@pytest.mark.parametrize("names_times", [True, False])
def test_controller_counts_start_up_time_and_lifetime_from_the_start(
    loop, store, compute, events, make_controller, names_times
) -> None:
    compute.names_times = names_times
    controller = make_controller(max_lifetime=timedelta(hours=2), limits=Limits(max_instances=1), own_end=timedelta(0))
    begin, checked = timedelta(hours=5, seconds=30), []

    def check() -> None:
        (record,) = store.instances()
        slack = timedelta(0) if names_times else timedelta(seconds=60)
        checked.append(abs(record.deadline - compute.started["i-1"] - timedelta(hours=2)) <= slack)
        booked = timedelta(hours=float(store.spending(loop.now()).usd) / 0.25)
        running = loop.now() - compute.started["i-1"]
        checked.append(running - timedelta(seconds=1) <= booked <= running + slack)

    run(
        loop,
        controller,
        (begin, lambda: compute.start("i-1")),
        (begin + timedelta(minutes=9), lambda: events.inbox.append(message(completed_by("i-1", 1, loop.now())))),
        (begin + timedelta(minutes=12), check),
        until=begin + timedelta(minutes=13),
    )
    assert checked == [True, True]
    assert len(compute.launched) == 1


def test_controller_replaces_a_started_instance_without_heartbeat(
    loop, store, compute, make_controller, capsys
) -> None:
    begin = timedelta(hours=5)
    phase = run(
        loop,
        make_controller(limits=Limits(max_instances=1)),
        (begin, lambda: compute.start("i-1")),
        until=begin + timedelta(minutes=12),
    )
    assert phase is JobPhase.STOPPED
    assert len(compute.launched) == 2
    assert store.instances()[0].end_reason.startswith("no heartbeat for")
    assert re.search(
        r"Started on-demand instance 'i-1' in zone 'z-a', 5h( \d+\w)? after its request", capsys.readouterr().out
    )


def test_controller_books_an_instance_until_the_end_that_the_provider_names(
    loop, store, compute, make_controller
) -> None:
    begin = timedelta(seconds=61)
    run(
        loop,
        make_controller(limits=Limits(max_instances=1)),
        (begin, lambda: compute.start("i-1")),
        (begin + timedelta(seconds=20), lambda: compute.end("i-1", reason="TIMEOUT")),
        until=timedelta(minutes=3),
    )
    record = store.instances()[0]
    assert record.ended_at - record.pending_until == timedelta(seconds=20)
    assert record.end_reason.endswith(": TIMEOUT")


def test_controller_books_a_launch_without_answer_whose_instance_has_ended(
    loop, store, compute, make_controller
) -> None:
    compute.effect_before_fault = True
    compute.faults.append(ProviderError("connection lost"))
    controller = make_controller(limits=Limits(max_instances=1), offers=(ranked(),))

    def run_and_end() -> None:
        compute.existing["i-1"] = attrs.evolve(compute.existing["i-1"], started_at=loop.now() - timedelta(seconds=9))
        compute.end("i-1")

    run(loop, controller, (timedelta(seconds=20), run_and_end), until=timedelta(minutes=2))
    record = store.instances()[0]
    assert record.instance_id == "i-1"
    assert record.ended_at - record.pending_until == timedelta(seconds=9)


def test_controller_ends_a_run_whose_requests_are_all_canceled(loop, store, compute, make_controller) -> None:
    compute.before_listing = lambda: [compute.end(name, reason="PartitionTimeLimit") for name in [*compute.existing]]
    controller = make_controller(limits=Limits(max_instances=1))
    assert run(loop, controller, until=timedelta(hours=5)) is JobPhase.ABORTED
    reason = "the last 10 instances were canceled while they were pending: "
    assert controller.reason.startswith(reason)
    assert controller.reason.endswith(": PartitionTimeLimit")
    assert store.spending(loop.now()) == Money(0)


def test_controller_takes_no_unseen_start_for_a_broken_startup_script(loop, compute, make_controller) -> None:
    compute.names_times = compute.remembers = False
    compute.before_listing = lambda: [compute.end(name) for name in [*compute.existing]]
    controller = make_controller(limits=Limits(max_instances=2))
    assert run(loop, controller, until=timedelta(hours=9)) is JobPhase.ABORTED
    assert controller.reason.startswith("the last 10 instances were canceled while they were pending")
