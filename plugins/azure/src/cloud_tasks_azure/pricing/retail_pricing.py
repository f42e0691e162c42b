"""Prices of machines, on demand and spot, with their boot disks.

Invariants, each with a test:

1. Prices are fetched once for however many requests and threads, and again when they are older than the settings allow.
2. Old prices are better than none: where they cannot be fetched, those on disk are used, and that is said once.
3. What has no price is left out with a reason.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Money, Offer, OfferRequest, PriceBreakdown, Purchase, Unpriced
from cloud_tasks_azure.compute.disks import disk_problem, tier_of
from cloud_tasks_azure.compute.zones import location_of
from cloud_tasks_azure.pricing.cache import PriceCache
from cloud_tasks_azure.pricing.rates import RegionPrices

__all__ = ["HOURS_PER_MONTH", "RetailPricing"]

log = structlog.get_logger()

HOURS_PER_MONTH = 730
"""As Azure's own calculator has it ("Pricing calculator", estimated monthly cost)."""

_PAUSE_AFTER_FAILURE = 300.0
"""Seconds for which old prices do before they are asked for again."""


class RetailPricing:
    """The `Pricing` of Azure. Thread-safe.

    Args:
        region: What a request without a zone means.
        fetch: Reads the prices of a region. Raises `ProviderError`.
        max_age: When they are fetched again.
    """

    def __init__(
        self, region: str, *, fetch: Callable[[str], RegionPrices], cache: PriceCache, max_age: timedelta
    ) -> None:
        self._region = region
        self._fetch = fetch
        self._cache = cache
        self._max_age = max_age
        self._lock = threading.Lock()
        self._known: dict[str, RegionPrices] = {}
        self._not_before: dict[str, float] = {}

    def price(self, requests: Sequence[OfferRequest]) -> Sequence[Offer | Unpriced]:
        return tuple(self._price(request) for request in requests)

    def close(self) -> None:
        """Nothing is open."""

    def _price(self, request: OfferRequest) -> Offer | Unpriced:
        region = location_of(request.zone) if request.zone else self._region
        prices = self._prices(region)
        machine = self._machine(request, prices)
        if isinstance(machine, str):
            return Unpriced(request=request, reason=machine)
        disk = _disk(request, prices)
        if isinstance(disk, str):
            return Unpriced(request=request, reason=disk)
        return Offer(
            instance_type=request.instance_type,
            zone=request.zone,
            purchase=request.purchase,
            boot_disk=request.boot_disk,
            # Azure has one price for the whole machine: memory, GPUs and local disks are part of it.
            price=PriceBreakdown(cpu=machine, boot_disk=disk),
            priced_at=prices.fetched_at,
        )

    def _machine(self, request: OfferRequest, prices: RegionPrices) -> Money | str:
        name = request.instance_type.name
        if request.purchase is Purchase.SPOT:
            found = prices.spot.get(name)
            return found if found is not None else f"{prices.region} has no spot price for {name}"
        found = prices.on_demand.get(name)
        return found if found is not None else f"{prices.region} has no price for {name}"

    def _prices(self, region: str) -> RegionPrices:
        with self._lock:
            known = self._known.get(region) or self._cache.load(region)
            if known is None or (self._is_old(known) and self._not_before.get(region, 0.0) <= time.monotonic()):
                known = self._renew(region, known)
            self._known[region] = known
            return known

    def _is_old(self, prices: RegionPrices) -> bool:
        return not timedelta(0) <= datetime.now(UTC) - prices.fetched_at <= self._max_age

    def _renew(self, region: str, known: RegionPrices | None) -> RegionPrices:
        try:
            prices = self._fetch(region)
        except ProviderError as error:
            if known is None:
                raise
            log.warning(f"Prices of {region} are those of {known.fetched_at:%Y-%m-%d %H:%M} UTC: {error.message}")
            self._not_before[region] = time.monotonic() + _PAUSE_AFTER_FAILURE
            return known
        self._cache.keep(prices)
        return prices


def _disk(request: OfferRequest, prices: RegionPrices) -> Money | str:
    """Per hour, or why there is no price."""
    problem = disk_problem(request.boot_disk)
    if problem is not None:
        return problem
    tier = tier_of(request.boot_disk)
    found = prices.disks.get(tier)
    return found / HOURS_PER_MONTH if found is not None else f"{prices.region} has no price for disks of tier {tier}"
