"""Prices on disk: one small file for each region, so that they are there at once and without a network.

Invariants, each with a test:

1. A file is whole or not there: it is written beside its place and moved there.
2. What cannot be read (another format, another endpoint's, half a file) is as if it were not there.
3. Nothing here stops a job: prices that cannot be kept are fetched again.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import structlog

from cloud_tasks.model import Money
from cloud_tasks_azure.pricing.rates import RegionPrices

__all__ = ["PriceCache"]

log = structlog.get_logger()

_FORMAT = 1
_REGION = re.compile(r"[a-z0-9]+")


class PriceCache:
    """The files of a folder.

    Args:
        folder: Made when first written to; None: nothing is kept.
        source: Of which service; what another one said is not taken.
    """

    def __init__(self, folder: Path | None, source: str) -> None:
        self._folder = folder
        self._source = source

    def load(self, region: str) -> RegionPrices | None:
        """What was kept last, however old."""
        path = self._path(region)
        if path is None:
            return None
        try:
            content = json.loads(path.read_text())
            if content["format"] != _FORMAT or content["source"] != self._source:
                return None
            moment = datetime.fromisoformat(content["fetched_at"])
            if moment.tzinfo is None:
                return None
            return RegionPrices(
                region=region,
                fetched_at=moment,
                on_demand=_monies(content["on_demand"]),
                spot=_monies(content["spot"]),
                disks=_monies(content["disks"]),
            )
        except (OSError, ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
            return None

    def keep(self, prices: RegionPrices) -> None:
        """Write prices down."""
        path = self._path(prices.region)
        if path is None:
            return
        content = {
            "format": _FORMAT,
            "source": self._source,
            "fetched_at": prices.fetched_at.isoformat(),
            "on_demand": _texts(prices.on_demand),
            "spot": _texts(prices.spot),
            "disks": _texts(prices.disks),
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".azure-prices-")
            try:
                with os.fdopen(handle, "w") as file:
                    json.dump(content, file, separators=(",", ":"))
                Path(name).replace(path)
            except BaseException:
                with suppress(OSError):
                    Path(name).unlink()
                raise
        except OSError as error:
            log.debug("Prices were not kept", file=str(path), reason=error.strerror or type(error).__name__)

    def _path(self, region: str) -> Path | None:
        if self._folder is None or not _REGION.fullmatch(region):
            return None
        return self._folder / f"azure-prices-{region}.json"


def _texts(prices: Mapping[str, Money]) -> dict[str, str]:
    return {name: format(price.usd.normalize(), "f") for name, price in sorted(prices.items())}


def _monies(prices: Mapping[str, str]) -> dict[str, Money]:
    return {name: Money(str(price)) for name, price in prices.items()}
