"""Hourly rates of one region, and their construction from SKUs.

Invariant, with a test: of two catalog prices for one thing the higher is used, so a cost limit is never exceeded by the
choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import attrs

from cloud_tasks.model import BootDisk, InstanceType, Money, PriceBreakdown
from cloud_tasks_gcp.pricing.parts import NotPricedError, Part, disk_parts, instance_parts
from cloud_tasks_gcp.pricing.skus import Sku
from cloud_tasks_gcp.pricing.titles import rate_key

__all__ = ["Rates", "rates_by_region"]


@attrs.frozen(kw_only=True)
class Rates:
    """Hourly rates of one region."""

    region: str
    fetched_at: datetime
    """Time of the fetch (UTC)."""
    on_demand: Mapping[str, Money]
    """On-demand rates by the keys of `cloud_tasks_gcp.pricing.titles`."""
    spot: Mapping[str, Money]

    def price(self, instance_type: InstanceType, disk: BootDisk, *, spot: bool) -> PriceBreakdown:
        """Return the hourly price of one instance with its boot disk. Raise `NotPricedError`."""
        amounts: dict[str, Money] = {}
        for part in (*instance_parts(instance_type), *disk_parts(disk)):
            amount = self._rate(part, spot=spot) * part.amount
            amounts[part.field] = amounts.get(part.field, Money.zero()) + amount
        return PriceBreakdown(**amounts)

    def address(self, *, spot: bool) -> Money | None:
        """Return the hourly price of an external address; None when the catalog has none."""
        key = f"address/{'spot' if spot else 'on-demand'}"
        return self.on_demand.get(key) or self.spot.get(key)

    def _rate(self, part: Part, *, spot: bool) -> Money:
        spot = spot and part.has_spot
        rates = self.spot if spot else self.on_demand
        for key in part.keys:
            if key in rates:
                return rates[key]
        model = "spot " if spot else ""
        raise NotPricedError(f"the catalog has no {model}price for {part.keys[-1]} in {self.region}")


def rates_by_region(skus: Iterable[Sku], fetched_at: datetime) -> Mapping[str, Rates]:
    """Return the rates of every region of the SKUs, those of the region ``global`` included."""
    found: dict[str, tuple[dict[str, Money], dict[str, Money]]] = {}
    for sku in skus:
        key = rate_key(sku)
        if key is None:
            continue
        for region in sku.regions:
            rates = found.setdefault(region, ({}, {}))[sku.spot]
            if key not in rates or rates[key] < sku.price:
                rates[key] = sku.price
    everywhere, spot_everywhere = found.pop("global", ({}, {}))
    return {
        region: Rates(
            region=region,
            fetched_at=fetched_at,
            on_demand={**everywhere, **on_demand},
            spot={**spot_everywhere, **spot},
        )
        for region, (on_demand, spot) in found.items()
    }
