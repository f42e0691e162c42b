"""How long a job would take on one offer, and what it would cost. Pure arithmetic on averages, no simulation.

Invariant, with a test: the fleet of a forecast is within every limit, and never larger than the tasks can fill.
"""

from __future__ import annotations

from datetime import timedelta

import attrs

from cloud_tasks.model import Limits, Money
from cloud_tasks.selection.instance_count import FleetTotals, additional_instances, most_instances
from cloud_tasks.selection.ranking import RankedOffer

__all__ = ["Forecast", "forecast"]


@attrs.frozen(kw_only=True)
class Forecast:
    """What buying one offer comes to."""

    instances: int | None
    """None: no limit holds, and the number of tasks is unknown."""
    slots: int | None
    """Tasks that run at a time."""
    price_per_hour: Money | None
    """Of all instances together."""
    duration: timedelta | None = None
    """From the first launch to the end of the last task; None without the number of tasks or the task time."""
    cost: Money | None = None
    """Of all instances for the whole duration; less in truth, since instances go as the work runs out."""
    exceeds_total_cost: bool = False
    """Whether the job would be stopped by ``max_total_cost`` before its end."""


def forecast(
    ranked: RankedOffer,
    limits: Limits,
    *,
    tasks: int | None,
    task_time: timedelta | None = None,
    boot_time: timedelta = timedelta(0),
) -> Forecast:
    """What a job of so many tasks comes to, on instances of one offer alone.

    Args:
        tasks: None: unknown; as many instances are then counted as the limits allow.
        task_time: Mean of one task.
        boot_time: From a launch to the start of the first task on the instance.
    """
    if tasks is None:
        instances = most_instances(limits, ranked)
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
    most = limits.max_total_cost
    return attrs.evolve(found, duration=duration, cost=cost, exceeds_total_cost=most is not None and cost > most)
