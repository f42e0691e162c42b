"""Cache files of Azure prices, one per region."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from cloud_tasks.plugin.kit import PriceFiles, prices_from_json, prices_to_json
from cloud_tasks_azure.pricing.rates import RegionPrices

__all__ = ["price_files"]


def price_files(folder: Path | None, source: str) -> PriceFiles[RegionPrices]:
    """Return the cache of one endpoint of the Retail Prices API; None disables it."""
    return PriceFiles(folder, name="azure-prices", source=source, encode=_encode, decode=_decode)


def _encode(prices: RegionPrices) -> dict[str, Any]:
    return {
        "on_demand": prices_to_json(prices.on_demand),
        "spot": prices_to_json(prices.spot),
        "disks": prices_to_json(prices.disks),
    }


def _decode(region: str, fetched_at: datetime, content: Mapping[str, Any]) -> RegionPrices:
    return RegionPrices(
        region=region,
        fetched_at=fetched_at,
        on_demand=prices_from_json(content["on_demand"]),
        spot=prices_from_json(content["spot"]),
        disks=prices_from_json(content["disks"]),
    )
