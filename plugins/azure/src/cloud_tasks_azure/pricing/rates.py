"""Unit prices of Azure in one region, as the API reports them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import attrs

from cloud_tasks.model import Money

__all__ = ["RegionPrices"]


@attrs.frozen(kw_only=True)
class RegionPrices:
    """Retail prices of a region, in US dollars."""

    region: str
    fetched_at: datetime
    """UTC."""
    on_demand: Mapping[str, Money]
    """Prices per hour for Linux, by VM size."""
    spot: Mapping[str, Money]
    """Spot prices per hour for Linux, by VM size."""
    disks: Mapping[str, Money]
    """Prices per month, by tier of locally redundant storage: ``P10``."""
