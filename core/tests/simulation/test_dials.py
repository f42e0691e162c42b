"""Each dial of the simulated cloud: the controller holds its invariants, and the monitor detects a planted defect."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import attrs
import pytest
from simulated_cloud import DIALS, OFF, InvariantViolation, Parts, Simulation, dial_scenario, draw_scenario
from simulated_cloud.bill import Bill
from simulated_cloud.catalogue import make_prices
from simulated_cloud.cloud import EndCause, SimulatedCloud
from simulated_cloud.dials.dial import Window
from simulated_cloud.dials.money import MoneyFaults
from simulated_cloud.scenario import Scenario
from virtual_loop import VirtualLoop

from cloud_tasks.controller.autoscaler import reconciler
from cloud_tasks.controller.autoscaler.actions import Abort, Action, Terminate
from cloud_tasks.controller.autoscaler.decide import decide
from cloud_tasks.controller.autoscaler.fleet import Fleet
from cloud_tasks.controller.autoscaler.observe import StateBuilder
from cloud_tasks.controller.autoscaler.rules import launches
from cloud_tasks.controller.autoscaler.rules.fleet_view import FleetView
from cloud_tasks.controller.autoscaler.state import FleetInstance, Observation
from cloud_tasks.controller.controller import Controller
from cloud_tasks.controller.event_loop import sleep
from cloud_tasks.controller.messaging.enqueuer import TaskEnqueuer
from cloud_tasks.controller.messaging.event_collector import EventCollector
from cloud_tasks.controller.messaging.queue_recovery import QueueRecovery
from cloud_tasks.model import Instance, InstanceState, InstanceType, JobPhase, Money
from cloud_tasks.plugin import Compute
from cloud_tasks.store import Store

HOUR = timedelta(hours=1)


def test_dials_that_are_off_exist():
    assert set(OFF) <= {dial.name for dial in DIALS}
    assert len({dial.name for dial in DIALS}) == len(DIALS)


@pytest.mark.parametrize("name", [dial.name for dial in DIALS if dial.name not in OFF])
@pytest.mark.parametrize("seed", range(3))
def test_controller_holds_its_invariants_with_each_dial(name, seed, tmp_path):
    result = Simulation(dial_scenario(name, seed, tasks=100), tmp_path).run()
    assert result.outcomes[-1:] in ((JobPhase.COMPLETE,), ())


def test_drawn_scenario_has_no_dial_that_is_off_except_by_name():
    drawn = [draw_scenario(seed) for seed in range(200)]
    assert set().union(*(scenario.dials for scenario in drawn)) == {dial.name for dial in DIALS} - set(OFF)
    for name in OFF:
        assert any(name in draw_scenario(seed, dials=[name]).dials for seed in range(50))


def detect(name: str, folder: Path, parts: Parts | None = None, *, seeds: int = 12) -> str:
    """Return the violation that a defect causes in the scenarios of a dial, at the first seed that shows it."""
    return violation_of(lambda seed: dial_scenario(name, seed, tasks=100), folder, parts, seeds=seeds)


def violation_of(
    scenarios: Callable[[int], Scenario], folder: Path, parts: Parts | None = None, *, seeds: int = 12
) -> str:
    """Return the violation that a defect causes in these scenarios, at the first seed that shows it."""
    for seed in range(seeds):
        try:
            Simulation(scenarios(seed), folder, parts=parts).run()
        except InvariantViolation as violation:
            return str(violation)
    raise AssertionError(f"defect not detected in {seeds} seeds")


def replace_decision(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Observation, Sequence[Action]], Sequence[Action]]
) -> None:
    """Change what the controller decides."""
    monkeypatch.setattr(reconciler, "decide", lambda seen: tuple(change(seen, decide(seen))))


class LaunchesForEver(Fleet):
    """Fleet that gives its instances no maximum lifetime."""

    def __init__(self, *arguments: Any, compose: Any, **options: Any) -> None:
        def without_lifetime(*of: Any, **by: Any) -> Any:
            return attrs.evolve(compose(*of, **by), max_lifetime=None)

        super().__init__(*arguments, compose=without_lifetime, **options)


# -- clocks ------------------------------------------------------------------------------------------------------------


def judge_by_an_earlier_heartbeat(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    """Take heartbeats for older than they are, as one does who compares two clocks."""
    original = StateBuilder.observe

    def observe(self: StateBuilder, *arguments: Any, **options: Any) -> Observation:
        seen = original(self, *arguments, **options)
        fleet = seen.fleet and tuple(
            attrs.evolve(i, last_heartbeat=i.last_heartbeat and i.last_heartbeat - by) for i in seen.fleet
        )
        return attrs.evolve(seen, fleet=fleet)

    monkeypatch.setattr(StateBuilder, "observe", observe)
    monkeypatch.setattr(EventCollector, "events_read_since", property(lambda self: self._reading_since))


@pytest.mark.parametrize("name", ["controller clock", "worker clocks", "clock jumps"])
def test_monitor_detects_silence_that_is_the_difference_of_two_clocks(name, tmp_path, monkeypatch):
    judge_by_an_earlier_heartbeat(monkeypatch, HOUR)
    assert detect(name, tmp_path).startswith(("6:", "3:"))


def with_lost_answers(seed: int) -> Scenario:
    """Return a scenario in which the answers of many calls are lost, so that the queue hides what was in them."""
    scenario = dial_scenario("worker clocks", seed, tasks=100)
    return attrs.evolve(scenario, faults=attrs.evolve(scenario.faults, call_times_out=0.2, delayed=0.2))


def test_monitor_detects_silence_of_instances_whose_events_were_applied(tmp_path, monkeypatch):
    judge_by_an_earlier_heartbeat(monkeypatch, HOUR)
    assert violation_of(with_lost_answers, tmp_path).startswith("6:")


class ReadsNothing(EventCollector):
    """Event collector that stops to receive after a while, and takes the queue for read."""

    def _receive_now(self) -> None:
        self._rounds = getattr(self, "_rounds", 0) + 1
        if self._rounds < 20:
            super()._receive_now()
        else:
            self._last_answer = self._loop.now()
            self._loop.later(timedelta(seconds=20), self._receive_now)


def test_monitor_detects_silence_of_instances_whose_events_wait_in_the_queue(tmp_path):
    assert violation_of(with_lost_answers, tmp_path, Parts(collector=ReadsNothing)).startswith("6:")


class BooksByTheCloudsClock(Fleet):
    """Fleet that subtracts the difference of the cloud's clock from the time of an end."""

    def record_ended(self, instance_id: str, when: Any, reason: str, *, ended_at: Any = None) -> None:
        super().record_ended(instance_id, when - timedelta(seconds=50), reason, ended_at=ended_at)


def test_monitor_detects_an_end_booked_by_the_clock_of_the_cloud(tmp_path):
    assert detect("cloud clock", tmp_path, Parts(fleet=BooksByTheCloudsClock)).startswith("3:")


# -- calls -------------------------------------------------------------------------------------------------------------


def decide_nothing_without_a_listing(seen: Observation, actions: Sequence[Action]) -> Sequence[Action]:
    return () if seen.fleet is None else actions


def test_monitor_detects_a_budget_that_waits_for_a_listing(tmp_path, monkeypatch):
    replace_decision(monkeypatch, decide_nothing_without_a_listing)
    # Without the lifetimes of the instances, which hold the limit as well.
    assert detect("listing outage", tmp_path, Parts(fleet=LaunchesForEver)).startswith("3:")


class WaitsForItsCalls(LaunchesForEver):
    """Fleet whose listings last an hour, and whose instances have no maximum lifetime."""

    async def list(self) -> Sequence[Instance] | None:
        await sleep(self._loop, HOUR)
        return await super().list()


def test_monitor_detects_a_budget_that_waits_for_a_slow_call(tmp_path, monkeypatch):
    replace_decision(monkeypatch, decide_nothing_without_a_listing)
    # The late answer is taken for the present.
    monkeypatch.setattr(reconciler, "_MAX_AGE", 24 * HOUR)
    assert detect("slow call", tmp_path, Parts(fleet=WaitsForItsCalls)).startswith("3:")


@pytest.mark.parametrize("name", ["slow call", "listing outage"])
def test_monitor_detects_an_abort_for_a_cost_that_nothing_explains(name, tmp_path, monkeypatch):
    original = Store.spending
    monkeypatch.setattr(Store, "spending", lambda self, now: original(self, now) * 4)
    assert detect(name, tmp_path).startswith("8: the run was aborted without a cause: cost limit reached")


class GivesUpAtOnce(TaskEnqueuer):
    """Enqueuer that takes every error for a permanent one."""

    def _after_error(self, error: Exception) -> None:
        self._unsendable = f"tasks cannot be sent to the queue: {error}"
        self._after_batch()


def test_monitor_detects_a_run_that_expired_credentials_end(tmp_path):
    assert detect("expired credentials", tmp_path, Parts(enqueuer=GivesUpAtOnce), seeds=60).startswith("8:")


def keep_silent_instances(seen: Observation, actions: Sequence[Action]) -> Sequence[Action]:
    silent = (Terminate, Abort)
    return [each for each in actions if not (isinstance(each, silent) and "no heartbeat" in each.reason)]


@pytest.mark.parametrize("name", ["expired worker credentials", "scripts without worker", "restarts"])
def test_monitor_detects_instances_without_heartbeat_that_are_kept(name, tmp_path, monkeypatch):
    replace_decision(monkeypatch, keep_silent_instances)
    assert detect(name, tmp_path).startswith("10:")


def test_monitor_detects_a_run_that_a_late_queue_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(QueueRecovery, "request", lambda self: self._on_broken("a queue of the job was deleted"))
    assert detect("late queues", tmp_path).startswith("8:")


def test_monitor_detects_a_setup_that_an_error_of_a_termination_ends(tmp_path, monkeypatch):
    def terminate_twice(
        compute: Compute, find: Callable[[], Sequence[Instance]], *, sleep: Callable[[float], None], **_: Any
    ) -> Sequence[Instance]:
        found = find()
        for _round in range(2):
            compute.terminate([instance.instance_id for instance in found])
            sleep(60)
        return found

    monkeypatch.setattr("cloud_tasks.controller.setup.resources.terminate_instances", terminate_twice)
    assert detect("hidden ends", tmp_path).startswith("8:")


def test_monitor_detects_instances_of_a_silent_zone_that_are_taken_for_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(SimulatedCloud, "needs_silent_zone", lambda self: False)
    assert detect("silent zone", tmp_path).startswith("2:")


# -- launches ----------------------------------------------------------------------------------------------------------


def test_monitor_detects_a_run_that_waits_for_ever_while_every_launch_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Controller, "_abort", lambda self, abort: None)
    assert detect("endless refusals", tmp_path).startswith("10: every launch is refused")


def take_preemptions_for_failed_starts(seen: Observation, actions: Sequence[Action]) -> Sequence[Action]:
    ended = [i for i in seen.fleet or () if i.recorded and i.state is None and i.last_heartbeat is None]
    return [Abort(reason="2 instances exited before the worker started")] if len(ended) > 1 else actions


def test_monitor_detects_preempted_instances_that_count_as_failed_starts(tmp_path, monkeypatch):
    replace_decision(monkeypatch, take_preemptions_for_failed_starts)
    assert detect("preemption at boot", tmp_path).startswith("8:")


def ignore_pending_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the instances that run, and not those that were launched."""
    original: Callable[[FleetView], list[FleetInstance]] = vars(FleetView)["held"].func

    def running(self: FleetView) -> list[FleetInstance]:
        waiting = (InstanceState.PENDING, InstanceState.STARTING)
        return [each for each in original(self) if each.state not in waiting]

    monkeypatch.setattr(FleetView, "held", property(running))


def test_monitor_detects_pending_instances_that_count_for_nothing(tmp_path, monkeypatch):
    ignore_pending_instances(monkeypatch)
    assert detect("pending instances", tmp_path).startswith(("3: instances", "4:"))


def terminate_pending(seen: Observation, actions: Sequence[Action]) -> Sequence[Action]:
    waiting = [i.instance_id for i in seen.fleet or () if i.state is InstanceState.PENDING]
    silent = [Terminate(instance_id=each, reason="no heartbeat for 10m") for each in waiting if each is not None]
    return [*actions, *silent]


def test_monitor_detects_pending_instances_that_are_terminated_for_missing_heartbeats(tmp_path, monkeypatch):
    replace_decision(monkeypatch, terminate_pending)
    assert detect("pending instances", tmp_path).startswith("6:")


class SeesNoRemains(Fleet):
    """Fleet that takes a stopped instance for one that is gone."""

    async def list(self) -> Sequence[Instance] | None:
        listing = await super().list()
        return listing and [each for each in listing if each.state is not InstanceState.STOPPED]


def test_monitor_detects_remains_that_are_not_removed(tmp_path):
    assert detect("remains", tmp_path, Parts(fleet=SeesNoRemains)).startswith("2:")


# -- money -------------------------------------------------------------------------------------------------------------


def book_the_first_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decide as if the instances cost what they cost at the start."""
    monkeypatch.setattr(Store, "raise_prices", lambda *of, **by: None, raising=False)


def test_monitor_detects_a_budget_that_is_kept_at_the_prices_of_the_start(tmp_path, monkeypatch):
    book_the_first_prices(monkeypatch)
    assert detect("moving prices", tmp_path).startswith("3:")


def test_monitor_detects_a_budget_without_the_charges_beside_the_machine(tmp_path, monkeypatch):
    address = Money("0.05")
    original = Store.spending

    def spending(self: Store, now: Any) -> Money:
        hours = sum(((r.ended_at or now) - r.intended_at for r in self.instances()), timedelta(0)) / HOUR
        return original(self, now) - address * hours

    monkeypatch.setattr(Store, "spending", spending)
    assert detect("addresses", tmp_path).startswith("3:")


def test_monitor_detects_a_burstable_type_that_nobody_named(tmp_path, monkeypatch):
    original = SimulatedCloud.instance_types

    def without_shares(self: SimulatedCloud) -> Sequence[InstanceType]:
        return [attrs.evolve(each, sustained_cpu=1.0) for each in original(self)]

    monkeypatch.setattr(SimulatedCloud, "instance_types", without_shares)
    assert detect("burstable types", tmp_path).startswith("3: burst-")


def price_without(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Rank and book at prices without some of the charges."""

    def known_prices(faults: Callable[[], MoneyFaults], elapsed: Callable[[], timedelta]) -> Any:
        return make_prices(lambda: attrs.evolve(faults(), **changes), elapsed)

    monkeypatch.setattr("simulated_cloud.world.make_prices", known_prices)


def test_monitor_detects_a_budget_without_surplus_credits(tmp_path, monkeypatch):
    price_without(monkeypatch, surplus=Money.zero())
    assert detect("surplus credits", tmp_path).startswith("3:")


def test_monitor_detects_a_budget_for_disks_of_the_configured_size(tmp_path, monkeypatch):
    monkeypatch.setattr("simulated_cloud.world.fit_disk", lambda wanted, image: wanted)
    assert detect("image disks", tmp_path).startswith("3:")


# -- parties -----------------------------------------------------------------------------------------------------------


def test_monitor_detects_instances_that_outlive_their_controller(tmp_path):
    assert detect("dead controller", tmp_path, Parts(fleet=LaunchesForEver)).startswith(("10:", "3:"))


def with_pending_instances(seed: int) -> Scenario:
    """Return a scenario whose controller dies while instances are pending that the provider shows as such."""
    scenario = dial_scenario("dead controller", seed, tasks=100)
    pending = attrs.evolve(scenario.faults.launches, pending=1.0, shows_pending=True)
    limits = attrs.evolve(scenario.limits, max_total_cost=None)
    return attrs.evolve(scenario, limits=limits, faults=attrs.evolve(scenario.faults, launches=pending))


def test_instances_that_are_pending_when_their_controller_dies_end_after_their_lifetime(tmp_path):
    for seed in range(4):
        Simulation(with_pending_instances(seed), tmp_path).run()


def test_monitor_detects_pending_instances_that_outlive_their_controller(tmp_path):
    parts = Parts(fleet=LaunchesForEver)
    assert violation_of(with_pending_instances, tmp_path, parts).startswith("10: sim-")


def test_monitor_detects_lifetimes_that_ignore_the_budget(tmp_path, monkeypatch):
    monkeypatch.setattr(launches, "lifetime_of", lambda view, price, wanted: (wanted, timedelta(days=1)))
    assert detect("dead controller", tmp_path).startswith("3:")


def test_monitor_detects_a_job_that_is_continued_in_another_place(tmp_path, monkeypatch):
    monkeypatch.setattr("simulated_cloud.driver.check_place", lambda *of, **by: None)
    assert detect("another place", tmp_path).startswith("2:")


class TerminatesWhatItSees(Fleet):
    """Fleet that terminates all that it lists and has not launched."""

    async def list(self) -> Sequence[Instance] | None:
        listing = await super().list()
        known = {record.client_token for record in self._store.instances()}
        for instance in listing or ():
            if instance.client_token not in known:
                self.terminate(instance.instance_id, "unknown")
        return listing


@pytest.mark.parametrize("name", ["second controller", "two controllers"])
def test_monitor_detects_the_termination_of_instances_of_another_owner(name, tmp_path):
    assert detect(name, tmp_path, Parts(fleet=TerminatesWhatItSees)).startswith("9:")


def test_monitor_detects_two_controllers_that_run_beside_each_other(tmp_path, monkeypatch):
    stages = "cloud_tasks.controller.autoscaler.decide._STAGES"
    monkeypatch.setattr(stages, resolve_name(stages)[1:])
    assert detect("two controllers", tmp_path).startswith("9: launched")


# -- the parts ---------------------------------------------------------------------------------------------------------


def test_window_ends_after_its_length_or_with_a_repair():
    limited, endless = Window(begin=HOUR, length=HOUR), Window(begin=HOUR)
    zero = timedelta(0)
    assert [limited.covers(HOUR * n, zero) for n in (0.5, 1, 1.9, 2)] == [False, True, True, False]
    assert [endless.covers(HOUR * n, zero) for n in (0.5, 1, 99)] == [False, True, True]
    assert not endless.covers(HOUR * 3, HOUR * 2)
    assert endless.covers(HOUR * 3, HOUR / 2)


def test_bill_adds_charges_from_their_beginning_to_their_end():
    loop = VirtualLoop()
    bill = Bill(loop.now)
    bill.charge("machine", Money("2"))
    loop.run_for(HOUR)
    bill.charge("machine", Money("3"))
    bill.charge("address", Money("1"))
    assert bill.exceeds_at(Money("6")) == loop.now() + HOUR
    loop.run_for(HOUR)
    bill.charge("machine", Money.zero())
    loop.run_for(HOUR)
    bill.charge("address", Money.zero())
    loop.run_for(HOUR)
    assert bill.total() == Money("7")
    assert bill.peak == 4.0
    assert bill.exceeds_at(Money("8")) > loop.now() + HOUR * 1000


def test_simulated_cloud_names_the_cause_of_each_end(tmp_path):
    simulation = Simulation(dial_scenario("preemption at boot", 0, tasks=50), tmp_path)
    # What the controller makes of it is another matter.
    with contextlib.suppress(InvariantViolation):
        simulation.run()
    cloud = simulation.monitor.cloud
    assert cloud is not None
    causes = {i.end_cause for i in cloud.all_instances.values() if i.ended_at is not None}
    assert EndCause.PREEMPTED in causes


def test_dials_of_a_seed_do_not_depend_on_other_dials():
    alone = draw_scenario(3, dials=["listing outage"])
    together = draw_scenario(3, dials=[dial.name for dial in DIALS])
    assert alone.dials <= together.dials
    assert alone.faults.outages == together.faults.outages
