"""Prices of EC2 instances, on demand and spot, with their boot disks.

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
from typing import Any, Generic, TypeVar

import structlog

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Money, Offer, OfferRequest, PriceBreakdown, Purchase, Unpriced
from cloud_tasks_aws.pricing.disk_price import disk_price
from cloud_tasks_aws.pricing.rates import ListPrices, SpotPrices

__all__ = ["Ec2Pricing", "Kept"]

log = structlog.get_logger()

_T = TypeVar("_T", bound=ListPrices | SpotPrices)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_PAUSE_AFTER_FAILURE = 300.0
"""Seconds for which old prices do before they are asked for again."""


class Kept(Generic[_T]):
    """Prices of one kind, by place: in memory, on disk, and from the service. Thread-safe.

    Args:
        what: For people.
        load: From disk, however old.
        fetch: From the service. Raises `ProviderError`.
        keep: Write them down.
        max_age: When they are fetched again.
    """

    def __init__(
        self,
        what: str,
        *,
        load: Callable[[str], _T | None],
        fetch: Callable[[str], _T],
        keep: Callable[[_T], None],
        max_age: timedelta,
    ) -> None:
        self._what = what
        self._load = load
        self._fetch = fetch
        self._keep = keep
        self._max_age = max_age
        self._lock = threading.Lock()
        self._known: dict[str, _T] = {}
        self._not_before: dict[str, float] = {}

    def get(self, place: str) -> _T:
        """The prices of a place. Raises `ProviderError` where there are none at all."""
        with self._lock:
            known = self._known.get(place) or self._load(place)
            if known is None or (self._is_old(known) and self._not_before.get(place, 0.0) <= time.monotonic()):
                known = self._renew(place, known)
            self._known[place] = known
            return known

    def _is_old(self, prices: _T) -> bool:
        return not timedelta(0) <= datetime.now(UTC) - prices.fetched_at <= self._max_age

    def _renew(self, place: str, known: _T | None) -> _T:
        try:
            prices = self._fetch(place)
        except ProviderError as error:
            if known is None:
                raise
            log.warning(f"{self._what} of {place} are those of {known.fetched_at:%Y-%m-%d %H:%M} UTC: {error.message}")
            self._not_before[place] = time.monotonic() + _PAUSE_AFTER_FAILURE
            return known
        self._keep(prices)
        return prices


class Ec2Pricing:
    """The `Pricing` of one region. Thread-safe.

    Args:
        region: Where the spot prices are, and what a request without a zone means.
        clients: To be closed with this object.
    """

    def __init__(
        self, region: str, on_demand: Kept[ListPrices], spot: Kept[SpotPrices], *, clients: Sequence[Any] = ()
    ) -> None:
        self._region = region
        self._on_demand = on_demand
        self._spot = spot
        self._clients = tuple(clients)

    def price(self, requests: Sequence[OfferRequest]) -> Sequence[Offer | Unpriced]:
        return tuple(self._price(request) for request in requests)

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def _price(self, request: OfferRequest) -> Offer | Unpriced:
        prices = self._on_demand.get(self._code(request.zone))
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
            purchase=request.purchase,
            boot_disk=request.boot_disk,
            # EC2 has one price for the whole machine: memory, GPUs and local disks are part of it.
            price=PriceBreakdown(
                cpu=instance, boot_disk=disk.size, boot_disk_iops=disk.iops, boot_disk_throughput=disk.throughput
            ),
            priced_at=min(priced_at, prices.fetched_at),
        )

    def _instance(self, request: OfferRequest, prices: ListPrices) -> tuple[Money, datetime] | str:
        """The price of the machine alone and when it was told, or why there is none."""
        name = request.instance_type.name
        if request.purchase is Purchase.ON_DEMAND:
            price = prices.instances.get(name)
            if price is None:
                return f"the price list of {prices.code} has no on-demand price in US dollars for {name}"
            return price, prices.fetched_at
        spot = self._spot.get(self._region)
        price = spot.zones.get(request.zone, {}).get(name)
        if price is None:
            return f"there is no spot price for {name} in {request.zone or 'a region without a zone'}"
        return price, spot.fetched_at

    def _code(self, zone: str) -> str:
        """A zone without its letter: the region, or the group of local zones, which has prices of its own."""
        return zone.rstrip(_LETTERS) if zone else self._region
