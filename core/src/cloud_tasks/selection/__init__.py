"""Which machines to buy, and how many. Pure: no clock, no call besides the price function that is handed in."""

from __future__ import annotations

from cloud_tasks.selection.alternatives import alternatives, dearest
from cloud_tasks.selection.filter import Candidates, Rejection, candidates
from cloud_tasks.selection.forecast import Forecast, forecast
from cloud_tasks.selection.instance_count import (
    COMMITMENT,
    FleetTotals,
    additional_instances,
    most_instances,
    surplus_instances,
)
from cloud_tasks.selection.ranking import Prefer, PriceFunction, RankedOffer, Ranking, rank
from cloud_tasks.selection.sizing import boot_disk_gb, slots
from cloud_tasks.selection.zone_spread import alike, spread

__all__ = [
    "COMMITMENT",
    "Candidates",
    "FleetTotals",
    "Forecast",
    "Prefer",
    "PriceFunction",
    "RankedOffer",
    "Ranking",
    "Rejection",
    "additional_instances",
    "alike",
    "alternatives",
    "boot_disk_gb",
    "candidates",
    "dearest",
    "forecast",
    "most_instances",
    "rank",
    "slots",
    "spread",
    "surplus_instances",
]
