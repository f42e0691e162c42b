"""Instance types and prices of the simulated cloud."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal

import attrs
from virtual_loop import START

from cloud_tasks.model import (
    Architecture,
    InstanceType,
    Money,
    Offer,
    OfferRequest,
    PriceBreakdown,
    ProvisioningModel,
    Unpriced,
)
from simulated_cloud.dials.money import BURSTABLE, MoneyFaults

__all__ = ["ZONES", "catalogue", "make_prices", "prices", "request_of"]

ZONES = ("sim-a", "sim-b", "sim-c")

_FAMILIES = (
    # name, CPU family, CPU rank, GB per vCPU, US dollars per vCPU and hour, spot price as a share of it
    ("small", "Simulated Old", 5, 4.0, "0.025", "0.4"),
    ("steady", "Simulated Middle", 12, 4.0, "0.035", "0.3"),
    ("swift", "Simulated New", 22, 2.0, "0.045", "0.25"),
)
_BURSTABLE = (BURSTABLE, "Simulated Old", 5, 4.0, "0.01", "0.4")
_VCPUS = (2, 4, 8, 16)


def catalogue(sustained_cpu: float = 1.0) -> tuple[InstanceType, ...]:
    """Return all types; the fastest family is missing from the last zone, the largest types from the first.

    Args:
        sustained_cpu: Share of their CPUs that additional, cheap types sustain; 1: there are none.
    """
    types = _dedicated()
    if sustained_cpu < 1:
        types += tuple(
            attrs.evolve(each, name=each.name.replace(_FAMILIES[0][0], BURSTABLE), sustained_cpu=sustained_cpu)
            for each in types
            if each.name.startswith(_FAMILIES[0][0])
        )
    return types


def _dedicated() -> tuple[InstanceType, ...]:
    return tuple(
        InstanceType(
            name=f"{family}-{vcpus}",
            vcpus=vcpus,
            memory_gb=vcpus * memory,
            architecture=Architecture.X86_64,
            zones=tuple(
                zone
                for zone in ZONES
                if not (family == "swift" and zone == ZONES[-1]) and not (vcpus == max(_VCPUS) and zone == ZONES[0])
            ),
            boot_disk_types=("disk",),
            cpu_family=cpu_family,
            cpu_rank=rank,
        )
        for family, cpu_family, rank, memory, _, _ in _FAMILIES
        for vcpus in _VCPUS
    )


def prices(requests: Sequence[OfferRequest]) -> Sequence[Offer | Unpriced]:
    """Return offers, as `cloud_tasks.plugin.Pricing.price` does."""
    return make_prices(MoneyFaults, lambda: timedelta(0))(requests)


def make_prices(
    faults: Callable[[], MoneyFaults], elapsed: Callable[[], timedelta]
) -> Callable[[Sequence[OfferRequest]], Sequence[Offer | Unpriced]]:
    """Return a function that prices requests at the present.

    Args:
        faults: Return the present faults.
        elapsed: Return the time since the start of the simulation.
    """

    def price(request: OfferRequest) -> Offer | Unpriced:
        offer = _price(request)
        if isinstance(offer, Unpriced):
            return offer
        return attrs.evolve(offer, price=faults().charges(offer, elapsed()))

    return lambda requests: [price(request) for request in requests]


def request_of(offer: Offer) -> OfferRequest:
    """Return the request that an offer answers."""
    return OfferRequest(
        instance_type=offer.instance_type,
        zone=offer.zone,
        provisioning_model=offer.provisioning_model,
        boot_disk=offer.boot_disk,
    )


def _price(request: OfferRequest) -> Offer | Unpriced:
    for family, _, _, _, per_vcpu, spot in (*_FAMILIES, _BURSTABLE):
        if request.instance_type.name.startswith(f"{family}-"):
            share = Decimal(spot) if request.provisioning_model is ProvisioningModel.SPOT else Decimal(1)
            cpu = Money(Decimal(per_vcpu)) * request.instance_type.vcpus * share
            disk = Money("0.00005") * request.boot_disk.size_gb
            return Offer(
                instance_type=request.instance_type,
                zone=request.zone,
                provisioning_model=request.provisioning_model,
                boot_disk=request.boot_disk,
                price=PriceBreakdown(cpu=cpu, boot_disk=disk),
                priced_at=START,
            )
    return Unpriced(request=request, reason="not in the simulated catalogue")
