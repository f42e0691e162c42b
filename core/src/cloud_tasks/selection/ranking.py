"""The ranking of offers: the lowest price per unit of work first, boot disk included.

Invariants, each with a test:

1. Prices are requested once, for all candidates together.
2. The order depends on the arguments only: ties are broken by vCPUs, CPU rank, name and zone.
3. No ranked offer exceeds a limit alone; every other offer is rejected with a reason.
4. A slot of a burstable or shared-core type counts as the CPU time that it sustains, unless its price includes the use
   above that.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import attrs

from cloud_tasks.errors import InputError
from cloud_tasks.model import Constraints, InstanceType, Limits, Money, Offer, OfferRequest, ProvisioningModel, Unpriced
from cloud_tasks.selection.filter import Rejected, Unsuitable, filter_types, slots_of
from cloud_tasks.selection.instance_count import FLEET_MEASURES, allowed_instances, amount

__all__ = ["Prefer", "PriceFunction", "RankedOffer", "Ranking", "rank"]

PriceFunction: TypeAlias = Callable[[Sequence[OfferRequest]], Sequence[Offer | Unpriced]]
"""The signature of `Pricing.price`: one answer for each request, in order."""

_SHOWN = 5
"""Names of left-out types in a note; the rejected types have all."""
_BAND = 1.25
"""Factor within which prices count as equal if availability is preferred."""


class Prefer(enum.Enum):
    """The criterion by which offers are ranked."""

    PRICE = "price"
    """The lowest price per unit of work."""
    SPEED = "speed"
    """The fastest CPU (configured speed, then rank), then the price."""
    AVAILABILITY = "availability"
    """Among offers of about the same price, the types of the most zones."""


@attrs.frozen(kw_only=True)
class RankedOffer:
    """An offer that satisfies constraints and limits."""

    offer: Offer
    slots: int
    """Task slots of one instance."""
    price_per_slot: Money
    """Price of one slot per hour."""
    speed: float = 1.0
    """Speed of a slot relative to one of a CPU of speed 1."""

    @property
    def price_per_work(self) -> Money:
        """Price of one slot for the work that a CPU of speed 1 does in an hour."""
        return self.price_per_slot if self.speed == 1.0 else self.price_per_slot / self.speed


@attrs.frozen(kw_only=True)
class Ranking:
    """Ranked and rejected offers."""

    offers: tuple[RankedOffer, ...]
    """Best first, one for each type, zone and provisioning model."""
    rejected: tuple[Rejected, ...]
    warnings: tuple[str, ...] = ()
    """Messages for the user, one line each."""
    notes: tuple[str, ...] = ()
    """What was decided without being asked for, one line each."""


def rank(
    types: Iterable[InstanceType],
    constraints: Constraints,
    limits: Limits,
    price: PriceFunction,
    *,
    prefer: Prefer = Prefer.PRICE,
    speed: Mapping[str, float] | None = None,
    spot_fallback: bool = False,
    leave_out: bool = True,
) -> Ranking:
    """Rank every offer of these types that satisfies the constraints and limits.

    Args:
        price: Called once, for all candidates.
        prefer: Criterion of the order.
        speed: Relative speed by CPU family (case-insensitive), above 0; 1 for other families.
        spot_fallback: For spot, rank the same types on demand too, after all spot offers.
        leave_out: Leave out types that a job should use only if they are asked for (`Unsuitable`).

    Raises:
        InputError: A speed is not above 0.
    """
    types = tuple(types)
    weights = {family.lower(): weight for family, weight in (speed or {}).items()}
    for family, weight in weights.items():
        if not weight > 0:
            raise InputError(f'speed of CPU family "{family}": {weight:g} is not above 0', hint="use a positive number")
    found = filter_types(types, constraints, constraints.provisioning_model, leave_out=leave_out)
    requests, rejected = list(found.requests), list(found.rejected)
    if spot_fallback and constraints.provisioning_model is ProvisioningModel.SPOT:
        on_demand = filter_types(types, constraints, ProvisioningModel.ON_DEMAND, leave_out=leave_out)
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
    return Ranking(
        offers=tuple(offers),
        rejected=tuple(rejected),
        warnings=_warnings(requests, constraints),
        notes=tuple(_notes(found.rejected)),
    )


def _cheapest_disks(
    requests: Sequence[OfferRequest], answers: Sequence[Offer | Unpriced]
) -> tuple[list[tuple[Offer, Money]], list[Rejected]]:
    """Return, for each type, zone and provisioning model, the offer with the cheapest disk, or its rejection."""
    best: dict[tuple[str, str, ProvisioningModel], tuple[Offer, Money]] = {}
    missing: dict[tuple[str, str, ProvisioningModel], str] = {}
    for request, answer in zip(requests, answers, strict=True):
        key = (request.instance_type.name, request.zone, request.provisioning_model)
        if isinstance(answer, Unpriced):
            missing.setdefault(key, answer.reason)
            continue
        per_hour = answer.price_per_hour
        if key not in best or per_hour < best[key][1]:
            best[key] = (answer, per_hour)
    rejected = [
        Rejected(instance_type=name, zone=zone, provisioning_model=provisioning_model, reason=f"no price: {reason}")
        for (name, zone, provisioning_model), reason in missing.items()
        if (name, zone, provisioning_model) not in best
    ]
    return list(best.values()), rejected


def _ranked(offer: Offer, per_hour: Money, constraints: Constraints, weights: Mapping[str, float]) -> RankedOffer:
    count = slots_of(offer.instance_type, constraints)
    weight = weights.get(offer.instance_type.cpu_family.lower(), 1.0) * _sustained(offer, count, constraints)
    return RankedOffer(offer=offer, slots=count, price_per_slot=per_hour / count, speed=weight)


def _sustained(offer: Offer, count: int, constraints: Constraints) -> float:
    """Return the share of its CPUs that a slot can use all the time, for the price of the offer."""
    instance_type = offer.instance_type
    if instance_type.sustained_cpu == 1 or offer.price.surplus_credits:
        return 1.0
    return min(instance_type.vcpus * instance_type.sustained_cpu / (count * constraints.cpus_per_task), 1.0)


def _reject(offer: Offer, reason: str) -> Rejected:
    return Rejected(
        instance_type=offer.instance_type.name,
        zone=offer.zone,
        provisioning_model=offer.provisioning_model,
        reason=reason,
    )


def _limit_problem(ranked: RankedOffer, limits: Limits) -> str | None:
    """Return why a single instance exceeds a limit, or why the minima cannot be reached; else None."""
    for name, measure in FLEET_MEASURES.items():
        one, maximum = measure.of_one(ranked), amount(getattr(limits, f"max_{name}"))
        if maximum is not None and one > maximum:
            return f"{_counted(name, one, measure.noun_of_one)} > max_{name} {_counted(name, maximum)}"
    allowed = allowed_instances(limits, ranked)
    if allowed is None:
        return None
    for name, measure in FLEET_MEASURES.items():
        total, minimum = measure.of_one(ranked) * allowed, amount(getattr(limits, f"min_{name}"))
        if minimum is not None and total < minimum:
            fleet = f"{allowed} instance{'' if allowed == 1 else 's'}"
            shown = _counted(name, total, measure.noun)
            return f"at most {fleet} within the limits: {shown} < min_{name} {_counted(name, minimum)}"
    return None


def _counted(name: str, number: Decimal, noun: str = "") -> str:
    text = _exact(Money(number)) if "price" in name else f"{number:f}"
    return f"{text} {noun}".rstrip()


def _exact(amount: Money) -> str:
    """Return two decimal places if they are exact, else six: ``$10.00``, ``$0.268614``."""
    return amount.format(2) if amount == Money(round(amount.usd, 2)) else amount.format(6)


def _order(prefer: Prefer, offers: Sequence[RankedOffer]) -> Callable[[RankedOffer], tuple[Any, ...]]:
    """Return the sort key of a criterion, with spot before its fallback."""
    wants_spot = any(ranked.offer.provisioning_model is ProvisioningModel.SPOT for ranked in offers)
    lowest = min((ranked.price_per_work.usd for ranked in offers if ranked.price_per_work), default=Decimal(1))

    def band(price: Decimal) -> int:
        return 0 if price <= lowest else math.floor(math.log(price / lowest) / math.log(_BAND) + 1e-9)

    def key(ranked: RankedOffer) -> tuple[Any, ...]:
        instance_type = ranked.offer.instance_type
        price = ranked.price_per_work.usd
        rest = (price, -instance_type.vcpus, -instance_type.cpu_rank, instance_type.name, ranked.offer.zone)
        fallback = wants_spot and ranked.offer.provisioning_model is not ProvisioningModel.SPOT
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
    return ("No boot disk types configured (boot_disk_types): the cheapest of all is selected, usually the slowest",)


def _notes(rejected: Sequence[Rejected]) -> Iterator[str]:
    """Yield a line for each property for which types are left out, with the remedy."""
    remedies = {Unsuitable.BURSTABLE: "name one in instance_types", Unsuitable.LOW_MEMORY: "set min_memory_per_task"}
    for kind, remedy in remedies.items():
        names = [rejection.instance_type for rejection in rejected if rejection.left_out is kind]
        if names:
            more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
            yield f"Left out, {kind.value}: {', '.join(names[:_SHOWN])}{more}; to use them, {remedy}"
