"""The number of instances: all limits together, checked on the totals after the launch.

Invariants, each with a test:

1. Launching `additional_instances` exceeds no limit, whatever is running.
2. The fleet gets no more slots than the remaining tasks can fill, apart from the rest of the last instance.
3. Each pair ``min_x``, ``max_x`` of `Limits` has a measure.
4. The minima never add instances: the fleet grows as far as the tasks and the maxima allow anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import NamedTuple, Protocol

import attrs

from cloud_tasks.model import Limits, Money, Offer

__all__ = [
    "COMMITMENT",
    "FLEET_MEASURES",
    "FleetTotals",
    "additional_instances",
    "allowed_instances",
    "amount",
]

COMMITMENT = timedelta(minutes=5)
"""Time for which every instance is billed at least: start, one scaling check, termination."""

_NOTHING = Money.zero()


@attrs.frozen(kw_only=True)
class FleetTotals:
    """Totals of the instances that are billed or may be: running, starting, or requested."""

    instances: int = 0
    vcpus: int = 0
    slots: int = 0
    """Task slots."""
    draining_slots: int = 0
    """Those of them that take no more tasks."""
    price_per_hour: Money = _NOTHING


class _Sized(Protocol):
    """An offer with the task slots of one instance."""

    @property
    def offer(self) -> Offer: ...

    @property
    def slots(self) -> int: ...


class FleetMeasure(NamedTuple):
    """The property of a fleet that a pair ``min_x``, ``max_x`` of `Limits` compares."""

    of_one: Callable[[_Sized], Decimal]
    of_fleet: Callable[[FleetTotals], Decimal]
    noun: str = ""
    noun_of_one: str = ""


FLEET_MEASURES: Mapping[str, FleetMeasure] = {
    "instances": FleetMeasure(lambda _: Decimal(1), lambda fleet: Decimal(fleet.instances)),
    "total_cpus": FleetMeasure(
        lambda ranked: Decimal(ranked.offer.instance_type.vcpus), lambda fleet: Decimal(fleet.vcpus), "vCPUs", "vCPUs"
    ),
    "simultaneous_tasks": FleetMeasure(
        lambda ranked: Decimal(ranked.slots),
        lambda fleet: Decimal(fleet.slots),
        "simultaneous tasks",
        "tasks per instance",
    ),
    "total_price_per_hour": FleetMeasure(
        lambda ranked: ranked.offer.price_per_hour.usd, lambda fleet: fleet.price_per_hour.usd, "per hour", "per hour"
    ),
}
"""One measure for each pair of `Limits`."""


def amount(limit: int | Money | None) -> Decimal | None:
    """Return a limit as a number; None without a limit."""
    return None if limit is None else limit.usd if isinstance(limit, Money) else Decimal(limit)


def additional_instances(
    *,
    limits: Limits,
    ranked: _Sized,
    remaining_tasks: int,
    current: FleetTotals,
    accrued: Money = _NOTHING,
    commitment: timedelta = COMMITMENT,
) -> int:
    """Return how many instances of an offer to launch now; at least 0.

    Args:
        remaining_tasks: Unfinished tasks, running ones included.
        current: Totals of the fleet, including launches without an answer.
        accrued: Cost of the job until now.
        commitment: Time that the whole fleet must be affordable for after the launch, with a limit on the total cost.
    """
    missing = max(remaining_tasks - current.slots + current.draining_slots, 0)
    fill = -(-missing // ranked.slots)
    allowed = [fill, *_allowed(limits, ranked, current)]
    if limits.max_total_cost is not None:
        hours = Decimal(str(commitment.total_seconds())) / 3600
        left = limits.max_total_cost - accrued - current.price_per_hour * hours
        allowed.append(_affordable(left, ranked.offer.price_per_hour * hours))
        if accrued >= limits.max_total_cost:
            return 0
    return max(min(allowed), 0)


def allowed_instances(limits: Limits, ranked: _Sized) -> int | None:
    """Return how many instances of an offer the limits allow in total; None if no limit applies."""
    return min(_allowed(limits, ranked, FleetTotals()), default=None)


def _allowed(limits: Limits, ranked: _Sized, current: FleetTotals) -> list[int]:
    """Return, for each limit that applies, how many more instances it allows."""
    allowed: list[int] = []
    for name, measure in FLEET_MEASURES.items():
        if (maximum := amount(getattr(limits, f"max_{name}"))) is None:
            continue
        left, each = maximum - measure.of_fleet(current), measure.of_one(ranked)
        if left < 0:
            allowed.append(0)
        elif each:
            # Without a price, the limit on the price does not apply.
            allowed.append(int(left // each))
    return allowed


def _affordable(left: Money, price: Money) -> int:
    if left < Money.zero():
        return 0
    # Without a price, the limit on the cost does not apply.
    return int(left.usd // price.usd) if price else 2**31
