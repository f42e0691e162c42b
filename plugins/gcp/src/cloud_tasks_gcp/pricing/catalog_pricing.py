"""The `Pricing` of Google Cloud: rates from memory, else from disk, else from the Billing Catalog.

Invariants, each with a test:

1. Rates are fetched on the first request for a price, then cached and refreshed by `PriceCache`.
2. Every offer has the time of its rates.
3. An instance type without a price is `Unpriced`, with a reason, and does not affect others; likewise one with an
   invalid disk.
4. An offer includes the external address that the settings assign.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import attrs

from cloud_tasks.model import Money, Offer, OfferRequest, ProvisioningModel, Unpriced
from cloud_tasks.plugin import PricingContext
from cloud_tasks.plugin.kit import PriceCache
from cloud_tasks_gcp.compute.families import family_of
from cloud_tasks_gcp.disks import disk_problem
from cloud_tasks_gcp.pricing.cache import rate_files
from cloud_tasks_gcp.pricing.catalog import endpoint_of, fetch_rates
from cloud_tasks_gcp.pricing.parts import NotPricedError
from cloud_tasks_gcp.pricing.rates import Rates
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["ADDRESS_PRICES", "CatalogPricing"]

ADDRESS_PRICES = {ProvisioningModel.ON_DEMAND: Money("0.005"), ProvisioningModel.SPOT: Money("0.0025")}
"""Price per hour of an external IPv4 address in use, the same in all regions, if the catalog has none ("Network
pricing", external IP address pricing: in use by standard VMs, by Spot VMs)."""


class CatalogPricing:
    """Prices of machine types of any region. Thread-safe.

    Args:
        context: Context with the cache folder; None for a cache in memory only.
        now: Clock (UTC).
    """

    def __init__(
        self,
        settings: GcpSettings,
        context: PricingContext,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._external_address = settings.external_address
        self._prices = PriceCache(
            "Prices of Google Cloud",
            files=rate_files(context.cache_dir, endpoint_of(settings)),
            # With older rates cached, a missing network must not delay the command.
            fetch=lambda _, is_known: fetch_rates(settings, attempts=2 if is_known else 5, now=now),
            max_age=timedelta(hours=settings.price_max_age_hours),
            brings_all=True,
            now=now,
        )

    def price(self, requests: Sequence[OfferRequest]) -> Sequence[Offer | Unpriced]:
        """Return one offer or `Unpriced` per request, in order. Raise `ProviderError` without any rates, cached or
        current."""
        regions = {_region(request.zone) for request in requests}
        rates = {region: self._prices.get(region) for region in sorted(regions)}
        return tuple(self._with_address(_offer(request, rates), rates) for request in requests)

    def _with_address(self, answer: Offer | Unpriced, rates: Mapping[str, Rates | None]) -> Offer | Unpriced:
        if isinstance(answer, Unpriced) or not self._external_address:
            return answer
        spot = answer.provisioning_model is ProvisioningModel.SPOT
        found = rates[_region(answer.zone)]
        address = found.address(spot=spot) if found is not None else None
        price = attrs.evolve(answer.price, address=address or ADDRESS_PRICES[answer.provisioning_model])
        return attrs.evolve(answer, price=price)

    def close(self) -> None:
        """Do nothing: no resource stays open."""


def _offer(request: OfferRequest, rates: Mapping[str, Rates | None]) -> Offer | Unpriced:
    region = _region(request.zone)
    found = rates[region]
    if found is None:
        return Unpriced(request=request, reason=f"the catalog has no prices for region {region or '(none)'}")
    spot = request.provisioning_model is ProvisioningModel.SPOT
    problem = disk_problem(request.boot_disk)
    if not problem and not spot and not family_of(request.instance_type.name).on_demand:
        problem = "not sold on demand, only as spot, by reservation or as flex-start"
    if problem:
        return Unpriced(request=request, reason=problem)
    try:
        price = found.price(request.instance_type, request.boot_disk, spot=spot)
    except NotPricedError as error:
        return Unpriced(request=request, reason=str(error))
    return Offer(
        instance_type=request.instance_type,
        zone=request.zone,
        provisioning_model=request.provisioning_model,
        boot_disk=request.boot_disk,
        price=price,
        priced_at=found.fetched_at,
    )


def _region(zone: str) -> str:
    """Return the region of a zone: ``us-central1`` of ``us-central1-a``."""
    return zone.rpartition("-")[0]
