"""Azure prices, over HTTP against a fake: contract, price table and cache age."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import retail_fake
from arm_catalog import SIZES
from fake_server import Answer, FakeServer, Fault
from retail_fake import RetailFake, retail_items

from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks.model import (
    Architecture,
    BootDisk,
    InstanceType,
    Money,
    Offer,
    OfferRequest,
    ProvisioningModel,
    Unpriced,
)
from cloud_tasks.plugin import PricingContext
from cloud_tasks.plugin.kit import PriceCache
from cloud_tasks.registry import Registry
from cloud_tasks.testing import PricingContract, PricingSubject
from cloud_tasks_azure.pricing import retail
from cloud_tasks_azure.pricing.retail import RegionPrices, disk_prices, fetch_prices, vm_prices
from cloud_tasks_azure.pricing.retail_pricing import RetailPricing, price_files
from cloud_tasks_azure.settings import AzureSettings

NOW = datetime(2025, 7, 1, tzinfo=UTC)


def wanted(
    name: str = "Standard_D2s_v5",
    *,
    spot: bool = False,
    disk: str = "StandardSSD_LRS",
    gb: float = 30,
    zone: str = "eastus-1",
) -> OfferRequest:
    size = InstanceType(name=name, vcpus=2, memory_gb=8.0, architecture=Architecture.X86_64, zones=(zone,))
    return OfferRequest(
        instance_type=size,
        zone=zone,
        provisioning_model=ProvisioningModel.SPOT if spot else ProvisioningModel.ON_DEMAND,
        boot_disk=BootDisk(disk_type=disk, size_gb=gb),
    )


def offered(pricing: Any, request: OfferRequest) -> Offer:
    (answer,) = pricing.price([request])
    assert isinstance(answer, Offer), answer
    return answer


@pytest.fixture
def fake() -> Iterator[RetailFake]:
    with RetailFake() as fake:
        yield fake


@pytest.fixture
def pricing(fake: RetailFake) -> Iterator[Any]:
    backend = Registry(only=["azure"]).pricing("azure")
    with backend.open(AzureSettings(prices_endpoint=fake.url), PricingContext(region="eastus")) as pricing:
        yield pricing


class TestRetailPrices(PricingContract):
    @pytest.fixture
    def subject(self, fake: RetailFake) -> PricingSubject:
        return PricingSubject(
            backend=Registry(only=["azure"]).pricing("azure"),
            requests=(wanted(), wanted(spot=True), wanted("Standard_E4s_v5", disk="Premium_LRS", gb=100)),
            unpriced=wanted("Standard_Z1"),
            settings=AzureSettings(prices_endpoint=fake.url),
            context=PricingContext(region="eastus"),
        )


PUBLISHED = json.loads((Path(retail_fake.__file__).parent / "published_prices.json").read_text())
"""Prices that other projects publish; each part names its source."""
DISKS = [
    # type, requested GiB, per month
    ("Standard_LRS", 10, "1.536"),
    ("Standard_LRS", 33, "3.008"),
    ("Standard_LRS", 129, "11.328"),
    ("StandardSSD_LRS", 30, "2.4"),
    ("StandardSSD_LRS", 32.5, "4.8"),
    ("StandardSSD_LRS", 128, "9.6"),
    ("StandardSSD_LRS", 1000, "76.8"),
    ("Premium_LRS", 4, "5.28"),
    ("Premium_LRS", 64, "10.21"),
    ("Premium_LRS", 512, "73.22"),
    ("Premium_LRS", 4095, "495.57"),
]


@pytest.mark.parametrize("spot", [False, True], ids=["on_demand", "spot"])
def test_price_of_every_size_is_the_published_one(pricing: Any, spot: bool) -> None:
    published = PUBLISHED["spot" if spot else "on_demand"]["usd_per_hour"]
    found = {name: offered(pricing, wanted(name, spot=spot)).price.cpu.usd for name in published}
    off = {
        name: (price, Decimal(published[name]))
        for name, price in found.items()
        if abs(price / Decimal(published[name]) - 1) > Decimal("0.01")
    }
    assert off == {}
    priced = {name for name, size in SIZES.items() if not size.restricted and not size.confidential}
    assert spot or priced == set(published)


def test_price_includes_a_public_address(fake: RetailFake, pricing: Any) -> None:
    backend, context = Registry(only=["azure"]).pricing("azure"), PricingContext(region="eastus")
    with backend.open(AzureSettings(prices_endpoint=fake.url, public_address=True), context) as public:
        price = offered(public, wanted()).price
    without = offered(pricing, wanted()).price
    assert (price.address, without.address) == (Money("0.005"), Money.zero())
    assert price.total == without.total + price.address


def test_size_without_spot_price_is_unpriced(pricing: Any) -> None:
    (answer,) = pricing.price([wanted("Standard_B2s", spot=True)])
    assert isinstance(answer, Unpriced)
    assert "no spot price" in answer.reason


@pytest.mark.parametrize(("disk", "gb", "month"), DISKS)
def test_disk_price_is_the_price_of_its_tier(pricing: Any, disk: str, gb: float, month: str) -> None:
    found = offered(pricing, wanted(disk=disk, gb=gb)).price.boot_disk
    assert found == Money(Decimal(month) / 730)


@pytest.mark.parametrize(
    ("disk", "gb", "reason"),
    [
        ("UltraSSD_LRS", 64, "unknown boot disk type"),
        ("Premium_LRS", 5000, "maximum size is 4,095 GiB"),
    ],
)
def test_unpriced_names_the_invalid_disk(pricing: Any, disk: str, gb: float, reason: str) -> None:
    (answer,) = pricing.price([wanted(disk=disk, gb=gb)])
    assert isinstance(answer, Unpriced)
    assert reason in answer.reason


def test_fetch_prices_reads_all_pages(fake: RetailFake) -> None:
    fake.page_size = 7
    few = fetch_prices(fake.url, "eastus")
    calls = len(fake.server.calls)
    fake.page_size = 10_000
    one = fetch_prices(fake.url, "eastus")
    assert len(fake.server.calls) == calls + 2
    assert calls > 20
    assert (few.on_demand, few.spot, few.disks) == (one.on_demand, one.spot, one.disks)


def test_fetch_prices_retries_failed_pages_and_finally_raises(fake: RetailFake) -> None:
    fake.server.fault = Fault(share=0.3, status=503)
    fake.page_size = 60
    unreliable = fetch_prices(fake.url, "eastus", backoff=0.001)
    fake.server.fault = None
    assert unreliable.on_demand == fetch_prices(fake.url, "eastus").on_demand
    fake.server.fault = Fault(share=1.0, status=500)
    with pytest.raises(ProviderError, match="answered 500") as caught:
        fetch_prices(fake.url, "eastus", backoff=0.001)
    assert caught.value.transient


@pytest.mark.parametrize(
    ("retry_after", "pauses"),
    [(None, [1, 2, 4, 8, 16]), ("30", [30, 30, 30, 30, 30]), ("3600", [60] * 5), ("soon", [1, 2, 4, 8, 16])],
)
def test_fetch_prices_waits_as_long_as_the_api_asks(retry_after: str | None, pauses: list[int]) -> None:
    server = FakeServer()
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    server.route("GET", ".*", lambda request: Answer(status=429, headers=headers))
    slept: list[float] = []
    with server.serving(), pytest.raises(ProviderError, match="answered 429"):
        retail._page(f"{server.url}/api", 1.0, sleep=slept.append)
    assert slept == pauses


def test_fetch_prices_of_region_without_vms_raises(fake: RetailFake) -> None:
    with pytest.raises(ProviderError, match='no instance prices in "atlantis"'):
        fetch_prices(fake.url, "atlantis")


def test_open_pricing_without_region_raises_input_error(fake: RetailFake) -> None:
    backend = Registry(only=["azure"]).pricing("azure")
    with pytest.raises(InputError, match="no region"), backend.open(AzureSettings(), PricingContext()):
        pytest.fail("opened without a region")


def item_of(name: str, **changes: Any) -> dict[str, Any]:
    found = next(each for each in retail_items() if each["armSkuName"] == name and "Spot" not in each["skuName"])
    return {**found, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"productName": "Virtual Machines Dsv5 Series Windows"},
        {"productName": "Dsv5 Series CloudServices"},
        {"skuName": "D2s v5 Low Priority", "meterName": "D2s v5 Low Priority"},
        {"type": "Reservation"},
        {"unitOfMeasure": "1 Month"},
        {"currencyCode": "EUR"},
        {"tierMinimumUnits": 100.0},
        {"retailPrice": 0.0},
        {"effectiveStartDate": "2031-01-01T00:00:00Z"},
        {"effectiveEndDate": "2025-06-30T23:59:59Z"},
        {"meterName": "D2s v5 Expired"},
        {"meterName": "D2s v5 - Free"},
    ],
)
def test_vm_prices_ignores_other_items(changes: dict[str, Any]) -> None:
    valid = item_of("Standard_D2s_v5")
    other = {**valid, "retailPrice": 0.001, **changes}
    assert vm_prices([other, valid], NOW)[0] == {"Standard_D2s_v5": Money("0.096")}
    assert vm_prices([other], NOW) == ({}, {})


def test_vm_prices_uses_the_latest_effective_date() -> None:
    old = item_of("Standard_D2s_v5", retailPrice=0.5, effectiveStartDate="2020-01-01T00:00:00Z")
    new = item_of("Standard_D2s_v5", retailPrice=0.4, effectiveStartDate="2025-01-01T00:00:00Z")
    for items in ([old, new], [new, old]):
        assert vm_prices(items, NOW)[0] == {"Standard_D2s_v5": Money("0.4")}


def test_vm_prices_uses_the_higher_of_two_prices_with_one_start() -> None:
    low, high = (item_of("Standard_D2s_v5", retailPrice=price) for price in (0.001, 0.4))
    for items in ([low, high], [high, low]):
        assert vm_prices(items, NOW)[0] == {"Standard_D2s_v5": Money("0.4")}


def test_disk_prices_ignores_zone_redundant_disks_mounts_and_operations() -> None:
    disks = disk_prices(retail_items(), NOW)
    assert disks["P10"] == Money("19.71")
    assert {name[0] for name in disks} == {"S", "E", "P"}


def test_concurrent_pricing_fetches_once(fake: RetailFake, pricing: Any) -> None:
    fake.page_size = 10_000
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(pricing.price, [[wanted(), wanted(spot=True)]] * 20))
    assert len(fake.server.calls) == 2


# Age


def pricing_from_cache(prices: RegionPrices, folder: Path) -> RetailPricing:
    """Return the pricing with these prices in its cache and without network."""

    def fetch(region: str, is_known: bool) -> dict[str, RegionPrices]:
        raise ProviderError("the network is down", transient=True)

    files = price_files(folder, "endpoint")
    files.save(prices.region, prices)
    return RetailPricing("eastus", PriceCache("Prices", files=files, fetch=fetch, max_age=timedelta(hours=24)))


@pytest.mark.parametrize("age", [timedelta(hours=3), timedelta(days=9)])
def test_cached_prices_are_exact_and_keep_their_age_without_network(tmp_path: Path, age: timedelta) -> None:
    prices = RegionPrices(
        region="eastus",
        fetched_at=datetime.now(UTC) - age,
        on_demand={"Standard_D2s_v5": Money("0.096")},
        spot={"Standard_D2s_v5": Money("0.000001")},
        disks={"E4": Money("2.4")},
    )
    pricing = pricing_from_cache(prices, tmp_path)
    assert offered(pricing, wanted(spot=True)).price.cpu == Money("0.000001")
    offer = offered(pricing, wanted())
    assert (offer.price.cpu, offer.priced_at) == (Money("0.096"), prices.fetched_at)
    assert price_files(tmp_path, "endpoint").load("eastus") == prices
