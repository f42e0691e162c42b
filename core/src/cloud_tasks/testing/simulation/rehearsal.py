"""Rehearsals: a person's own job and offers in the simulated cloud, many seeds, calm but for what is asked for."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import structlog

from cloud_tasks.model import Constraints, Limits, RetryPolicy
from cloud_tasks.selection import RankedOffer
from cloud_tasks.testing.simulation.driver import Simulation, SimulationResult, scratch_folder
from cloud_tasks.testing.simulation.scenario import Faults, Scenario

__all__ = ["rehearse"]

_MEAN_OF_DRAW = math.exp(0.7**2 / 2)
"""Simulated task times are log-normal about a median; this is their mean in terms of it."""


def rehearse(
    seeds: Iterable[int],
    *,
    tasks: int,
    task_time: timedelta,
    offers: tuple[RankedOffer, ...],
    constraints: Constraints,
    limits: Limits,
    spot_lifetime: timedelta | None,
    refused: float,
    spot_fallback: bool,
) -> Iterator[SimulationResult]:
    """Run the job once for each seed, under a virtual clock; the same seed gives the same result.

    Args:
        task_time: Mean of one task; the times are spread about it.
        spot_lifetime: Mean time until a spot instance is taken away; None: never.
        refused: Probability that what is asked for is out of stock.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    for seed in seeds:
        scenario = Scenario(
            seed=seed,
            tasks=tasks,
            faults=Faults(preempted_after=spot_lifetime, refused=refused),
            constraints=constraints,
            limits=limits,
            retry=RetryPolicy(),
            mean_task_time=task_time / _MEAN_OF_DRAW,
            spot_fallback=spot_fallback,
        )
        with scratch_folder() as folder:
            yield Simulation(scenario, Path(folder), offers=offers).run()
