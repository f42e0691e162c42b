"""Which offers the provider may choose instead of the best one, where it can: more places to find room, fewer
interruptions.

Invariants, each with a test:

1. An alternative does as many tasks at once, on as many vCPUs and the same boot disk, and is bought the same way.
2. Its work costs at most what the tolerance allows; on demand it costs no more at all, per hour included.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from decimal import Decimal

from cloud_tasks.model import Purchase
from cloud_tasks.selection.ranking import RankedOffer

__all__ = ["TOLERANCE", "alternatives", "most_expensive"]

TOLERANCE = Decimal("0.1")
"""A spot instance may cost a tenth more than the cheapest: one interruption costs more than that."""
_MOST = 30


def alternatives(offers: Sequence[RankedOffer]) -> tuple[RankedOffer, ...]:
    """Those of these offers that may be started instead of the first one; in their order, without it."""
    if not offers:
        return ()
    best, *others = offers
    tolerance = TOLERANCE if best.offer.purchase is Purchase.SPOT else Decimal(0)
    hour, work = (price * (1 + tolerance) for price in (best.offer.price_per_hour, best.price_per_work))
    found = (
        ranked
        for ranked in others
        if _does_instead(ranked, best) and ranked.offer.price_per_hour <= hour and ranked.price_per_work <= work
    )
    return tuple(itertools.islice(found, _MOST))


def _does_instead(ranked: RankedOffer, best: RankedOffer) -> bool:
    offer, model = ranked.offer, best.offer
    return (
        ranked.slots == best.slots
        and offer.purchase is model.purchase
        and offer.boot_disk == model.boot_disk
        and offer.instance_type.vcpus == model.instance_type.vcpus
        and offer.instance_type.architecture is model.instance_type.architecture
    )


def most_expensive(best: RankedOffer, others: Sequence[RankedOffer]) -> RankedOffer:
    """That of the highest price per hour: what a limit has to be able to bear."""
    return max((best, *others), key=lambda ranked: ranked.offer.price_per_hour)
