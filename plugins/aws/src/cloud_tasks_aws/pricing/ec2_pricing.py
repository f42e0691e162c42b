"""Prices of EC2 instances, on-demand and spot, with their boot disks.

Invariants, each with a test:

1. Prices are fetched, cached and refreshed by `PriceCache`.
2. An offer without a price is returned as `Unpriced` with the reason.
3. An offer includes what else an instance can be charged for: public address, surplus credits of a burstable type.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from cloud_tasks.model import Money, Offer, OfferRequest, PriceBreakdown, ProvisioningModel, Unpriced
from cloud_tasks.plugin import Pricing, PricingContext
from cloud_tasks.plugin.kit import PriceCache
from cloud_tasks_aws.compute.burstable import surplus_price
from cloud_tasks_aws.pricing.cache import list_price_files, spot_price_files
from cloud_tasks_aws.pricing.disk_price import disk_price
from cloud_tasks_aws.pricing.price_list import fetch_list_prices, pricing_region
from cloud_tasks_aws.pricing.rates import ListPrices, SpotPrices
from cloud_tasks_aws.pricing.spot_history import fetch_spot_prices
from cloud_tasks_aws.session import client, identity_of, region_for
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["ADDRESS_PRICE", "Ec2Pricing", "open_pricing"]

ADDRESS_PRICE = Money("0.005")
"""Price per hour of a public IPv4 address, in all regions since 2024-02-01 ("AWS Public IPv4 Address Charge", AWS News
Blog; "Amazon VPC pricing")."""
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Ec2Pricing:
    """`Pricing` of one AWS region. Thread-safe.

    Args:
        region: Region of spot prices and of requests without a zone.
        has_address: Whether instances may get a public address.
        clients: Clients to close with this object.
    """

    def __init__(
        self,
        region: str,
        on_demand: PriceCache[ListPrices],
        spot: PriceCache[SpotPrices],
        *,
        has_address: bool = True,
        clients: Sequence[Any] = (),
    ) -> None:
        self._region = region
        self._on_demand = on_demand
        self._spot = spot
        self._address = ADDRESS_PRICE if has_address else Money.zero()
        self._clients = tuple(clients)

    def price(self, requests: Sequence[OfferRequest]) -> Sequence[Offer | Unpriced]:
        return tuple(self._price(request) for request in requests)

    def close(self) -> None:
        for each in self._clients:
            each.close()

    def _price(self, request: OfferRequest) -> Offer | Unpriced:
        code = self._code(request.zone)
        prices = self._on_demand.get(code)
        if prices is None:
            return Unpriced(request=request, reason=f"no price list for {code}")
        found = self._instance(request, prices)
        if isinstance(found, str):
            return Unpriced(request=request, reason=found)
        instance, priced_at = found
        disk = disk_price(request.boot_disk, prices)
        if isinstance(disk, str):
            return Unpriced(request=request, reason=disk)
        return Offer(
            instance_type=request.instance_type,
            zone=request.zone,
            provisioning_model=request.provisioning_model,
            boot_disk=request.boot_disk,
            # EC2 has one price per instance, which includes memory, GPUs and local disks.
            price=PriceBreakdown(
                cpu=instance,
                boot_disk=disk.size,
                boot_disk_iops=disk.iops,
                boot_disk_throughput=disk.throughput,
                address=self._address,
                surplus_credits=surplus_price(request.instance_type),
            ),
            priced_at=min(priced_at, prices.fetched_at),
        )

    def _instance(self, request: OfferRequest, prices: ListPrices) -> tuple[Money, datetime] | str:
        """Return the price of the instance without its disk and the time it was fetched, or why there is none."""
        name = request.instance_type.name
        if request.provisioning_model is ProvisioningModel.ON_DEMAND:
            price = prices.instances.get(name)
            if price is None:
                return f"price list of {prices.code}: no on-demand price in US dollars for {name}"
            return price, prices.fetched_at
        spot = self._spot.get(self._region)
        price = None if spot is None else spot.zones.get(request.zone, {}).get(name)
        if spot is None or price is None:
            return f"no spot price for {name} in {request.zone or 'a region without a zone'}"
        return price, spot.fetched_at

    def _code(self, zone: str) -> str:
        """Return the zone without its letter: the region, or the local zone group, which has its own prices."""
        return zone.rstrip(_LETTERS) if zone else self._region


@contextmanager
def open_pricing(settings: AwsSettings, context: PricingContext) -> Iterator[Pricing]:
    """Open the prices of the context's region; they are fetched when first needed."""
    region = region_for(settings, context.region, context.zone)
    price_list = client(settings, "pricing", pricing_region(region))
    ec2 = client(settings, "ec2", region)
    # Zone letters map to different physical zones in each account.
    account = f"{ec2.meta.endpoint_url} {identity_of(settings)}"
    pricing = Ec2Pricing(
        region,
        PriceCache(
            "On-demand prices",
            files=list_price_files(context.cache_dir, price_list.meta.endpoint_url),
            fetch=lambda code, _: {code: fetch_list_prices(price_list, code)},
            max_age=timedelta(hours=settings.price_max_age_hours),
        ),
        PriceCache(
            "Spot prices",
            files=spot_price_files(context.cache_dir, account),
            fetch=lambda name, _: {name: fetch_spot_prices(ec2, name)},
            max_age=timedelta(minutes=settings.spot_price_max_age_minutes),
        ),
        # By default the subnet decides, and those of the default VPC assign addresses.
        has_address=settings.public_address is not False,
        clients=(price_list, ec2),
    )
    try:
        yield pricing
    finally:
        pricing.close()
