"""Which of several offers that differ in their zone alone: by refusals and by spread, never by chance.

Invariants, each with a test:

1. What is bought is as many as were asked for, of the best offer's type, price and purchase option.
2. A zone that refused less of late is taken before one that refused more.
3. Among the others, no zone ends up with two more instances than another to which a new one could have gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cloud_tasks.model import Offer
from cloud_tasks.selection.ranking import RankedOffer

__all__ = ["same_offer_other_zones", "spread_over_zones"]


def same_offer_other_zones(offers: Sequence[RankedOffer]) -> tuple[RankedOffer, ...]:
    """The offers that are the first one in all but their zone: same type, purchase option, slots and price."""
    if not offers:
        return ()
    best = offers[0]
    return tuple(
        ranked
        for ranked in offers
        if ranked.offer.instance_type.name == best.offer.instance_type.name
        and ranked.offer.purchase is best.offer.purchase
        and ranked.slots == best.slots
        and ranked.price_per_slot == best.price_per_slot
    )


def spread_over_zones(
    offers: Sequence[RankedOffer], count: int, *, held: Mapping[str, int], refusals: Callable[[Offer], int]
) -> tuple[tuple[RankedOffer, int], ...]:
    """How many to buy of each of these alike offers; those of none are left out.

    Args:
        offers: At least one, in the order in which they are taken where nothing else decides.
        held: Instances that each zone has already.
        refusals: How often launches that this offer stands for were refused of late.
    """
    fewest = min(refusals(ranked.offer) for ranked in offers)
    willing = [ranked for ranked in offers if refusals(ranked.offer) == fewest]
    numbers = [held.get(ranked.offer.zone, 0) for ranked in willing]
    before = tuple(numbers)
    for _ in range(count):
        numbers[numbers.index(min(numbers))] += 1
    bought = zip(willing, numbers, before, strict=True)
    return tuple((ranked, after - earlier) for ranked, after, earlier in bought if after > earlier)
