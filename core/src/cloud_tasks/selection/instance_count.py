"""How many instances: all limits together, judged on the totals that a purchase would lead to.

Invariants, each with a test:

1. Buying what `additional_instances` says exceeds no limit, whatever runs already.
2. It never gives the fleet a slot more than the remaining tasks can fill, the last instance's rest excepted.
3. Each pair ``min_x``, ``max_x`` of `Limits` has a measure.
4. The minima are wishes: the fleet grows as far as the work and the maxima allow, so they never add to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
    "amount",
    "most_instances",
    "surplus_instances",
]

COMMITMENT = timedelta(minutes=5)
"""What an instance is sure to be billed for: starting, one look at it, and ending."""

_NOTHING = Money.zero()


@attrs.frozen(kw_only=True)
class FleetTotals:
    """What is running, starting or asked for: all that is billed or may be."""

    instances: int = 0
    vcpus: int = 0
    slots: int = 0
    price_per_hour: Money = _NOTHING


class _Sized(Protocol):
    """An offer and the tasks that one instance of it runs at a time."""

    @property
    def offer(self) -> Offer: ...

    @property
    def slots(self) -> int: ...


class FleetMeasure(NamedTuple):
    """What a pair ``min_x``, ``max_x`` of `Limits` counts."""

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
        "tasks at a time",
        "tasks per instance",
    ),
    "total_price_per_hour": FleetMeasure(
        lambda ranked: ranked.offer.price_per_hour.usd, lambda fleet: fleet.price_per_hour.usd, "per hour", "per hour"
    ),
}
"""One for each pair of `Limits`."""


def amount(limit: int | Money | None) -> Decimal | None:
    """The number of a limit; None: there is none."""
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
    """How many instances of an offer to buy now; never negative.

    Args:
        remaining_tasks: Tasks without a final status, running ones included.
        current: The whole fleet, launches without an answer included.
        accrued: What has been spent already.
        commitment: With a limit on the total cost, the fleet has to be payable for so long after the purchase.
    """
    missing = max(remaining_tasks - current.slots, 0)
    fill = -(-missing // ranked.slots)
    rooms = [fill, *_rooms(limits, ranked, current)]
    if limits.max_total_cost is not None:
        hours = Decimal(str(commitment.total_seconds())) / 3600
        left = limits.max_total_cost - accrued - current.price_per_hour * hours
        rooms.append(_affordable(left, ranked.offer.price_per_hour * hours))
        if accrued >= limits.max_total_cost:
            return 0
    return max(min(rooms), 0)


def most_instances(limits: Limits, ranked: _Sized) -> int | None:
    """How many instances of an offer the limits allow in total; None: as many as one likes."""
    return min(_rooms(limits, ranked, FleetTotals()), default=None)


def surplus_instances(slots: Iterable[int], remaining_tasks: int) -> int:
    """How many of the instances could go while the others have slots for all remaining tasks.

    Args:
        slots: Of each instance.
    """
    ordered = sorted(slots)
    spare = sum(ordered) - remaining_tasks
    count = 0
    for size in ordered:
        spare -= size
        if spare < 0:
            break
        count += 1
    return count


def _rooms(limits: Limits, ranked: _Sized, current: FleetTotals) -> list[int]:
    """For each limit how many more instances it allows."""
    rooms: list[int] = []
    for name, measure in FLEET_MEASURES.items():
        if (most := amount(getattr(limits, f"max_{name}"))) is None:
            continue
        left, each = most - measure.of_fleet(current), measure.of_one(ranked)
        if left < 0:
            rooms.append(0)
        elif each:
            # What costs nothing is never too much; the other limits decide.
            rooms.append(int(left // each))
    return rooms


def _affordable(left: Money, price: Money) -> int:
    if left < Money.zero():
        return 0
    # Without a price nothing is ever too much; the other limits decide.
    return int(left.usd // price.usd) if price else 2**31
