"""Rates on disk: one small JSON file for each region, so that prices are there at once and without a network.

Invariants, each with a test:

1. A file is whole or not there: it is written beside its place and moved there.
2. What cannot be read (another format, another program's file, half a file) is as if it were not there.
3. Nothing here stops a job: a folder that cannot be written is told at debug level, and prices are fetched anew.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from cloud_tasks.model import Money
from cloud_tasks_gcp.pricing.rates import Rates

__all__ = ["RateCache"]

log = structlog.get_logger()

_FORMAT = 1
_REGION = re.compile(r"[a-z0-9-]+")


class RateCache:
    """The files of a folder.

    Args:
        folder: Made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, region: str) -> Rates | None:
        """What was stored last for a region, however old."""
        if not _REGION.fullmatch(region):
            return None
        try:
            content = json.loads(self._path(region).read_text())
            return _decode(content) if content.get("format") == _FORMAT and content.get("region") == region else None
        except (OSError, ValueError, ArithmeticError, KeyError, TypeError, AttributeError):
            return None

    def store(self, rates: Iterable[Rates]) -> None:
        """Keep the rates of several regions."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for each in rates:
                if _REGION.fullmatch(each.region):
                    self._write(self._path(each.region), _encode(each))
        except OSError as error:
            log.debug("Prices were not kept", folder=str(self._folder), reason=error.strerror or type(error).__name__)

    def _path(self, region: str) -> Path:
        return self._folder / f"prices-{region}.json"

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        handle, name = tempfile.mkstemp(dir=self._folder, prefix=".prices-")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(content, file, separators=(",", ":"))
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise


def _encode(rates: Rates) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "region": rates.region,
        "fetched_at": rates.fetched_at.isoformat(),
        "on_demand": {key: _text(price) for key, price in sorted(rates.on_demand.items())},
        "spot": {key: _text(price) for key, price in sorted(rates.spot.items())},
    }


def _text(price: Money) -> str:
    return format(price.usd.normalize(), "f")


def _decode(content: Mapping[str, Any]) -> Rates:
    fetched_at = datetime.fromisoformat(content["fetched_at"])
    if fetched_at.tzinfo is None:
        raise ValueError("a time without a zone")
    return Rates(
        region=content["region"],
        fetched_at=fetched_at,
        on_demand={key: Money(str(price)) for key, price in content["on_demand"].items()},
        spot={key: Money(str(price)) for key, price in content["spot"].items()},
    )
