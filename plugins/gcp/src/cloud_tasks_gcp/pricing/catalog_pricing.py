"""The `Pricing` of Google Cloud: rates from memory, from disk, or from the Billing Catalog, in this order.

Invariants, each with a test:

1. Nothing is fetched before a price is asked for, and then only where the rates at hand are older than the settings
   allow.
2. Where Google cannot be reached older rates are used, and said to be old; every offer carries the time of its rates.
3. A machine without a price is `Unpriced`, with a reason, and stops no other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Offer, OfferRequest, Purchase, Unpriced
from cloud_tasks.plugin import PricingContext
from cloud_tasks_gcp.pricing.cache import RateCache
from cloud_tasks_gcp.pricing.catalog import fetch_rates
from cloud_tasks_gcp.pricing.parts import NotPriced
from cloud_tasks_gcp.pricing.rates import Rates
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["CatalogPricing"]

log = structlog.get_logger()

_REST_AFTER_FAILURE = timedelta(minutes=10)
"""How long old rates are used before Google is asked again."""


class CatalogPricing:
    """Prices of machine types of any region. Thread-safe.

    Args:
        context: Its folder keeps the rates; None: memory alone does.
        now: The clock (UTC).
    """

    def __init__(
        self,
        settings: GcpSettings,
        context: PricingContext,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._max_age = timedelta(hours=settings.price_max_age_hours)
        self._cache = RateCache(context.cache_dir / "gcp") if context.cache_dir is not None else None
        self._now = now
        self._lock = threading.Lock()
        self._known: dict[str, Rates] = {}
        self._fetched_at: datetime | None = None
        self._not_before: datetime | None = None

    def price(self, requests: Sequence[OfferRequest]) -> Sequence[Offer | Unpriced]:
        """One answer per request, in order. Raises `ProviderError` where there are no rates at all, old or new."""
        regions = {_region(request.zone) for request in requests}
        with self._lock:
            rates = {region: self._rates(region) for region in sorted(regions)}
        return tuple(_answer(request, rates) for request in requests)

    def close(self) -> None:
        """Nothing is kept open."""

    def _rates(self, region: str) -> Rates | None:
        """The rates of a region; None where Google has none."""
        known = self._known.get(region) or (self._cache.load(region) if self._cache is not None else None)
        if known is not None:
            self._known[region] = known
            if known.age(self._now()) < self._max_age or self._rests():
                return known
        elif self._fetched_at is not None and self._now() - self._fetched_at < self._max_age:
            return None
        try:
            # With older rates at hand nobody should have to wait for a network that is not there.
            fetched = fetch_rates(self._settings, attempts=5 if known is None else 2, now=self._now)
        except ProviderError as error:
            if known is None:
                raise
            self._not_before = self._now() + _REST_AFTER_FAILURE
            hours = known.age(self._now()) / timedelta(hours=1)
            log.warning(f"Using prices of Google Cloud that are {hours:.0f} hours old: {error}")
            return known
        self._fetched_at = self._now()
        self._known.update(fetched)
        if self._cache is not None:
            self._cache.store(fetched.values())
        return fetched.get(region)

    def _rests(self) -> bool:
        return self._not_before is not None and self._now() < self._not_before


def _answer(request: OfferRequest, rates: Mapping[str, Rates | None]) -> Offer | Unpriced:
    region = _region(request.zone)
    found = rates[region]
    if found is None:
        return Unpriced(request=request, reason=f"the catalog has no prices of the region {region or '(none)'}")
    try:
        price = found.price(request.instance_type, request.boot_disk, spot=request.purchase is Purchase.SPOT)
    except NotPriced as error:
        return Unpriced(request=request, reason=str(error))
    return Offer(
        instance_type=request.instance_type,
        zone=request.zone,
        purchase=request.purchase,
        boot_disk=request.boot_disk,
        price=price,
        priced_at=found.fetched_at,
    )


def _region(zone: str) -> str:
    """``us-central1`` of ``us-central1-a``."""
    return zone.rpartition("-")[0]
