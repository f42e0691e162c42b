"""Azure prices, over HTTP against a fake: contract, price table and cache age."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from arm_catalog import SIZES
from fake_server import Fault
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
from cloud_tasks_azure.pricing.cache import price_files
from cloud_tasks_azure.pricing.rates import RegionPrices
from cloud_tasks_azure.pricing.retail import disk_prices, fetch_prices, vm_prices
from cloud_tasks_azure.pricing.retail_pricing import RetailPricing
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


TABLE = [
    # size, on-demand, spot (None: no spot price), per hour
    ("Standard_D2s_v5", "0.096", "0.02112"),
    ("Standard_D4s_v5", "0.192", "0.04224"),
    ("Standard_D8s_v5", "0.384", "0.08448"),
    ("Standard_D96s_v5", "4.608", "1.01376"),
    ("Standard_D2as_v5", "0.086", "0.01892"),
    ("Standard_D16as_v5", "0.688", "0.15136"),
    ("Standard_D64as_v5", "2.752", "0.60544"),
    ("Standard_D2ps_v5", "0.077", "0.01694"),
    ("Standard_D4ps_v5", "0.154", "0.03388"),
    ("Standard_D64ps_v5", "2.464", "0.54208"),
    ("Standard_D2_v5", "0.096", "0.02112"),
    ("Standard_D32_v5", "1.536", "0.33792"),
    ("Standard_E2s_v5", "0.126", "0.02772"),
    ("Standard_E20s_v5", "1.26", "0.2772"),
    ("Standard_E64s_v5", "4.032", "0.88704"),
    ("Standard_E2as_v5", "0.113", "0.02486"),
    ("Standard_E32as_v5", "1.808", "0.39776"),
    ("Standard_F2s_v2", "0.0846", "0.018612"),
    ("Standard_F16s_v2", "0.6768", "0.148896"),
    ("Standard_F72s_v2", "3.0456", "0.670032"),
    ("Standard_L8s_v3", "0.624", "0.13728"),
    ("Standard_L80s_v3", "6.24", "1.3728"),
    ("Standard_B2s", "0.0416", None),
    ("Standard_B2ms", "0.0832", None),
    ("Standard_B4ms", "0.166", None),
    ("Standard_E16-4s_v5", "1.008", "0.22176"),
    ("Standard_NC4as_T4_v3", "0.526", "0.11572"),
    ("Standard_NC24ads_A100_v4", "3.673", "0.80806"),
    ("Standard_A2_v2", "0.076", "0.01672"),
]
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


def test_price_of_each_size_on_demand_and_spot(pricing: Any) -> None:
    assert len(TABLE) >= 25
    for name, on_demand, spot in TABLE:
        assert offered(pricing, wanted(name)).price.cpu == Money(on_demand), name
        (answer,) = pricing.price([wanted(name, spot=True)])
        if spot is None:
            assert isinstance(answer, Unpriced), name
            assert "no spot price" in answer.reason
        else:
            assert isinstance(answer, Offer), name
            assert answer.price.cpu == Money(spot), name


@pytest.mark.parametrize(("disk", "gb", "month"), DISKS)
def test_disk_price_is_the_price_of_its_tier(pricing: Any, disk: str, gb: float, month: str) -> None:
    found = offered(pricing, wanted(disk=disk, gb=gb)).price.boot_disk
    assert found == Money(Decimal(month) / 730)


def test_price_exists_for_every_size_of_the_fake(pricing: Any) -> None:
    missing = [
        name
        for name, size in SIZES.items()
        if not size.restricted and isinstance(pricing.price([wanted(name)])[0], Unpriced)
    ]
    assert missing == []


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
