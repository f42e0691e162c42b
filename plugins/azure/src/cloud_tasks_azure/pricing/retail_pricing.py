"""Prices of instances, on-demand and spot, with their boot disks.

Invariants, each with a test:

1. Prices are fetched, cached and refreshed by `PriceCache`.
2. An offer without a price is returned as `Unpriced` with the reason.
3. An offer includes the public address that the settings assign.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cloud_tasks.errors import InputError
from cloud_tasks.model import Money, Offer, OfferRequest, PriceBreakdown, ProvisioningModel, Unpriced
from cloud_tasks.plugin import PricingContext
from cloud_tasks.plugin.kit import PriceCache, PriceFiles, prices_from_json, prices_to_json
from cloud_tasks_azure.compute.disks import disk_problem, tier_of
from cloud_tasks_azure.compute.zones import location_of
from cloud_tasks_azure.pricing.retail import RegionPrices, fetch_prices
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["ADDRESS_PRICE", "HOURS_PER_MONTH", "RetailPricing", "open_pricing", "price_files"]

HOURS_PER_MONTH = 730
"""Hours per month in Azure's pricing calculator."""

ADDRESS_PRICE = Money("0.005")
"""Price per hour of a static public IPv4 address of the Standard SKU ("IP Addresses pricing")."""


class RetailPricing:
    """`Pricing` of Azure. Thread-safe.

    Args:
        region: Region of requests without a zone.
        prices: Prices by region.
        has_address: Whether instances get a public address.
    """

    def __init__(self, region: str, prices: PriceCache[RegionPrices], *, has_address: bool = False) -> None:
        self._region = region
        self._address = ADDRESS_PRICE if has_address else Money.zero()
        self._prices = prices

    def price(self, requests: Sequence[OfferRequest]) -> Sequence[Offer | Unpriced]:
        return tuple(self._price(request) for request in requests)

    def close(self) -> None:
        """Do nothing: no connection is open."""

    def _price(self, request: OfferRequest) -> Offer | Unpriced:
        region = location_of(request.zone) if request.zone else self._region
        prices = self._prices.get(region)
        if prices is None:
            return Unpriced(request=request, reason=f"no prices for region {region}")
        vm = self._vm(request, prices)
        if isinstance(vm, str):
            return Unpriced(request=request, reason=vm)
        disk = _disk(request, prices)
        if isinstance(disk, str):
            return Unpriced(request=request, reason=disk)
        return Offer(
            instance_type=request.instance_type,
            zone=request.zone,
            provisioning_model=request.provisioning_model,
            boot_disk=request.boot_disk,
            # Azure has one price per VM, which includes memory, GPUs and local disks.
            price=PriceBreakdown(cpu=vm, boot_disk=disk, address=self._address),
            priced_at=prices.fetched_at,
        )

    def _vm(self, request: OfferRequest, prices: RegionPrices) -> Money | str:
        name = request.instance_type.name
        if request.provisioning_model is ProvisioningModel.SPOT:
            found = prices.spot.get(name)
            return found if found is not None else f"{prices.region}: no spot price for {name}"
        found = prices.on_demand.get(name)
        return found if found is not None else f"{prices.region}: no on-demand price for {name}"


def _disk(request: OfferRequest, prices: RegionPrices) -> Money | str:
    """Return the price per hour, or the reason why there is none."""
    problem = disk_problem(request.boot_disk)
    if problem is not None:
        return problem
    tier = tier_of(request.boot_disk)
    found = prices.disks.get(tier)
    return found / HOURS_PER_MONTH if found is not None else f"{prices.region}: no price for disks of tier {tier}"


@contextmanager
def open_pricing(settings: AzureSettings, context: PricingContext) -> Iterator[RetailPricing]:
    """Open the prices of a region; they are fetched when first needed. Raises `InputError` without a region."""
    region = (context.region or location_of(context.zone or "")).lower()
    if not region:
        raise InputError(
            "no region is set",
            hint="set --region or --zone; list regions with: cloud-tasks list-regions --provider azure",
        )
    prices = PriceCache(
        "Prices",
        files=price_files(context.cache_dir, settings.prices_endpoint),
        fetch=lambda name, _: {name: fetch_prices(settings.prices_endpoint, name)},
        max_age=timedelta(hours=settings.price_max_age_hours),
    )
    pricing = RetailPricing(region, prices, has_address=settings.public_address)
    yield pricing
    pricing.close()


def price_files(folder: Path | None, source: str) -> PriceFiles[RegionPrices]:
    """Return the cache of one endpoint of the Retail Prices API; None disables it."""
    return PriceFiles(folder, name="azure-prices", source=source, encode=_encode, decode=_decode)


def _encode(prices: RegionPrices) -> dict[str, Any]:
    return {
        "on_demand": prices_to_json(prices.on_demand),
        "spot": prices_to_json(prices.spot),
        "disks": prices_to_json(prices.disks),
    }


def _decode(region: str, fetched_at: datetime, content: Mapping[str, Any]) -> RegionPrices:
    return RegionPrices(
        region=region,
        fetched_at=fetched_at,
        on_demand=prices_from_json(content["on_demand"]),
        spot=prices_from_json(content["spot"]),
        disks=prices_from_json(content["disks"]),
    )
