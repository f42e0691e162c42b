"""Cost simulation: the controller's decisions on simulated instances, in agreement with the simulated cloud."""

from __future__ import annotations

import math
import statistics
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from controller_fakes import ranked
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_cloud import Faults, Scenario, Simulation
from simulated_cloud.catalogue import catalogue, prices
from simulated_cloud.scenario import RetryPolicy

from cloud_tasks.controller.autoscaler.state import Policy
from cloud_tasks.estimate import CloudModel, CostResult, CostSimulation, TaskDurations
from cloud_tasks.model import Constraints, Limits, Money, ProvisioningModel
from cloud_tasks.selection import rank


def simulated_cost(seed: int = 1, *, limits: Limits | None = None, **changes: Any) -> CostResult:
    facts: dict[str, Any] = {
        "tasks": 1000,
        "durations": TaskDurations.about(60),
        "offers": (ranked(), ranked(spot=True)),
        "policy": Policy(limits=limits or Limits(max_instances=5)),
        "interval": timedelta(seconds=60),
        "cloud": CloudModel(),
    }
    return CostSimulation(seed, **{**facts, **changes}).run()


def test_cost_simulation_of_the_same_seed_gives_the_same_result() -> None:
    cloud = CloudModel(spot_lifetime=timedelta(minutes=10), refused=0.3)
    spot = (ranked(spot=True), ranked(spot=True, zone="z-b"))
    assert simulated_cost(7, cloud=cloud, offers=spot) == simulated_cost(7, cloud=cloud, offers=spot)
    assert simulated_cost(7, cloud=cloud, offers=spot) != simulated_cost(8, cloud=cloud, offers=spot)


def test_cost_simulation_of_tasks_of_one_duration_takes_the_minimum_number_of_rounds() -> None:
    durations = TaskDurations.measured({100.0: 1})
    result = simulated_cost(durations=durations, tasks=80, cloud=CloudModel(boot_time=timedelta(0)))
    assert result.duration == timedelta(seconds=200)  # two rounds on five instances of eight slots
    assert result.instances == 5
    assert result.cost == Money("0.25") * 5 * ((200 + 15) / 3600)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), tasks=st.integers(1, 400), minutes=st.floats(5, 60), refused=st.floats(0, 0.5))
def test_cost_simulation_completes_every_task_despite_interruptions(
    seed: int, tasks: int, minutes: float, refused: float
) -> None:
    # Instances boot at once: none is interrupted before it runs.
    cloud = CloudModel(boot_time=timedelta(0), spot_lifetime=timedelta(minutes=minutes), refused=refused)
    simulation = CostSimulation(
        seed,
        tasks=tasks,
        durations=TaskDurations.about(30),
        offers=(ranked(spot=True), ranked(spot=True, zone="z-b")),
        policy=Policy(limits=Limits(max_instances=3), max_instances_without_progress=10_000),
        interval=timedelta(seconds=60),
        cloud=cloud,
    )
    result = simulation.run()
    assert result.stopped == ""
    assert sum(instance.finished for instance in simulation._instances) == tasks
    assert all(instance.ended_at is not None for instance in simulation._instances)


class StartsWatched(CostSimulation):
    """A simulation that fails when an instance starts a task after its end."""

    def _start_tasks(self, instance: Any) -> None:
        before = len(instance.running)
        super()._start_tasks(instance)
        assert instance.ended_at is None or len(instance.running) == before


@pytest.mark.parametrize("seed", [34, 57, *range(10)])
def test_cost_simulation_starts_no_task_on_an_interrupted_instance(seed: int) -> None:
    # In the tail, instances have free slots when another is interrupted; some of them were interrupted just before.
    cloud = CloudModel(boot_time=timedelta(0), spot_lifetime=timedelta(minutes=20))
    result = StartsWatched(
        seed,
        tasks=60,
        durations=TaskDurations.about(200, 20),
        offers=(ranked(spot=True), ranked(spot=True, zone="z-b")),
        policy=Policy(limits=Limits(max_instances=8), max_instances_without_progress=10_000),
        interval=timedelta(seconds=60),
        cloud=cloud,
    ).run()
    assert result.stopped == ""


def test_cost_simulation_stops_a_job_whose_instances_are_all_interrupted() -> None:
    cloud = CloudModel(spot_lifetime=timedelta(minutes=5))
    result = simulated_cost(cloud=cloud, offers=(ranked(spot=True),), durations=TaskDurations.measured({7200.0: 1}))
    assert "preempted before any task finished" in result.stopped


def test_cost_simulation_stops_at_the_cost_limit() -> None:
    result = simulated_cost(limits=Limits(max_instances=5, max_total_cost=Money("0.50")), tasks=100_000)
    assert "max_total_cost" in result.stopped
    assert result.cost < Money("0.60")


def test_cost_simulation_in_batches_changes_little() -> None:
    single, batched = (simulated_cost(tasks=100_000, batch_size=batch_size) for batch_size in (1, 10))
    assert batched.duration == pytest.approx(single.duration, rel=0.05)
    assert float(batched.cost.usd) == pytest.approx(float(single.cost.usd), rel=0.05)


@pytest.mark.parametrize(
    ("provisioning_model", "lifetime"),
    [(ProvisioningModel.ON_DEMAND, None), (ProvisioningModel.SPOT, timedelta(minutes=30))],
)
def test_cost_simulation_agrees_with_the_simulated_cloud_on_one_cloud_model(
    provisioning_model: ProvisioningModel, lifetime: timedelta | None, tmp_path: Path
) -> None:
    constraints, limits = Constraints(provisioning_model=provisioning_model, max_cpu=4), Limits(max_instances=6)
    # The simulated worker draws log-normal times about a median, with 0.7 as the deviation of their logarithm.
    mean, deviation = 60.0, 60.0 * math.sqrt(math.exp(0.49) - 1)
    cloud = Faults(spot_lifetime=lifetime, refused=0.05)
    scenario = Scenario(
        seed=0,
        tasks=300,
        faults=cloud,
        constraints=constraints,
        limits=limits,
        retry=RetryPolicy(),
        mean_task_time=timedelta(seconds=mean / math.exp(0.245)),
    )
    job: dict[str, Any] = {
        "limits": limits,
        "tasks": 300,
        "durations": TaskDurations.about(mean, deviation),
        "offers": rank(catalogue(), constraints, limits, prices).offers,
        "cloud": cloud,
        "parallel_launches": scenario.max_parallel_launches,
    }
    simulated = [Simulation(attrs.evolve(scenario, seed=seed), tmp_path).run() for seed in range(6)]
    model = [simulated_cost(seed, **job) for seed in range(20)]

    def agree(values: list[float], others: list[float], within: float) -> None:
        assert statistics.mean(values) == pytest.approx(statistics.mean(others), rel=within)

    agree([r.duration.total_seconds() for r in model], [r.duration.total_seconds() for r in simulated], 0.2)
    agree([float(r.cost.usd) for r in model], [float(r.cost.usd) for r in simulated], 0.15)


@given(st.dictionaries(st.floats(0.001, 1e5), st.integers(1, 100), min_size=1, max_size=20))
def test_task_durations_measured_have_their_own_mean_and_deviation(counts: dict[float, int]) -> None:
    values = [value for value, count in counts.items() for _ in range(count)]
    durations = TaskDurations.measured(counts)
    assert durations.mean == pytest.approx(statistics.fmean(values), rel=1e-6)
    assert durations.deviation == pytest.approx(statistics.pstdev(values), rel=1e-6, abs=1e-6)
