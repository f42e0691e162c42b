"""The spread of launches over zones: offers that differ in their zone only, by refusals and balance, not at random.

Invariants, each with a test:

1. The requested number is launched, of the type, price and provisioning model of the best offer.
2. Zones with fewer recent refusals are preferred.
3. Among equal zones, none that gets an instance ends up with two more than another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cloud_tasks.model import Offer
from cloud_tasks.selection.ranking import RankedOffer

__all__ = ["same_offer_other_zones", "spread_over_zones"]


def same_offer_other_zones(offers: Sequence[RankedOffer]) -> tuple[RankedOffer, ...]:
    """Return the offers that equal the first one except for the zone: type, provisioning model, slots and price."""
    if not offers:
        return ()
    best = offers[0]
    return tuple(
        ranked
        for ranked in offers
        if ranked.offer.instance_type.name == best.offer.instance_type.name
        and ranked.offer.provisioning_model is best.offer.provisioning_model
        and ranked.slots == best.slots
        and ranked.price_per_slot == best.price_per_slot
    )


def spread_over_zones(
    offers: Sequence[RankedOffer], count: int, *, held: Mapping[str, int], refusals: Callable[[Offer], int]
) -> tuple[tuple[RankedOffer, int], ...]:
    """Return how many instances to launch of each offer; offers without any are left out.

    Args:
        offers: At least one, from `same_offer_other_zones`; their order breaks ties.
        count: Number of instances to launch.
        held: Existing instances by zone.
        refusals: Number of recent refusals that apply to an offer.
    """
    minimum = min(refusals(ranked.offer) for ranked in offers)
    eligible = [ranked for ranked in offers if refusals(ranked.offer) == minimum]
    numbers = [held.get(ranked.offer.zone, 0) for ranked in eligible]
    before = tuple(numbers)
    for _ in range(count):
        numbers[numbers.index(min(numbers))] += 1
    totals = zip(eligible, numbers, before, strict=True)
    return tuple((ranked, after - earlier) for ranked, after, earlier in totals if after > earlier)
