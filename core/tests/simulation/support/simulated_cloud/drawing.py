"""Scenarios drawn from one seed: job, limits, faults of random strength, and dials."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from datetime import timedelta

import attrs

from cloud_tasks.model import Constraints, Limits, Money, ProvisioningModel
from simulated_cloud.dials import DIALS, OFF, Dial, dial
from simulated_cloud.faults import Faults
from simulated_cloud.scenario import RetryPolicy, Scenario

__all__ = ["dial_scenario", "draw_scenario"]

_MAX_WORK = 40_000
"""Maximum total task time of a drawn job, in seconds."""
_BOUNDED = "dead controller"
"""Dial whose promise, lifetimes that follow the budget, holds without it too."""


def draw_scenario(seed: int, *, min_tasks: int = 200, max_tasks: int = 2000, dials: Collection[str] = ()) -> Scenario:
    """Draw a job with faults of random strength.

    Args:
        dials: Names of dials that are drawn besides those that always are.
    """
    rng = random.Random(f"scenario/{seed}")
    is_spot = rng.random() < 0.6
    faults = _draw_faults(rng)
    # Drawn apart: the other faults of a seed stay the same.
    more = random.Random(f"database/{seed}")
    faults = attrs.evolve(faults, database_locks=more.randint(0, 3), errors=more.randint(0, 2))
    limits = _draw_limits(rng)
    constraints = Constraints(
        provisioning_model=ProvisioningModel.SPOT if is_spot else ProvisioningModel.ON_DEMAND,
        cpus_per_task=rng.choice((1, 1, 2)),
        max_cpu=rng.choice((None, 8)),
    )
    scenario = _draw_job(rng, seed, rng.randint(min_tasks, max_tasks), faults, constraints, limits)
    for each in DIALS:
        own = random.Random(f"{each.name}/{seed}")
        if (each.name not in OFF or each.name in dials) and own.random() < each.probability:
            scenario = _with_dial(scenario, each, own)
    return attrs.evolve(scenario, bounded_lifetimes=_BOUNDED not in OFF or _BOUNDED in dials)


def dial_scenario(name: str, seed: int, *, tasks: int = 200) -> Scenario:
    """Return a scenario of a calm cloud with one dial."""
    scenario = Scenario(
        seed=seed,
        tasks=tasks,
        faults=Faults(),
        constraints=Constraints(provisioning_model=ProvisioningModel.SPOT),
        limits=Limits(max_instances=4),
        retry=RetryPolicy(),
        mean_task_time=timedelta(minutes=3),
        bounded_lifetimes=_BOUNDED not in OFF or name == _BOUNDED,
    )
    return _with_dial(scenario, dial(name), random.Random(f"{name}/{seed}"))


def _with_dial(scenario: Scenario, each: Dial, rng: random.Random) -> Scenario:
    return attrs.evolve(each.turn_on(rng, scenario), dials=scenario.dials | {each.name})


def _chance(rng: random.Random) -> Callable[[float], float]:
    return lambda maximum: rng.choice((0.0, rng.uniform(0, maximum), maximum))


def _draw_faults(rng: random.Random) -> Faults:
    chance = _chance(rng)
    return Faults(
        refused=chance(0.5),
        quota_vcpus=rng.choice((None, None, rng.randint(16, 128))),
        call_fails=chance(0.1),
        call_times_out=chance(0.1),
        partial=chance(0.1),
        listing_lag=timedelta(seconds=rng.choice((0, 0, 5, 30))),
        slow_boot=chance(0.2),
        broken_start=chance(0.2),
        spot_lifetime=timedelta(minutes=rng.uniform(5, 120)),
        preempted_silently=chance(0.5),
        remains=chance(0.5),
        worker_crashes=chance(0.01),
        worker_hangs=chance(0.005),
        lease_lost=chance(0.05),
        duplicated=chance(0.05),
        ack_lost=chance(0.05),
        delayed=chance(0.2),
        garbage=(garbage := chance(0.05)),
        refused_events=garbage,
        outages=rng.randint(0, 3),
        sleeps=rng.randint(0, 2),
        unmanaged_instances=rng.randint(0, 2),
        crashes=rng.randint(0, 6),
        interrupts=rng.randint(0, 2),
        earlier_run=rng.random() < 0.3,
    )


def _draw_limits(rng: random.Random) -> Limits:
    return Limits(
        max_instances=rng.choice((rng.randint(1, 4), rng.randint(5, 20))),
        max_total_cpus=rng.choice((None, rng.randint(8, 200))),
        max_simultaneous_tasks=rng.choice((None, rng.randint(8, 100))),
        max_total_price_per_hour=rng.choice((None, Money(round(rng.uniform(0.5, 10), 2)))),
        max_total_cost=rng.choice((None, None, Money(round(rng.uniform(0.05, 1), 2)))),
    )


def _draw_job(
    rng: random.Random, seed: int, tasks: int, faults: Faults, constraints: Constraints, limits: Limits
) -> Scenario:
    chance = _chance(rng)
    retries = {f"on_{kind}": rng.random() < 0.5 for kind in ("exit", "exception", "timeout")}
    return Scenario(
        seed=seed,
        tasks=tasks,
        faults=faults,
        constraints=constraints,
        limits=limits,
        retry=RetryPolicy(**retries, max_attempts=rng.randint(1, 4)),
        # Many tasks are short, so that no job takes days.
        mean_task_time=timedelta(seconds=min(rng.choice((3, 20, 60, 200)), _MAX_WORK / tasks)),
        exception=chance(0.1),
        timeout=chance(0.02),
        exit=chance(0.02),
        requests_retry=chance(0.05),
        spot_fallback=rng.random() < 0.5,
        canary=rng.random() < 0.2,
        exact_depth=rng.random() < 0.5,
        scaling_check_interval=timedelta(seconds=rng.choice((10, 30, 60, 60))),
        idle_limit=timedelta(minutes=rng.choice((5, 15, 60))),
        max_lifetime=rng.choice((None, timedelta(days=1), timedelta(hours=rng.randint(1, 6)))),
        latency=timedelta(milliseconds=rng.choice((50, 500, 2000))),
        max_parallel_launches=rng.randint(1, 10),
        event_wait=timedelta(seconds=rng.choice((5, 10, 20))),
    )
