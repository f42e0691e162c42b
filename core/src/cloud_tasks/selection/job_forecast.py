"""Forecast of the duration and cost of a job on one offer, from averages, without simulation.

Invariant, with a test: the fleet of a forecast is within every limit, and no larger than the tasks can fill.
"""

from __future__ import annotations

from datetime import timedelta

import attrs

from cloud_tasks.model import Limits, Money
from cloud_tasks.selection.instance_count import FleetTotals, additional_instances, allowed_instances
from cloud_tasks.selection.ranking import RankedOffer

__all__ = ["Forecast", "forecast"]


@attrs.frozen(kw_only=True)
class Forecast:
    """Fleet, duration and cost of a job on one offer."""

    instances: int | None
    """Number of instances; None if neither a limit nor the number of tasks bounds it."""
    slots: int | None
    """Task slots of all instances together."""
    price_per_hour: Money | None
    """Price of all instances together."""
    duration: timedelta | None = None
    """From the first launch to the end of the last task; None without the number of tasks or the task time."""
    cost: Money | None = None
    """Cost of all instances for the whole duration: an upper bound, since idle instances are terminated earlier."""
    exceeds_total_cost: bool = False
    """Whether ``max_total_cost`` would stop the job."""


def forecast(
    ranked: RankedOffer,
    limits: Limits,
    *,
    tasks: int | None,
    task_time: timedelta | None = None,
    boot_time: timedelta = timedelta(0),
) -> Forecast:
    """Return the forecast of a job on instances of one offer.

    Args:
        tasks: Number of tasks; None if unknown, for as many instances as the limits allow.
        task_time: Mean duration of a task; None if unknown.
        boot_time: Time from a launch to the start of the first task on the instance.
    """
    if tasks is None:
        instances = allowed_instances(limits, ranked)
    else:
        instances = additional_instances(limits=limits, ranked=ranked, remaining_tasks=tasks, current=FleetTotals())
    if instances is None:
        return Forecast(instances=None, slots=None, price_per_hour=None)
    slots, price = instances * ranked.slots, ranked.offer.price_per_hour * instances
    found = Forecast(instances=instances, slots=slots, price_per_hour=price)
    if tasks is None or task_time is None or (tasks and not slots):
        return found
    if not tasks:
        return attrs.evolve(found, duration=timedelta(0), cost=Money.zero())
    waves = -(-tasks // slots)
    duration = boot_time + task_time * waves
    cost = price * (duration.total_seconds() / 3600)
    limit = limits.max_total_cost
    return attrs.evolve(found, duration=duration, cost=cost, exceeds_total_cost=limit is not None and cost > limit)
