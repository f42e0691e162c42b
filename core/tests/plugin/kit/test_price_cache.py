"""Prices that are kept: fetched once, renewed when old, better old than none, whole or not there on disk."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from structlog.testing import capture_logs

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Money
from cloud_tasks.plugin.kit.price_cache import PriceCache, PriceFiles, prices_from_json, prices_to_json

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@attrs.frozen(kw_only=True)
class Prices:
    place: str
    fetched_at: datetime
    machines: Mapping[str, Money]


def some(place: str = "here", price: str = "0.1", *, at: datetime = NOON) -> Prices:
    return Prices(place=place, fetched_at=at, machines={"m": Money(price), "a": Money("0.000001")})


def files(folder: Path | None, *, source: str = "service") -> PriceFiles[Prices]:
    def decode(place: str, fetched_at: datetime, content: Mapping[str, Any]) -> Prices:
        return Prices(place=place, fetched_at=fetched_at, machines=prices_from_json(content["machines"]))

    return PriceFiles(
        folder,
        name="x-prices",
        source=source,
        encode=lambda prices: {"machines": prices_to_json(prices.machines)},
        decode=decode,
    )


class Service:
    """Knows the prices of two places, and the time."""

    def __init__(self) -> None:
        self.now = NOON
        self.asked: list[tuple[str, bool]] = []
        self.price = "0.1"
        self.is_down = False

    def fetch(self, place: str, is_known: bool) -> dict[str, Prices]:
        self.asked.append((place, is_known))
        if self.is_down:
            raise ProviderError("the network is down", transient=True)
        return {name: some(name, self.price, at=self.now) for name in ("here", "there")}

    def prices(self, folder: Path | None = None) -> PriceCache[Prices]:
        return PriceCache(
            "Prices", files=files(folder), fetch=self.fetch, max_age=timedelta(hours=24), now=lambda: self.now
        )


@pytest.fixture
def service() -> Service:
    return Service()


def test_prices_are_fetched_once_for_many_threads_and_for_all_that_came_along(service: Service) -> None:
    prices = service.prices()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(prices.get, ["here", "there"] * 20))
    assert {each.place for each in found if each is not None} == {"here", "there"}
    assert len(service.asked) == 1


@pytest.mark.parametrize(("hours", "asked"), [(24, 1), (24.1, 2), (-1, 2)])
def test_prices_are_fetched_again_when_they_are_old_or_of_tomorrow(service: Service, hours: float, asked: int) -> None:
    prices = service.prices()
    prices.get("here")
    service.now += timedelta(hours=hours)
    assert prices.get("here") is not None
    assert len(service.asked) == asked


def test_another_object_finds_them_on_disk(service: Service, tmp_path: Path) -> None:
    first = service.prices(tmp_path / "new").get("here")
    service.is_down = True
    assert service.prices(tmp_path / "new").get("here") == first == some()
    assert len(service.asked) == 1


def test_old_prices_are_better_than_none_and_that_is_said_once(service: Service, tmp_path: Path) -> None:
    service.prices(tmp_path).get("here")
    service.now += timedelta(days=9)
    service.is_down = True
    prices = service.prices(tmp_path)
    with capture_logs() as logs:
        found = [prices.get("here") for _ in range(3)]
    assert found == [some()] * 3
    assert [entry["event"] for entry in logs] == [
        "Prices of here are those of 2026-01-01 12:00 UTC: the network is down"
    ]
    assert service.asked[1:] == [("here", True)]


def test_after_a_failure_the_service_is_asked_again_a_while_later(service: Service) -> None:
    prices = service.prices()
    prices.get("here")
    service.now += timedelta(days=2)
    service.is_down = True
    prices.get("here")
    service.is_down = False
    service.now += timedelta(minutes=6)
    found = prices.get("here")
    assert found is not None
    assert found.fetched_at == service.now


def test_without_any_prices_the_failure_is_told(service: Service) -> None:
    service.is_down = True
    with pytest.raises(ProviderError, match="the network is down"):
        service.prices().get("here")


def test_a_place_that_the_service_does_not_know_has_none_and_is_not_asked_for_again(service: Service) -> None:
    prices = service.prices()
    assert prices.get("nowhere") is None
    assert prices.get("nowhere") is None
    assert service.asked == [("nowhere", False)]


def test_where_all_prices_come_at_once_no_unknown_place_is_asked_for(service: Service) -> None:
    prices = PriceCache(
        "Prices",
        files=files(None),
        fetch=service.fetch,
        max_age=timedelta(hours=24),
        brings_all=True,
        now=lambda: service.now,
    )
    assert prices.get("here") is not None
    assert prices.get("nowhere") is None
    assert len(service.asked) == 1
    service.now += timedelta(hours=25)
    assert prices.get("nowhere") is None
    assert len(service.asked) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", "42", '{"format": 99}', '{"format": 1, "source": "service"}'])
def test_a_file_that_cannot_be_used_is_as_if_it_were_not_there(tmp_path: Path, content: str) -> None:
    files(tmp_path).keep("here", some())
    (file,) = tmp_path.iterdir()
    file.write_text(content)
    assert files(tmp_path).load("here") is None


@pytest.mark.parametrize(("old", "new"), [('"0.1"', '"dear"'), ('{"a"', '[{"a"'), ("+00:00", "")])
def test_a_file_with_one_thing_wrong_is_as_if_it_were_not_there(tmp_path: Path, old: str, new: str) -> None:
    files(tmp_path).keep("here", some())
    (file,) = tmp_path.iterdir()
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    assert files(tmp_path).load("here") is None


def test_prices_of_another_service_are_not_taken(tmp_path: Path) -> None:
    files(tmp_path, source="another").keep("here", some())
    assert files(tmp_path).load("here") is None


def test_a_place_is_a_name_and_no_path(tmp_path: Path) -> None:
    files(tmp_path / "inner").keep("../outer", some())
    assert list(tmp_path.rglob("*.json")) == []


def test_a_folder_that_cannot_be_written_stops_nothing(service: Service, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert service.prices(tmp_path / "file" / "inner").get("here") == some()


def test_a_write_that_fails_leaves_nothing_half_written(service: Service, tmp_path: Path) -> None:
    (tmp_path / "x-prices-here.json").mkdir()
    service.prices(tmp_path).get("here")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x-prices-here.json", "x-prices-there.json"]
