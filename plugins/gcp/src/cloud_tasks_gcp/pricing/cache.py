"""Cache files of rates, one per region."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from cloud_tasks.plugin.kit import PriceFiles, prices_from_json, prices_to_json
from cloud_tasks_gcp.pricing.rates import Rates

__all__ = ["rate_files"]


def rate_files(folder: Path | None, source: str) -> PriceFiles[Rates]:
    """Return the cache files of one catalog endpoint; without a folder nothing is stored."""
    return PriceFiles(folder, name="gcp-prices", source=source, encode=_encode, decode=_decode)


def _encode(rates: Rates) -> dict[str, Any]:
    return {"on_demand": prices_to_json(rates.on_demand), "spot": prices_to_json(rates.spot)}


def _decode(region: str, fetched_at: datetime, content: Mapping[str, Any]) -> Rates:
    return Rates(
        region=region,
        fetched_at=fetched_at,
        on_demand=prices_from_json(content["on_demand"]),
        spot=prices_from_json(content["spot"]),
    )
