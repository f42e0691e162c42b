"""SKUs of the Cloud Billing Catalog, parsed from the API's JSON.

Sources: the reference of the Cloud Billing API (method services.skus.list, resource Sku), and the units used in the
catalog (``h``, ``GiBy.h``, ``GBy.h``, ``GiBy.mo``, ``mo``).

Invariants, each with a test:

1. A price is exact: ``units`` and ``nanos`` become one decimal, never a float.
2. Of several tiers the first with a cost is used: the free tier is shared by the whole billing account, and many
   instances soon exceed it.
3. An incomplete SKU, or one in another currency or unit, is skipped without affecting others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import attrs

from cloud_tasks.model import Money

__all__ = ["HOURS_PER_MONTH", "Sku", "read_skus"]

HOURS_PER_MONTH = 730
"""Hours per month in Google's price lists (Google Cloud: "Disk and image pricing", monthly to hourly)."""

_GIB_PER_GB = Decimal(2**30) / Decimal(10**9)

_UNITS: Mapping[str, tuple[Decimal, int]] = {
    "h": (Decimal(1), 1),
    "GiBy.h": (Decimal(1), 1),
    "GBy.h": (_GIB_PER_GB, 1),
    "mo": (Decimal(1), HOURS_PER_MONTH),
    "GiBy.mo": (Decimal(1), HOURS_PER_MONTH),
    "GBy.mo": (_GIB_PER_GB, HOURS_PER_MONTH),
}
"""Factor and divisor that convert a price in each unit to one per hour (and per GiB, for volumes)."""

_USAGE = {"OnDemand": False, "Preemptible": True}
"""Usage types read, and whether they are spot; commitments (``Commit1Yr`` …) are skipped."""

_SPOT = re.compile(r"^(Spot )?Preemptible | attached to (Spot )?Preemptible VMs?\b")
_PLACE = re.compile(r"( running)? (in|globally)( (?!.*\b(for|with)\b).*)?$")
"""End of a description. After the place, some name a way of selling, and remain a title of its own."""


@attrs.frozen(kw_only=True)
class Sku:
    """One priced item of the catalog."""

    title: str
    """Description without region and provisioning model: ``N2 Instance Core``, ``Balanced PD Capacity``."""
    spot: bool
    regions: tuple[str, ...]
    family: str
    """Resource family: ``Compute``, ``Storage`` or ``Network``."""
    price: Money
    """Price per hour of one core, GiB, device, IOPS or MiB/s."""


def read_skus(answers: Iterable[Mapping[str, Any]]) -> Iterator[Sku]:
    """Yield the SKUs of one or more responses that can be part of an instance's price."""
    for answer in answers:
        for each in answer.get("skus", ()):
            sku = _read(each)
            if sku is not None:
                yield sku


def _read(raw: Mapping[str, Any]) -> Sku | None:
    category = raw.get("category") or {}
    usage, family = category.get("usageType"), category.get("resourceFamily")
    description = raw.get("description")
    if usage not in _USAGE or family not in ("Compute", "Storage", "Network") or not isinstance(description, str):
        return None
    price = _price(raw.get("pricingInfo") or ())
    if price is None:
        return None
    return Sku(
        title=_PLACE.sub("", _SPOT.sub("", description)),
        # Some spot SKUs have the usage type OnDemand; only the description marks them as spot.
        spot=_USAGE[usage] or _SPOT.search(description) is not None,
        regions=tuple(raw.get("serviceRegions") or ()),
        family=family,
        price=price,
    )


def _price(timeline: Sequence[Mapping[str, Any]]) -> Money | None:
    """Return the newest price of a SKU (prices are in chronological order), per hour."""
    if not timeline:
        return None
    expression = timeline[-1].get("pricingExpression") or {}
    unit = _UNITS.get(str(expression.get("usageUnit")))
    tiers = expression.get("tieredRates") or ()
    if unit is None or not tiers:
        return None
    amounts = [_amount(tier.get("unitPrice") or {}) for tier in tiers]
    if None in amounts:
        return None
    volume, hours = unit
    return Money(next((amount for amount in amounts if amount), Decimal(0))) * volume / hours


def _amount(price: Mapping[str, Any]) -> Decimal | None:
    """Return ``units`` (a text, as JSON has no 64-bit integers) plus ``nanos``; None for other currencies than US
    dollars."""
    if price.get("currencyCode", "USD") != "USD":
        return None
    try:
        return Decimal(int(price.get("units", 0))) + Decimal(int(price.get("nanos", 0))).scaleb(-9)
    except (TypeError, ValueError):
        return None
