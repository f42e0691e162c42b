"""Prices on disk: one small file for each region and kind, so that they are there at once and without a network.

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
from typing import Any

import structlog

from cloud_tasks.model import Money
from cloud_tasks_aws.pricing.rates import DiskRates, ListPrices, SpotPrices

__all__ = ["PriceCache"]

log = structlog.get_logger()

_FORMAT = 1
_PLACE = re.compile(r"[a-z0-9-]+")


class PriceCache:
    """The files of a folder.

    Args:
        folder: Made when first written to; None: nothing is kept.
        source: Of which service; what another one said is not taken.
    """

    def __init__(self, folder: Path | None, source: str) -> None:
        self._folder = folder
        self._source = source

    def list_prices(self, code: str) -> ListPrices | None:
        """What was kept last, however old."""
        content = self._read("on-demand", code)
        try:
            return None if content is None else _decode_list(code, content)
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
            return None

    def spot_prices(self, region: str) -> SpotPrices | None:
        """What was kept last, however old."""
        content = self._read("spot", region)
        try:
            return None if content is None else _decode_spot(region, content)
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
            return None

    def keep(self, prices: ListPrices | SpotPrices) -> None:
        """Write prices down."""
        if isinstance(prices, ListPrices):
            disks = {
                kind: [_text(rates.gb), [_text(each) for each in rates.iops], rates.mb_s and _text(rates.mb_s)]
                for kind, rates in prices.disks.items()
            }
            content = {"instances": _texts(prices.instances), "disks": disks}
            self._write("on-demand", prices.code, prices.fetched_at, content)
        else:
            zones = {zone: _texts(types) for zone, types in sorted(prices.zones.items())}
            self._write("spot", prices.region, prices.fetched_at, {"zones": zones})

    def _path(self, kind: str, place: str) -> Path | None:
        known = self._folder is not None and _PLACE.fullmatch(place)
        return self._folder / f"aws-{kind}-{place}.json" if known and self._folder is not None else None

    def _read(self, kind: str, place: str) -> dict[str, Any] | None:
        path = self._path(kind, place)
        try:
            content = json.loads(path.read_text()) if path is not None else None
        except (OSError, ValueError):
            return None
        ours = isinstance(content, dict) and content.get("format") == _FORMAT and content.get("source") == self._source
        return content if ours else None

    def _write(self, kind: str, place: str, fetched_at: datetime, content: Mapping[str, Any]) -> None:
        path = self._path(kind, place)
        if path is None:
            return
        whole = {"format": _FORMAT, "source": self._source, "fetched_at": fetched_at.isoformat(), **content}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".aws-prices-")
            try:
                with os.fdopen(handle, "w") as file:
                    json.dump(whole, file, separators=(",", ":"))
                Path(name).replace(path)
            except BaseException:
                with suppress(OSError):
                    Path(name).unlink()
                raise
        except OSError as error:
            log.debug("Prices were not kept", file=str(path), reason=error.strerror or type(error).__name__)


def _texts(prices: Mapping[str, Money]) -> dict[str, str]:
    return {name: _text(price) for name, price in sorted(prices.items())}


def _text(price: Money) -> str:
    return format(price.usd.normalize(), "f")


def _moment(content: Mapping[str, Any]) -> datetime:
    moment = datetime.fromisoformat(content["fetched_at"])
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment


def _monies(prices: Mapping[str, Any]) -> dict[str, Money]:
    return {name: Money(str(price)) for name, price in prices.items()}


def _decode_list(code: str, content: Mapping[str, Any]) -> ListPrices:
    disks = {
        kind: DiskRates(
            gb=Money(str(gb)),
            iops=tuple(Money(str(each)) for each in iops),
            mb_s=None if mb_s is None else Money(str(mb_s)),
        )
        for kind, (gb, iops, mb_s) in content["disks"].items()
    }
    return ListPrices(code=code, fetched_at=_moment(content), instances=_monies(content["instances"]), disks=disks)


def _decode_spot(region: str, content: Mapping[str, Any]) -> SpotPrices:
    zones = {zone: _monies(types) for zone, types in content["zones"].items()}
    return SpotPrices(region=region, fetched_at=_moment(content), zones=zones)
