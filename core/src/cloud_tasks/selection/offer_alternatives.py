"""Alternatives to the best offer, for providers that select one: more capacity, fewer interruptions.

Invariants, each with a test:

1. An alternative has as many task slots and vCPUs, the same boot disk and the same provisioning model.
2. Its price, per hour and per unit of work, exceeds the best offer by `TOLERANCE` at most; on demand, not at all.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from decimal import Decimal

from cloud_tasks.model import ProvisioningModel
from cloud_tasks.selection.ranking import RankedOffer

__all__ = ["TOLERANCE", "alternatives", "most_expensive"]

TOLERANCE = Decimal("0.1")
"""Spot only: an interruption costs more than a 10% higher price."""
_MAX_ALTERNATIVES = 30


def alternatives(offers: Sequence[RankedOffer]) -> tuple[RankedOffer, ...]:
    """Return the offers that may be launched instead of the first one, in their order, at most 30."""
    if not offers:
        return ()
    best, *others = offers
    tolerance = TOLERANCE if best.offer.provisioning_model is ProvisioningModel.SPOT else Decimal(0)
    hour, work = (price * (1 + tolerance) for price in (best.offer.price_per_hour, best.price_per_work))
    found = (
        ranked
        for ranked in others
        if _can_replace(ranked, best) and ranked.offer.price_per_hour <= hour and ranked.price_per_work <= work
    )
    return tuple(itertools.islice(found, _MAX_ALTERNATIVES))


def _can_replace(ranked: RankedOffer, best: RankedOffer) -> bool:
    offer, other = ranked.offer, best.offer
    return (
        ranked.slots == best.slots
        and offer.provisioning_model is other.provisioning_model
        and offer.boot_disk == other.boot_disk
        and offer.instance_type.vcpus == other.instance_type.vcpus
        and offer.instance_type.architecture is other.instance_type.architecture
    )


def most_expensive(best: RankedOffer, others: Sequence[RankedOffer]) -> RankedOffer:
    """Return the most expensive offer per hour, which limits are checked against."""
    return max((best, *others), key=lambda ranked: ranked.offer.price_per_hour)
