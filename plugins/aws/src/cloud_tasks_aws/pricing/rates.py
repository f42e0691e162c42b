"""Unit prices of AWS, as its services report them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import attrs

from cloud_tasks.model import Money

__all__ = ["DiskRates", "ListPrices", "SpotPrices"]


@attrs.frozen(kw_only=True)
class DiskRates:
    """Prices of one EBS volume type, per month."""

    gb: Money
    iops: tuple[Money, ...] = ()
    """Price per IOPS by tier; empty: not configurable, or included in the price per GB."""
    mb_s: Money | None = None
    """Price per MB/s (MiB/s, as EBS counts); None: not configurable, or included in the price per GB."""


@attrs.frozen(kw_only=True)
class ListPrices:
    """Price list of one region."""

    code: str
    """Region or local zone group, as in the price list."""
    fetched_at: datetime
    """UTC."""
    instances: Mapping[str, Money]
    """On-demand prices per hour, by instance type."""
    disks: Mapping[str, DiskRates]


@attrs.frozen(kw_only=True)
class SpotPrices:
    """Current spot prices of one region."""

    region: str
    fetched_at: datetime
    """UTC."""
    zones: Mapping[str, Mapping[str, Money]]
    """Prices per hour, by zone and instance type."""
