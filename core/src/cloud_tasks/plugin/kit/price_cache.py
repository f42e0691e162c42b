"""Cache of prices for `Pricing` backends: in memory, then in files that outlive the process, then from the service.

Invariants, each with a test:

1. Prices are fetched once for any number of requests and threads, and again when they exceed their maximum age.
2. If a fetch fails, older prices are used, with one warning.
3. A file is written completely or not at all: a temporary file is moved into place.
4. An unreadable file (other format, other service, truncated) counts as missing.
5. File errors never stop a job: prices that cannot be written are fetched again.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import structlog

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Money

__all__ = [
    "PriceCache",
    "PriceFiles",
    "Timestamped",
    "money_from_text",
    "money_to_text",
    "prices_from_json",
    "prices_to_json",
]

log = structlog.get_logger()

_FORMAT = 1
_PLACE = re.compile(r"[A-Za-z0-9-]+")
_PAUSE_AFTER_FAILURE = timedelta(minutes=5)
"""Time for which older prices are used before the next fetch."""
_UNREADABLE = (OSError, ArithmeticError, AttributeError, KeyError, TypeError, ValueError)


class Timestamped(Protocol):
    """Prices of one place, with the time of their fetch."""

    @property
    def fetched_at(self) -> datetime:
        """UTC."""


_T = TypeVar("_T", bound=Timestamped)


class PriceFiles(Generic[_T]):
    """One JSON file of prices for each place, usually a region.

    Args:
        folder: Created on the first `save`; None: no files.
        name: File name before the place, e.g. ``aws-spot``.
        source: Service, and account if prices depend on it; files of another source count as missing.
        encode: Return the JSON content of prices; the time of the fetch is stored beside it.
        decode: Return the prices of a place, a time of fetch and a JSON content. May raise `KeyError`, `TypeError`,
            `ValueError`, `AttributeError` or `ArithmeticError`.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        name: str,
        source: str,
        encode: Callable[[_T], Mapping[str, Any]],
        decode: Callable[[str, datetime, Mapping[str, Any]], _T],
    ) -> None:
        self._folder = folder
        self._name = name
        self._source = source
        self._encode = encode
        self._decode = decode

    def load(self, place: str) -> _T | None:
        """Return the latest prices of a place, of any age; None without a readable file."""
        path = self._path(place)
        if path is None:
            return None
        try:
            content = json.loads(path.read_text())
            if (content["format"], content["source"]) != (_FORMAT, self._source):
                return None
            fetched_at = datetime.fromisoformat(content["fetched_at"])
            return None if fetched_at.tzinfo is None else self._decode(place, fetched_at, content["prices"])
        except _UNREADABLE:
            return None

    def save(self, place: str, prices: _T) -> None:
        """Write the prices of a place; a failure is logged only."""
        path = self._path(place)
        if path is None:
            return
        content = {
            "format": _FORMAT,
            "source": self._source,
            "fetched_at": prices.fetched_at.isoformat(),
            "prices": self._encode(prices),
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{self._name}-")
            try:
                with os.fdopen(handle, "w") as file:
                    json.dump(content, file, separators=(",", ":"))
                Path(name).replace(path)
            except BaseException:
                with suppress(OSError):
                    Path(name).unlink()
                raise
        except OSError as error:
            log.debug("Prices could not be saved", file=str(path), reason=error.strerror or type(error).__name__)

    def _path(self, place: str) -> Path | None:
        if self._folder is None or not _PLACE.fullmatch(place):
            return None
        return self._folder / f"{self._name}-{place}.json"


class PriceCache(Generic[_T]):
    """Prices of one kind, by place. Thread-safe.

    Args:
        what: Name for log lines, e.g. ``Spot prices``.
        files: Storage that outlives this object.
        fetch: Return prices by place, fetched from the service, given a place and whether older prices exist. The
            result may include other places; it lacks the given one if the service does not have it. Raises
            `ProviderError`.
        brings_all: Whether each fetch returns all places of the service.
        max_age: Age at which prices are fetched again.
        now: Clock (UTC); None: the system's.
    """

    def __init__(
        self,
        what: str,
        *,
        files: PriceFiles[_T],
        fetch: Callable[[str, bool], Mapping[str, _T]],
        max_age: timedelta,
        brings_all: bool = False,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._what = what
        self._files = files
        self._fetch = fetch
        self._max_age = max_age
        self._brings_all = brings_all
        self._now = now or (lambda: datetime.now(UTC))
        self._lock = threading.Lock()
        self._known: dict[str, _T] = {}
        self._unknown: dict[str, datetime] = {}
        """Time of the fetch that lacked a place; "" stands for all unknown places."""
        self._retry_at: datetime | None = None

    def get(self, place: str) -> _T | None:
        """Return the prices of a place; None if the service has none. Raises `ProviderError` without any prices."""
        with self._lock:
            known = self._known.get(place) or self._files.load(place)
            if known is not None:
                self._known[place] = known
                if self._is_fresh(known.fetched_at) or self._is_paused():
                    return known
            elif self._is_unknown(place):
                return None
            return self._fetch_and_save(place, known)

    def _is_fresh(self, moment: datetime) -> bool:
        return timedelta(0) <= self._now() - moment <= self._max_age

    def _is_unknown(self, place: str) -> bool:
        asked_at = self._unknown.get("" if self._brings_all else place)
        return asked_at is not None and self._is_fresh(asked_at)

    def _is_paused(self) -> bool:
        return self._retry_at is not None and self._now() < self._retry_at

    def _fetch_and_save(self, place: str, known: _T | None) -> _T | None:
        try:
            fetched = self._fetch(place, known is not None)
        except ProviderError as error:
            if known is None:
                raise
            moment = f"{known.fetched_at:%Y-%m-%d %H:%M} UTC"
            log.warning(f"{self._what} of {place}: using those of {moment}: {error.message}")
            self._retry_at = self._now() + _PAUSE_AFTER_FAILURE
            return known
        for name, prices in fetched.items():
            self._known[name] = prices
            self._files.save(name, prices)
        if self._brings_all:
            self._unknown[""] = self._now()
        elif place not in fetched:
            self._unknown[place] = self._now()
        return fetched.get(place)


def money_to_text(price: Money) -> str:
    """Return the exact amount in US dollars, as `money_from_text` reads it."""
    return format(price.usd.normalize(), "f")


def money_from_text(text: Any) -> Money:
    """Return the amount of a text. Raises `ArithmeticError` if it is not a number."""
    return Money(str(text))


def prices_to_json(prices: Mapping[str, Money]) -> dict[str, str]:
    """Return prices by name as JSON, sorted."""
    return {name: money_to_text(price) for name, price in sorted(prices.items())}


def prices_from_json(content: Mapping[str, Any]) -> dict[str, Money]:
    """Return the prices that `prices_to_json` wrote. Raises `ArithmeticError` or `AttributeError` for other content."""
    return {name: money_from_text(price) for name, price in content.items()}
