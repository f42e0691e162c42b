"""`PriceCache` and `PriceFiles`: fetches, ages, failures, and files."""

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
from cloud_tasks.plugin.kit import PriceCache, PriceFiles, prices_from_json, prices_to_json

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@attrs.frozen(kw_only=True)
class Prices:
    place: str
    fetched_at: datetime
    rates: Mapping[str, Money]


def some(place: str = "here", price: str = "0.1", *, at: datetime = NOON) -> Prices:
    return Prices(place=place, fetched_at=at, rates={"m": Money(price), "a": Money("0.000001")})


def files(folder: Path | None, *, source: str = "service") -> PriceFiles[Prices]:
    def decode(place: str, fetched_at: datetime, content: Mapping[str, Any]) -> Prices:
        return Prices(place=place, fetched_at=fetched_at, rates=prices_from_json(content["rates"]))

    return PriceFiles(
        folder,
        name="x-prices",
        source=source,
        encode=lambda prices: {"rates": prices_to_json(prices.rates)},
        decode=decode,
    )


class Service:
    """A service with the prices of two places, and a clock."""

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


def test_cache_fetches_once_for_many_threads_and_keeps_every_place_of_the_answer(service: Service) -> None:
    prices = service.prices()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(prices.get, ["here", "there"] * 20))
    assert {each.place for each in found if each is not None} == {"here", "there"}
    assert len(service.asked) == 1


@pytest.mark.parametrize(("hours", "asked"), [(24, 1), (24.1, 2), (-1, 2)])
def test_cache_fetches_again_prices_that_are_too_old_or_in_the_future(
    service: Service, hours: float, asked: int
) -> None:
    prices = service.prices()
    prices.get("here")
    service.now += timedelta(hours=hours)
    assert prices.get("here") is not None
    assert len(service.asked) == asked


def test_cache_reads_the_files_of_another_cache(service: Service, tmp_path: Path) -> None:
    first = service.prices(tmp_path / "new").get("here")
    service.is_down = True
    assert service.prices(tmp_path / "new").get("here") == first == some()
    assert len(service.asked) == 1


def test_cache_uses_older_prices_after_a_failure_and_warns_once(service: Service, tmp_path: Path) -> None:
    service.prices(tmp_path).get("here")
    service.now += timedelta(days=9)
    service.is_down = True
    prices = service.prices(tmp_path)
    with capture_logs() as logs:
        found = [prices.get("here") for _ in range(3)]
    assert found == [some()] * 3
    assert [entry["event"] for entry in logs] == [
        "Prices of here: using those of 2026-01-01 12:00 UTC: the network is down"
    ]
    assert service.asked[1:] == [("here", True)]


def test_cache_fetches_again_some_minutes_after_a_failure(service: Service) -> None:
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


def test_cache_without_prices_raises_the_failure(service: Service) -> None:
    service.is_down = True
    with pytest.raises(ProviderError, match="the network is down"):
        service.prices().get("here")


def test_cache_fetches_an_unknown_place_once(service: Service) -> None:
    prices = service.prices()
    assert prices.get("nowhere") is None
    assert prices.get("nowhere") is None
    assert service.asked == [("nowhere", False)]


def test_cache_of_a_complete_service_fetches_no_unknown_place(service: Service) -> None:
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
def test_load_treats_an_unreadable_file_as_missing(tmp_path: Path, content: str) -> None:
    files(tmp_path).save("here", some())
    (file,) = tmp_path.iterdir()
    file.write_text(content)
    assert files(tmp_path).load("here") is None


@pytest.mark.parametrize(("old", "new"), [('"0.1"', '"high"'), ('{"a"', '[{"a"'), ("+00:00", "")])
def test_load_treats_a_file_with_one_wrong_value_as_missing(tmp_path: Path, old: str, new: str) -> None:
    files(tmp_path).save("here", some())
    (file,) = tmp_path.iterdir()
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    assert files(tmp_path).load("here") is None


def test_load_ignores_prices_of_another_source(tmp_path: Path) -> None:
    files(tmp_path, source="another").save("here", some())
    assert files(tmp_path).load("here") is None


def test_save_refuses_a_place_that_is_a_path(tmp_path: Path) -> None:
    files(tmp_path / "inner").save("../outer", some())
    assert list(tmp_path.rglob("*.json")) == []


def test_cache_works_without_a_writable_folder(service: Service, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert service.prices(tmp_path / "file" / "inner").get("here") == some()


def test_save_removes_its_temporary_file_after_a_failure(service: Service, tmp_path: Path) -> None:
    (tmp_path / "x-prices-here.json").mkdir()
    service.prices(tmp_path).get("here")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x-prices-here.json", "x-prices-there.json"]
