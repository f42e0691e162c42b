"""Rules about the lifetimes of instances: each ends itself at its deadline, also if no controller returns.

Invariants, each with a test:

1. The cost so far, and the price of every instance that may be billed until its deadline, are within ``max_total_cost``
   after each launch. With the controller dead from any moment on, the job therefore costs no more than that.
2. A new instance lives as long as its share of the free budget pays for, and ``max_lifetime`` at most. Rather fewer
   instances are launched than such as live too short for two tasks; one is always tried.
3. Its worker takes no more tasks so long before the deadline that the running ones finish, where the lifetime allows
   that. From then on its slots count for no task, so that it is replaced.
4. An instance beyond its deadline is terminated.
5. A job resumed with a lower limit terminates as many instances of earlier runs as exceed it, the most expensive first.
6. Risen prices make the sum of 1 exceed the limit by a fifth at most: beyond that, instances are terminated, the most
   expensive first, and replaced at current prices. Within it they stay, since a termination interrupts tasks.
7. Pending instances end first: they have no tasks. The lifetime of each counts from its start.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from cloud_tasks.controller.autoscaler.actions import Action, Terminate
from cloud_tasks.controller.autoscaler.rules.fleet_view import FleetView
from cloud_tasks.controller.autoscaler.state import FleetInstance, Observation, Policy
from cloud_tasks.model import Money
from cloud_tasks.quantities import format_span
from cloud_tasks.selection import COMMITMENT

__all__ = ["free_budget", "is_draining", "lifetime_of", "terminate_expired", "terminate_unaffordable"]

_LONGEST = timedelta(days=36_500)
_PRICE_RISE = Decimal("0.2")
"""Share of the limit by which risen prices may exceed it without a controller: the margin of a maximum spot price."""


def is_draining(seen: Observation, instance: FleetInstance) -> bool:
    """Return whether the worker of an instance takes no more tasks, because its deadline is near."""
    if instance.deadline is None:
        return False
    return seen.now >= instance.launched_at + seen.policy.drain_after(instance.deadline - instance.launched_at)


def free_budget(view: FleetView) -> Money | None:
    """Return what is left of ``max_total_cost`` if every instance lives until its deadline; None without a limit."""
    seen = view.observation
    limit = seen.policy.limits.max_total_cost
    if limit is None:
        return None
    left = limit - seen.accrued_cost
    for instance in view.held:
        reserved = _reserve(seen, instance)
        if reserved is None:
            return Money.zero()
        left -= reserved
    return left


def lifetime_of(view: FleetView, price: Money, wanted: int) -> tuple[int, timedelta | None]:
    """Return how many instances to launch, and their lifetime (None: no limit).

    Args:
        price: Price per hour of one instance, of the most expensive offer that the provider may select.
        wanted: Number of instances that the tasks and the other limits allow.
    """
    seen = view.observation
    policy, free = seen.policy, free_budget(view)
    if free is None or not price or wanted < 1:
        return wanted, policy.max_lifetime
    longest = policy.max_lifetime or _LONGEST
    useful = min(_startup(policy) + 2 * policy.max_runtime, longest)
    count = max(1, min(wanted, int(free.usd / (price.usd * _hours(useful)))))
    seconds = free.usd / (price.usd * count) * 3600
    if seconds < Decimal((COMMITMENT + (seen.task_time or timedelta(0))).total_seconds()):
        return 0, None
    return count, min(longest, timedelta(seconds=int(min(seconds, Decimal(_LONGEST.total_seconds())))))


def terminate_expired(view: FleetView) -> list[Action]:
    """Terminate instances that have outlived their deadline: their provider does not enforce it, or failed to."""
    now, grace = view.observation.now, view.observation.policy.deadline_grace
    return [
        Terminate(
            instance_id=i.instance_id,
            reason=f"maximum lifetime of {format_span(i.deadline - i.launched_at)} exceeded (max_lifetime)",
        )
        for i in view.fleet
        if i.instance_id is not None and i.recorded and not i.given_up and view.is_alive(i)
        if i.deadline is not None and now - i.deadline > grace
    ]


def terminate_unaffordable(view: FleetView) -> list[Action]:
    """Terminate instances whose lifetimes the limit on the cost does not cover: it was lowered, or prices rose."""
    seen = view.observation
    limit = seen.policy.limits.max_total_cost
    if limit is None:
        return []
    needed = seen.accrued_cost - limit
    reserves = [(i, _reserve(seen, i)) for i in view.held]
    unbounded = [i for i, reserved in reserves if reserved is None and i.from_earlier_run]
    bounded = [(i, reserved) for i, reserved in reserves if reserved is not None]
    needed += sum((reserved for _, reserved in bounded), Money.zero())
    ended = unbounded
    pending = {i.instance_id for i in view.pending}
    bounded.sort(key=lambda pair: (pair[0].instance_id in pending, pair[0].from_earlier_run, pair[1].usd), reverse=True)
    for instance, reserved in bounded:
        tolerated = Money.zero() if instance.from_earlier_run else limit * _PRICE_RISE
        if reserved and needed > tolerated:
            ended = [*ended, instance]
            needed -= reserved
    reason = f"its lifetime costs more than is left of {limit} (max_total_cost)"
    alive = pending | {i.instance_id for i in view.alive}
    return [
        Terminate(instance_id=i.instance_id, reason=reason)
        for i in ended
        if i.instance_id is not None and i.instance_id in alive
    ]


def _reserve(seen: Observation, instance: FleetInstance) -> Money | None:
    """Return the price of an instance until its deadline; None without a deadline."""
    if not instance.price_per_hour:
        return Money.zero()
    if instance.deadline is None:
        return None
    return instance.price_per_hour * _hours(max(instance.deadline - seen.now, timedelta(0)))


def _startup(policy: Policy) -> timedelta:
    return policy.startup_timeout or COMMITMENT


def _hours(span: timedelta) -> Decimal:
    return Decimal(span // timedelta(microseconds=1)) / 3_600_000_000
