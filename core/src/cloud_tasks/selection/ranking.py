"""Ranks what can be bought: lowest price per unit of useful work first, disk and all included.

Invariants, each with a test:

1. Prices are asked for once, for all candidates together.
2. The order depends on nothing but the arguments: equal prices are settled by vCPUs, CPU rank, name and zone.
3. No ranked offer breaks a limit on its own; whatever is not ranked is rejected with a reason.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import attrs

from cloud_tasks.errors import InputError
from cloud_tasks.model import Constraints, InstanceType, Limits, Money, Offer, OfferRequest, Purchase, Unpriced
from cloud_tasks.selection.filter import Rejected, filter_types
from cloud_tasks.selection.instance_count import FLEET_MEASURES, amount, most_instances
from cloud_tasks.selection.sizing import slots

__all__ = ["Prefer", "PriceFunction", "RankedOffer", "Ranking", "rank"]

PriceFunction: TypeAlias = Callable[[Sequence[OfferRequest]], Sequence[Offer | Unpriced]]
"""`Pricing.price`: one answer per request, in order."""

_BAND = 1.25
"""With availability preferred, prices within this factor of each other are taken for equal."""


class Prefer(enum.Enum):
    """What makes one offer better than another."""

    PRICE = "price"
    """The lowest price per unit of work."""
    SPEED = "speed"
    """The fastest CPU (given weight, then rank), then the price."""
    AVAILABILITY = "availability"
    """Among offers of about the same price, those of types that exist in the most zones."""


@attrs.frozen(kw_only=True)
class RankedOffer:
    """An offer that will do."""

    offer: Offer
    slots: int
    """Tasks that one instance runs at a time."""
    price_per_slot: Money
    """Per hour."""
    speed: float = 1.0
    """How fast its CPU is compared with one of weight 1."""

    @property
    def price_per_work(self) -> Money:
        """The price of one slot for the time in which a CPU of weight 1 works an hour."""
        return self.price_per_slot if self.speed == 1.0 else self.price_per_slot / self.speed


@attrs.frozen(kw_only=True)
class Ranking:
    offers: tuple[RankedOffer, ...]
    """Best first, one for each type, zone and purchase option."""
    rejected: tuple[Rejected, ...]
    warnings: tuple[str, ...] = ()
    """What a person should know about this choice."""


def rank(
    types: Iterable[InstanceType],
    constraints: Constraints,
    limits: Limits,
    price: PriceFunction,
    *,
    prefer: Prefer = Prefer.PRICE,
    speed: Mapping[str, float] | None = None,
    spot_fallback: bool = False,
) -> Ranking:
    """Rank every offer of these types that satisfies the constraints and fits within the limits.

    Args:
        price: Asked once, for all candidates.
        speed: Relative speed by CPU family (any case), above zero; 1 for a family that is not named.
        spot_fallback: With spot wanted, rank the same types on demand too, after all spot offers.

    Raises:
        InputError: A speed is not above zero.
    """
    types = tuple(types)
    weights = {family.lower(): weight for family, weight in (speed or {}).items()}
    for family, weight in weights.items():
        if not weight > 0:
            raise InputError(f'the speed of CPU family "{family}" is {weight:g}', hint="it has to be above zero")
    found = filter_types(types, constraints, constraints.purchase)
    requests, rejected = list(found.requests), list(found.rejected)
    if spot_fallback and constraints.purchase is Purchase.SPOT:
        on_demand = filter_types(types, constraints, Purchase.ON_DEMAND)
        requests.extend(on_demand.requests)
    answers = price(requests) if requests else ()
    cheapest, unpriced = _cheapest_disks(requests, answers)
    rejected += unpriced
    offers: list[RankedOffer] = []
    for offer, per_hour in cheapest:
        ranked = _ranked(offer, per_hour, constraints, weights)
        problem = _limit_problem(ranked, limits)
        if problem is None:
            offers.append(ranked)
        else:
            rejected.append(_reject(offer, problem))
    offers.sort(key=_order(prefer, offers))
    return Ranking(offers=tuple(offers), rejected=tuple(rejected), warnings=_warnings(requests, constraints))


def _cheapest_disks(
    requests: Sequence[OfferRequest], answers: Sequence[Offer | Unpriced]
) -> tuple[list[tuple[Offer, Money]], list[Rejected]]:
    """For each type, zone and purchase option the offer with the cheapest disk and its price, or the rejection."""
    best: dict[tuple[str, str, Purchase], tuple[Offer, Money]] = {}
    missing: dict[tuple[str, str, Purchase], str] = {}
    for request, answer in zip(requests, answers, strict=True):
        key = (request.instance_type.name, request.zone, request.purchase)
        if isinstance(answer, Unpriced):
            missing.setdefault(key, answer.reason)
            continue
        per_hour = answer.price_per_hour
        if key not in best or per_hour < best[key][1]:
            best[key] = (answer, per_hour)
    rejected = [
        Rejected(instance_type=name, zone=zone, purchase=purchase, reason=f"it has no price: {reason}")
        for (name, zone, purchase), reason in missing.items()
        if (name, zone, purchase) not in best
    ]
    return list(best.values()), rejected


def _ranked(offer: Offer, per_hour: Money, constraints: Constraints, weights: Mapping[str, float]) -> RankedOffer:
    count = slots(offer.instance_type.vcpus, constraints)
    weight = weights.get(offer.instance_type.cpu_family.lower(), 1.0)
    return RankedOffer(offer=offer, slots=count, price_per_slot=per_hour / count, speed=weight)


def _reject(offer: Offer, reason: str) -> Rejected:
    return Rejected(instance_type=offer.instance_type.name, zone=offer.zone, purchase=offer.purchase, reason=reason)


def _limit_problem(ranked: RankedOffer, limits: Limits) -> str | None:
    """Why not even one instance fits, or why the minima are out of reach with this offer."""
    for name, measure in FLEET_MEASURES.items():
        one, most = measure.of_one(ranked), amount(getattr(limits, f"max_{name}"))
        if most is not None and one > most:
            return f"{_counted(name, one, measure.noun_of_one)} > max_{name} {_counted(name, most)}"
    reach = most_instances(limits, ranked)
    if reach is None:
        return None
    for name, measure in FLEET_MEASURES.items():
        total, least = measure.of_one(ranked) * reach, amount(getattr(limits, f"min_{name}"))
        if least is not None and total < least:
            total_shown = _counted(name, total, measure.noun)
            return f"at most {reach} of it fit the limits: {total_shown} < min_{name} {_counted(name, least)}"
    return None


def _counted(name: str, number: Decimal, noun: str = "") -> str:
    text = _exact(Money(number)) if "price" in name else f"{number:f}"
    return f"{text} {noun}".rstrip()


def _exact(amount: Money) -> str:
    """All the cents that matter: ``$0.268614``, but ``$10.00``."""
    return amount.format(2) if amount == Money(round(amount.usd, 2)) else amount.format(6)


def _order(prefer: Prefer, offers: Sequence[RankedOffer]) -> Callable[[RankedOffer], tuple[Any, ...]]:
    """The sort key of a preference; spot before its fallback in each."""
    wants_spot = any(ranked.offer.purchase is Purchase.SPOT for ranked in offers)
    lowest = min((ranked.price_per_work.usd for ranked in offers if ranked.price_per_work), default=Decimal(1))

    def band(price: Decimal) -> int:
        return 0 if price <= lowest else math.floor(math.log(price / lowest) / math.log(_BAND) + 1e-9)

    def key(ranked: RankedOffer) -> tuple[Any, ...]:
        instance_type = ranked.offer.instance_type
        price = ranked.price_per_work.usd
        rest = (price, -instance_type.vcpus, -instance_type.cpu_rank, instance_type.name, ranked.offer.zone)
        fallback = wants_spot and ranked.offer.purchase is not Purchase.SPOT
        match prefer:
            case Prefer.PRICE:
                return (fallback, *rest)
            case Prefer.SPEED:
                return (fallback, -ranked.speed, -instance_type.cpu_rank, *rest)
            case Prefer.AVAILABILITY:
                return (fallback, band(price), -len(instance_type.zones), *rest)

    return key


def _warnings(requests: Sequence[OfferRequest], constraints: Constraints) -> tuple[str, ...]:
    if constraints.boot_disk_types or not any(len(request.instance_type.boot_disk_types) > 1 for request in requests):
        return ()
    return (
        "No boot disk types were given (boot_disk_types): every type that fits is considered and the cheapest wins, "
        "which is usually the slowest",
    )
