"""What Azure asks for in one region: unit prices as the API says them, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import attrs

from cloud_tasks.model import Money

__all__ = ["RegionPrices"]


@attrs.frozen(kw_only=True)
class RegionPrices:
    """The retail prices of a region, in US dollars."""

    region: str
    fetched_at: datetime
    """UTC."""
    on_demand: Mapping[str, Money]
    """Per hour, by size, for Linux."""
    spot: Mapping[str, Money]
    """Likewise."""
    disks: Mapping[str, Money]
    """Per month, by tier of locally redundant storage: ``P10``."""
