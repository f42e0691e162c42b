"""Rehearsals: the controller's decisions over modelled machines, true to the simulated cloud."""

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

from cloud_tasks.controller.observation import Policy
from cloud_tasks.estimate.durations import TaskDurations
from cloud_tasks.estimate.simulate import CloudModel, CostResult, CostSimulation
from cloud_tasks.model import Constraints, Limits, Money, Purchase, RetryPolicy
from cloud_tasks.selection import rank


def rehearsed(seed: int = 1, *, limits: Limits | None = None, **changes: Any) -> CostResult:
    facts: dict[str, Any] = {
        "tasks": 1000,
        "times": TaskDurations.about(60),
        "offers": (ranked(), ranked(spot=True)),
        "policy": Policy(limits=limits or Limits(max_instances=5)),
        "interval": timedelta(seconds=60),
        "cloud": CloudModel(),
    }
    return CostSimulation(seed, **{**facts, **changes}).run()


def test_the_same_seed_gives_the_same_result() -> None:
    cloud = CloudModel(spot_lifetime=timedelta(minutes=10), refused=0.3)
    spot = (ranked(spot=True), ranked(spot=True, zone="z-b"))
    assert rehearsed(7, cloud=cloud, offers=spot) == rehearsed(7, cloud=cloud, offers=spot)
    assert rehearsed(7, cloud=cloud, offers=spot) != rehearsed(8, cloud=cloud, offers=spot)


def test_tasks_of_one_length_take_as_many_rounds_as_they_must() -> None:
    times = TaskDurations.measured({100.0: 1})
    result = rehearsed(times=times, tasks=80, cloud=CloudModel(boot_time=timedelta(0)))
    assert result.duration == timedelta(seconds=200)  # two rounds on five machines of eight slots
    assert result.instances == 5
    assert result.cost == Money("0.25") * 5 * ((200 + 15) / 3600)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), tasks=st.integers(1, 400), minutes=st.floats(5, 60), refused=st.floats(0, 0.5))
def test_every_task_is_done_whatever_is_taken_away(seed: int, tasks: int, minutes: float, refused: float) -> None:
    # Machines are there at once: none is taken away before it spoke.
    cloud = CloudModel(boot_time=timedelta(0), spot_lifetime=timedelta(minutes=minutes), refused=refused)
    rehearsal = CostSimulation(
        seed,
        tasks=tasks,
        times=TaskDurations.about(30),
        offers=(ranked(spot=True), ranked(spot=True, zone="z-b")),
        policy=Policy(limits=Limits(max_instances=3), max_futile_instances=10_000),
        interval=timedelta(seconds=60),
        cloud=cloud,
    )
    result = rehearsal.run()
    assert result.stopped == ""
    assert sum(machine.finished for machine in rehearsal._machines) == tasks
    assert all(machine.ended is not None for machine in rehearsal._machines)


class TakesWatched(CostSimulation):
    """A simulation that fails when an instance starts a task after its end."""

    def _take(self, machine: Any) -> None:
        before = len(machine.running)
        super()._take(machine)
        assert machine.ended is None or len(machine.running) == before


@pytest.mark.parametrize("seed", [34, 57, *range(10)])
def test_an_interrupted_instance_starts_no_task(seed: int) -> None:
    # In the tail, instances have free slots when another is interrupted; some of them were interrupted just before.
    cloud = CloudModel(boot_time=timedelta(0), spot_lifetime=timedelta(minutes=20))
    result = TakesWatched(
        seed,
        tasks=60,
        times=TaskDurations.about(200, 20),
        offers=(ranked(spot=True), ranked(spot=True, zone="z-b")),
        policy=Policy(limits=Limits(max_instances=8), max_futile_instances=10_000),
        interval=timedelta(seconds=60),
        cloud=cloud,
    ).run()
    assert result.stopped == ""


def test_a_job_that_loses_every_machine_at_once_is_given_up_as_the_controller_would() -> None:
    cloud = CloudModel(spot_lifetime=timedelta(minutes=5))
    result = rehearsed(cloud=cloud, offers=(ranked(spot=True),), times=TaskDurations.measured({7200.0: 1}))
    assert "ended without a single task being finished" in result.stopped


def test_a_cost_limit_stops_it() -> None:
    result = rehearsed(limits=Limits(max_instances=5, max_total_cost=Money("0.50")), tasks=100_000)
    assert "max_total_cost" in result.stopped
    assert result.cost < Money("0.60")


def test_lumps_change_little() -> None:
    single, lumped = (rehearsed(tasks=100_000, batch_size=batch_size) for batch_size in (1, 10))
    assert lumped.duration == pytest.approx(single.duration, rel=0.05)
    assert float(lumped.cost.usd) == pytest.approx(float(single.cost.usd), rel=0.05)


@pytest.mark.parametrize(("purchase", "lifetime"), [(Purchase.ON_DEMAND, None), (Purchase.SPOT, timedelta(minutes=30))])
def test_it_agrees_with_the_simulated_cloud(purchase: Purchase, lifetime: timedelta | None, tmp_path: Path) -> None:
    constraints, limits = Constraints(purchase=purchase, max_cpu=4), Limits(max_instances=6)
    # The simulated worker draws log-normal times about a median, with 0.7 as the deviation of their logarithm.
    mean, deviation = 60.0, 60.0 * math.sqrt(math.exp(0.49) - 1)
    scenario = Scenario(
        seed=0,
        tasks=300,
        faults=Faults(preempted_after=lifetime, refused=0.05),
        constraints=constraints,
        limits=limits,
        retry=RetryPolicy(),
        mean_task_time=timedelta(seconds=mean / math.exp(0.245)),
    )
    offers = rank(catalogue(), constraints, limits, prices).offers
    cloud = CloudModel(boot_time=timedelta(seconds=50), spot_lifetime=lifetime, refused=0.05, parallel_launches=4)
    simulated = [Simulation(attrs.evolve(scenario, seed=seed), tmp_path).run() for seed in range(6)]
    model = [
        rehearsed(
            seed, limits=limits, tasks=300, times=TaskDurations.about(mean, deviation), offers=offers, cloud=cloud
        )
        for seed in range(20)
    ]

    def agree(values: list[float], others: list[float], within: float) -> None:
        assert statistics.mean(values) == pytest.approx(statistics.mean(others), rel=within)

    agree([r.duration.total_seconds() for r in model], [r.duration.total_seconds() for r in simulated], 0.2)
    agree([float(r.cost.usd) for r in model], [float(r.cost.usd) for r in simulated], 0.15)


@given(st.dictionaries(st.floats(0.001, 1e5), st.integers(1, 100), min_size=1, max_size=20))
def test_measured_times_have_their_own_mean_and_deviation(counts: dict[float, int]) -> None:
    values = [value for value, count in counts.items() for _ in range(count)]
    times = TaskDurations.measured(counts)
    assert times.mean == pytest.approx(statistics.fmean(values), rel=1e-6)
    assert times.deviation == pytest.approx(statistics.pstdev(values), rel=1e-6, abs=1e-6)
