"""Rules about the limit on the total cost, ``max_total_cost``.

Invariant, with a test: the cost exceeds the limit by no more than one pass costs. Before that, no instance is launched
that the rest of the budget does not cover, and no task is started that the limit would interrupt.
"""

from __future__ import annotations

from datetime import timedelta

from cloud_tasks.controller.autoscaler.actions import Abort, Action, Drain, Terminate
from cloud_tasks.controller.autoscaler.rules.fleet_view import FleetView
from cloud_tasks.controller.autoscaler.rules.surplus import is_idle
from cloud_tasks.controller.autoscaler.state import FleetInstance, Observation
from cloud_tasks.model import Money

__all__ = [
    "abort_drained",
    "abort_over_budget",
    "budget_used_up",
    "drain",
    "drain_time",
    "limit_reached",
    "terminate_drained",
]


def budget_used_up(seen: Observation, *, needed: Money | None = None) -> Abort:
    """Return the end of a run whose budget pays for no more instances.

    Args:
        needed: Minimum cost of another instance; None: none is wanted.
    """
    reason = limit_reached(seen.accrued_cost, seen.policy.limits.max_total_cost, needed)
    return Abort(reason=reason, show_console=False)


def limit_reached(spent: Money, limit: Money | None, needed: Money | None = None) -> str:
    """Return why a run with this cost ends."""
    more = "" if needed is None else f", another instance needs at least {needed}"
    return f"cost limit reached: {spent} of {limit} spent (max_total_cost){more}; raise it to resume the job"


def abort_over_budget(view: FleetView) -> list[Action]:
    """Abort at the limit, whatever runs."""
    seen = view.observation
    limit = seen.policy.limits.max_total_cost
    return [] if limit is None or seen.accrued_cost < limit else [budget_used_up(seen)]


def drain_time(seen: Observation) -> timedelta:
    """Return how long before the limit no more tasks are started: the mean task time, as far as it is known."""
    return seen.task_time or timedelta(0)


def drain(view: FleetView) -> list[Action]:
    """Stop starting tasks once the limit would interrupt tasks that start now."""
    seen = view.observation
    limit, span = seen.policy.limits.max_total_cost, drain_time(seen)
    if limit is None or seen.draining or not span or not view.alive:
        return []
    price = sum((i.price_per_hour for i in view.alive), Money.zero())
    if seen.accrued_cost + price * (span.total_seconds() / 3600) < limit:
        return []
    return [Drain(reason=f"{seen.accrued_cost} of {limit} spent (max_total_cost); the rest is for running tasks")]


def terminate_drained(view: FleetView) -> list[Action]:
    """While draining, terminate instances that run no task."""
    if not view.observation.draining:
        return []
    reason = "no more tasks are started: cost limit (max_total_cost)"
    drained = [i.instance_id for i in (*view.pending, *view.alive) if _is_drained(view.observation, i)]
    return [Terminate(instance_id=instance_id, reason=reason) for instance_id in drained if instance_id is not None]


def abort_drained(view: FleetView) -> list[Action]:
    """Abort at the end of a drain: no instance runs a task any more."""
    seen = view.observation
    is_over = seen.draining and all(_is_drained(seen, i) for i in view.alive)
    return [budget_used_up(seen)] if is_over else []


def _is_drained(seen: Observation, instance: FleetInstance) -> bool:
    return instance.last_heartbeat is None or is_idle(seen, instance)
