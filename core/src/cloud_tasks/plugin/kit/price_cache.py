"""Prices that are fetched seldom and had at once: in memory, in files that outlive the command, from the service.

For `Pricing` backends; imported by them alone, when prices are asked for.

Invariants, each with a test:

1. Prices are fetched once for however many requests and threads, and again when they are older than was settled.
2. Old prices are better than none: where they cannot be fetched, those at hand are used, and that is said once.
3. A file is whole or not there: it is written beside its place and moved there.
4. What cannot be read (another format, another service's, half a file) is as if it were not there.
5. Files never stop a job: prices that cannot be kept are fetched again.
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
_REST_AFTER_FAILURE = timedelta(minutes=5)
"""For so long old prices do before the service is asked again."""
_UNREADABLE = (OSError, ArithmeticError, AttributeError, KeyError, TypeError, ValueError)


class Timestamped(Protocol):
    """Prices of one place, of one moment."""

    @property
    def fetched_at(self) -> datetime: ...


_T = TypeVar("_T", bound=Timestamped)


class PriceFiles(Generic[_T]):
    """One JSON file for each place (a region, mostly).

    Args:
        folder: Made when first written to; None: nothing is kept.
        name: Of the files, before the place: ``aws-spot``.
        source: Of which service, and where it matters of which account; what another one said is not taken.
        encode: What is written of prices, besides when they were fetched: values that JSON knows.
        decode: The prices again, of a place, the moment and what ``encode`` gave. Raises whatever it likes of
            `KeyError`, `TypeError`, `ValueError`, `AttributeError` and `ArithmeticError`.
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
        """What was kept last for a place, however old."""
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

    def keep(self, place: str, prices: _T) -> None:
        """Write the prices of a place down."""
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
            log.debug("Prices were not kept", file=str(path), reason=error.strerror or type(error).__name__)

    def _path(self, place: str) -> Path | None:
        if self._folder is None or not _PLACE.fullmatch(place):
            return None
        return self._folder / f"{self._name}-{place}.json"


class PriceCache(Generic[_T]):
    """Prices of one kind, by place. Thread-safe.

    Args:
        what: They are, for people: ``Spot prices``.
        files: Where they outlive this object.
        fetch: Asks the service for the prices of a place. It is told whether there are old ones to fall back on, and
            may bring those of other places along; it brings none for a place of which the service knows nothing.
            Raises `ProviderError`.
        brings_all: Whether each fetch brings the prices of all places that there are.
        max_age: When they are fetched again.
        now: The clock (UTC).
    """

    def __init__(
        self,
        what: str,
        *,
        files: PriceFiles[_T],
        fetch: Callable[[str, bool], Mapping[str, _T]],
        max_age: timedelta,
        brings_all: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._what = what
        self._files = files
        self._fetch = fetch
        self._max_age = max_age
        self._brings_all = brings_all
        self._now = now
        self._lock = threading.Lock()
        self._known: dict[str, _T] = {}
        self._unknown: dict[str, datetime] = {}
        """When the service was asked about a place that it does not know; "" stands for all of these."""
        self._not_before: datetime | None = None

    def get(self, place: str) -> _T | None:
        """The prices of a place; None where the service has none. Raises `ProviderError`: there are none to be had."""
        with self._lock:
            known = self._known.get(place) or self._files.load(place)
            if known is not None:
                self._known[place] = known
                if self._is_fresh(known.fetched_at) or self._rests():
                    return known
            elif self._is_unknown(place):
                return None
            return self._renewed(place, known)

    def _is_fresh(self, moment: datetime) -> bool:
        return timedelta(0) <= self._now() - moment <= self._max_age

    def _is_unknown(self, place: str) -> bool:
        asked_at = self._unknown.get("" if self._brings_all else place)
        return asked_at is not None and self._is_fresh(asked_at)

    def _rests(self) -> bool:
        return self._not_before is not None and self._now() < self._not_before

    def _renewed(self, place: str, known: _T | None) -> _T | None:
        try:
            fetched = self._fetch(place, known is not None)
        except ProviderError as error:
            if known is None:
                raise
            moment = f"{known.fetched_at:%Y-%m-%d %H:%M} UTC"
            log.warning(f"{self._what} of {place} are those of {moment}: {error.message}")
            self._not_before = self._now() + _REST_AFTER_FAILURE
            return known
        for name, prices in fetched.items():
            self._known[name] = prices
            self._files.keep(name, prices)
        if self._brings_all:
            self._unknown[""] = self._now()
        elif place not in fetched:
            self._unknown[place] = self._now()
        return fetched.get(place)


def money_to_text(price: Money) -> str:
    """The exact amount, as `money_from_text` reads it."""
    return format(price.usd.normalize(), "f")


def money_from_text(text: Any) -> Money:
    """An amount of a file. Raises `ArithmeticError` for what is none."""
    return Money(str(text))


def prices_to_json(prices: Mapping[str, Money]) -> dict[str, str]:
    """Prices by name, in order."""
    return {name: money_to_text(price) for name, price in sorted(prices.items())}


def prices_from_json(content: Mapping[str, Any]) -> dict[str, Money]:
    """What `prices_to_json` made. Raises `ArithmeticError` for what is no amount, `AttributeError` for no mapping."""
    return {name: money_from_text(price) for name, price in content.items()}
