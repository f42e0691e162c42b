"""Cache files of AWS prices: one per price list, and one per region for spot prices."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from cloud_tasks.plugin.kit import (
    PriceFiles,
    money_from_text,
    money_to_text,
    prices_from_json,
    prices_to_json,
)
from cloud_tasks_aws.pricing.rates import DiskRates, ListPrices, SpotPrices

__all__ = ["list_price_files", "spot_price_files"]


def list_price_files(folder: Path | None, source: str) -> PriceFiles[ListPrices]:
    """Return the cache of one endpoint's price lists, by code; None disables it."""
    return PriceFiles(folder, name="aws-on-demand", source=source, encode=_list_to_json, decode=_list_from_json)


def spot_price_files(folder: Path | None, source: str) -> PriceFiles[SpotPrices]:
    """Return the cache of one endpoint's and account's spot prices, by region; None disables it."""
    return PriceFiles(folder, name="aws-spot", source=source, encode=_spot_to_json, decode=_spot_from_json)


def _list_to_json(prices: ListPrices) -> dict[str, Any]:
    disks = {
        kind: [
            money_to_text(rates.gb),
            [money_to_text(each) for each in rates.iops],
            rates.mb_s and money_to_text(rates.mb_s),
        ]
        for kind, rates in prices.disks.items()
    }
    return {"instances": prices_to_json(prices.instances), "disks": disks}


def _list_from_json(code: str, fetched_at: datetime, content: Mapping[str, Any]) -> ListPrices:
    disks = {
        kind: DiskRates(
            gb=money_from_text(gb),
            iops=tuple(money_from_text(each) for each in iops),
            mb_s=None if mb_s is None else money_from_text(mb_s),
        )
        for kind, (gb, iops, mb_s) in content["disks"].items()
    }
    return ListPrices(code=code, fetched_at=fetched_at, instances=prices_from_json(content["instances"]), disks=disks)


def _spot_to_json(prices: SpotPrices) -> dict[str, Any]:
    return {"zones": {zone: prices_to_json(types) for zone, types in sorted(prices.zones.items())}}


def _spot_from_json(region: str, fetched_at: datetime, content: Mapping[str, Any]) -> SpotPrices:
    zones = {zone: prices_from_json(types) for zone, types in content["zones"].items()}
    return SpotPrices(region=region, fetched_at=fetched_at, zones=zones)
