"""One SKU of the Cloud Billing Catalog, read from the API's JSON into what a price needs.

Sources: the reference of the Cloud Billing API (method services.skus.list, resource Sku), and the units that the
catalog itself uses (``h``, ``GiBy.h``, ``GBy.h``, ``GiBy.mo``, ``mo``).

Invariants, each with a test:

1. A price is exact: ``units`` and ``nanos`` become one decimal, never a float.
2. Of tiers the first that costs anything is taken: what is free of charge up to an amount is shared by a whole billing
   account, and a fleet is soon past it.
3. A SKU that is incomplete, in another currency or in an unknown unit is skipped, and stops no other.
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
"""How many hours Google's price lists count in a month (Google Cloud: "Disk and image pricing", monthly to hourly)."""

_GIB_PER_GB = Decimal(2**30) / Decimal(10**9)

_UNITS: Mapping[str, tuple[Decimal, int]] = {
    "h": (Decimal(1), 1),
    "GiBy.h": (Decimal(1), 1),
    "GBy.h": (_GIB_PER_GB, 1),
    "mo": (Decimal(1), HOURS_PER_MONTH),
    "GiBy.mo": (Decimal(1), HOURS_PER_MONTH),
    "GBy.mo": (_GIB_PER_GB, HOURS_PER_MONTH),
}
"""What a price in each unit is multiplied with and divided by, to become one per hour (and GiB, for a volume)."""

_USAGE = {"OnDemand": False, "Preemptible": True}
"""The kinds of usage that are read, and whether they are spot; commitments (``Commit1Yr`` …) are not."""

_SPOT = re.compile(r"^(Spot )?Preemptible | attached to (Spot )?Preemptible VMs?\b")
_PLACE = re.compile(r"( running)? (in|globally)( .*)?$")


@attrs.frozen(kw_only=True)
class Sku:
    """One thing that is sold, where and for how much."""

    title: str
    """What it is, without place and without how it is bought: ``N2 Instance Core``, ``Balanced PD Capacity``."""
    spot: bool
    regions: tuple[str, ...]
    family: str
    """``Compute`` or ``Storage``."""
    price: Money
    """Per hour, of one core, GiB, device, IOPS or MiB/s."""


def read_skus(answers: Iterable[Mapping[str, Any]]) -> Iterator[Sku]:
    """The SKUs of the ``skus`` arrays of one or more answers that can be part of a machine's price."""
    for answer in answers:
        for each in answer.get("skus", ()):
            sku = _read(each)
            if sku is not None:
                yield sku


def _read(raw: Mapping[str, Any]) -> Sku | None:
    category = raw.get("category") or {}
    usage, family = category.get("usageType"), category.get("resourceFamily")
    description = raw.get("description")
    if usage not in _USAGE or family not in ("Compute", "Storage") or not isinstance(description, str):
        return None
    price = _price(raw.get("pricingInfo") or ())
    if price is None:
        return None
    return Sku(
        title=_PLACE.sub("", _SPOT.sub("", description)),
        # Some spot SKUs are filed under OnDemand; then only the description tells.
        spot=_USAGE[usage] or _SPOT.search(description) is not None,
        regions=tuple(raw.get("serviceRegions") or ()),
        family=family,
        price=price,
    )


def _price(timeline: Sequence[Mapping[str, Any]]) -> Money | None:
    """The newest of a SKU's prices (they come in chronological order), per hour."""
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
    """``units`` (a text, as JSON has no 64-bit integers) plus ``nanos``; None for anything but US dollars."""
    if price.get("currencyCode", "USD") != "USD":
        return None
    try:
        return Decimal(int(price.get("units", 0))) + Decimal(int(price.get("nanos", 0))).scaleb(-9)
    except (TypeError, ValueError):
        return None
