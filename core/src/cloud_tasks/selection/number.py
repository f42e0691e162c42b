"""How many instances: all limits together, judged on the totals that a purchase would lead to.

Invariants, each with a test:

1. Buying what `additional_instances` says exceeds no limit, whatever runs already.
2. It never gives the fleet a slot more than the remaining tasks can fill, the last instance's rest excepted.
3. The minima are wishes: the fleet grows as far as the work and the maxima allow, so they never add to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from typing import Protocol

import attrs

from cloud_tasks.model import Limits, Money, Offer

__all__ = ["COMMITMENT", "FleetTotals", "additional_instances", "most_instances", "surplus_instances"]

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
    if limits.max_instances is not None:
        rooms.append(limits.max_instances - current.instances)
    if limits.max_total_cpus is not None:
        rooms.append((limits.max_total_cpus - current.vcpus) // max(ranked.offer.instance_type.vcpus, 1))
    if limits.max_simultaneous_tasks is not None:
        rooms.append((limits.max_simultaneous_tasks - current.slots) // ranked.slots)
    if limits.max_total_price_per_hour is not None:
        left = limits.max_total_price_per_hour - current.price_per_hour
        price = ranked.offer.price_per_hour
        if price or left < Money.zero():
            rooms.append(_affordable(left, price))
    return rooms


def _affordable(left: Money, price: Money) -> int:
    if left < Money.zero():
        return 0
    # Without a price nothing is ever too much; the other limits decide.
    return int(left.usd // price.usd) if price else 2**31
