"""The controller dies at any point and never returns: every instance ends, and the budget holds."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import attrs
import pytest
from simulated_cloud import Simulation
from simulated_cloud.catalogue import catalogue, prices
from simulated_cloud.scenario import Scenario, draw_scenario

from cloud_tasks.controller.autoscaler.rules import launches
from cloud_tasks.model import InstanceState, JobPhase, Limits, Money
from cloud_tasks.selection import rank

_DAYS = timedelta(days=2)


def scenario_of(seed: int, limit: Money | None) -> Scenario:
    """Draw a job whose only crash is the last one; its tasks need more than the budget."""
    drawn = draw_scenario(seed, min_tasks=3000, max_tasks=4000)
    faults = attrs.evolve(
        drawn.faults, sleeps=0, interrupts=0, unmanaged_instances=0, earlier_run=False, errors=0, remains=0.0
    )
    return attrs.evolve(
        drawn,
        faults=faults,
        limits=Limits(max_instances=drawn.limits.max_instances, max_total_cost=limit),
        mean_task_time=timedelta(minutes=2),
        max_lifetime=drawn.max_lifetime if limit is not None else timedelta(days=1),
        max_runtime=timedelta(minutes=20),
    )


class Abandoned(Simulation):
    """A job whose controller is killed, and never started again."""

    def run_until_all_ended(self) -> JobPhase | None:
        scenario = self._scenario
        self._offers = rank(
            catalogue(), scenario.constraints, scenario.limits, prices, spot_fallback=scenario.spot_fallback
        ).offers
        self._controller_runs, self._controller = False, None
        while not self._path.exists():
            self._set_up()
        outcome = self._run_once()
        self._world.loop.run_for(_DAYS)
        return outcome

    def left(self) -> list[str]:
        # Spot instances that the provider stopped are not billed as running ones; `cleanup` removes their disks.
        return [i.instance_id for i in self._world.cloud.existing() if i.state is not InstanceState.STOPPED]

    def cost(self) -> Money:
        return self._world.cloud.cost()

    def peak_price(self) -> Money:
        return self.monitor._peak_price


def cost_and_maximum(seed: int, folder: Path) -> tuple[Money, Money, list[str]]:
    """Return what a job with a budget costs after its controller died, what it may cost, and the instances left."""
    limit = Money("1.50")
    scenario = scenario_of(seed, limit)
    simulation = Abandoned(scenario, folder, crash_after=200 * (seed + 1))
    assert simulation.run_until_all_ended() in (None, JobPhase.ABORTED)
    # Between the request of an instance and its start, and during its shutdown, it is billed beyond its lifetime.
    interval = (scenario.scaling_check_interval + timedelta(minutes=3)).total_seconds() / 3600
    return simulation.cost(), limit + simulation.peak_price() * interval, simulation.left()


@pytest.mark.parametrize("seed", range(12))
def test_dead_controller_leaves_no_instance_and_keeps_the_budget(seed: int, tmp_path: Path) -> None:
    cost, maximum, left = cost_and_maximum(seed, tmp_path)
    assert left == []
    assert cost <= maximum


def test_simulation_detects_lifetimes_that_ignore_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launches, "lifetime_of", lambda view, price, wanted: (wanted, timedelta(days=1)))
    cost, maximum, _ = cost_and_maximum(5, tmp_path)
    assert cost > maximum


@pytest.mark.parametrize("seed", range(3))
def test_dead_controller_without_a_budget_leaves_no_instance_after_a_day(seed: int, tmp_path: Path) -> None:
    simulation = Abandoned(scenario_of(seed, None), tmp_path, crash_after=300)
    simulation.run_until_all_ended()
    assert simulation.left() == []
