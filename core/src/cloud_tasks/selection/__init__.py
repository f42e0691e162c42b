"""Selection of instances: which offers to launch, and how many. Pure: no clock, no I/O but the given price function."""

from __future__ import annotations

from cloud_tasks.selection.filter import Candidates, Rejected, Unsuitable, filter_types
from cloud_tasks.selection.instance_count import (
    COMMITMENT,
    FleetTotals,
    additional_instances,
    allowed_instances,
)
from cloud_tasks.selection.job_forecast import Forecast, forecast
from cloud_tasks.selection.lifetime import drain_after
from cloud_tasks.selection.offer_alternatives import alternatives, most_expensive
from cloud_tasks.selection.ranking import Prefer, PriceFunction, RankedOffer, Ranking, rank
from cloud_tasks.selection.sizing import boot_disk_gb, slots
from cloud_tasks.selection.zone_spread import same_offer_other_zones, spread_over_zones

__all__ = [
    "COMMITMENT",
    "Candidates",
    "FleetTotals",
    "Forecast",
    "Prefer",
    "PriceFunction",
    "RankedOffer",
    "Ranking",
    "Rejected",
    "Unsuitable",
    "additional_instances",
    "allowed_instances",
    "alternatives",
    "boot_disk_gb",
    "drain_after",
    "filter_types",
    "forecast",
    "most_expensive",
    "rank",
    "same_offer_other_zones",
    "slots",
    "spread_over_zones",
]
