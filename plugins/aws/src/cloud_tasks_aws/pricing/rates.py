"""What AWS asks for: unit prices as its services say them, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import attrs

from cloud_tasks.model import Money

__all__ = ["DiskRates", "ListPrices", "SpotPrices"]


@attrs.frozen(kw_only=True)
class DiskRates:
    """One type of EBS volume, per month."""

    gb: Money
    iops: tuple[Money, ...] = ()
    """By tier; empty: not to be had, or part of the price per GB."""
    mb_s: Money | None = None
    """For one MB/s (MiB/s, as EBS counts); None: not to be had, or part of the price per GB."""


@attrs.frozen(kw_only=True)
class ListPrices:
    """The price list of one region."""

    code: str
    """The region, or the local zone's group, as the price list calls it."""
    fetched_at: datetime
    """UTC."""
    instances: Mapping[str, Money]
    """Per hour, on demand, by instance type."""
    disks: Mapping[str, DiskRates]


@attrs.frozen(kw_only=True)
class SpotPrices:
    """What spot instances cost now, in one region."""

    region: str
    fetched_at: datetime
    """UTC."""
    zones: Mapping[str, Mapping[str, Money]]
    """Per hour, by zone and instance type."""
