"""Prices of instance families and disks, and the price cache."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog
from pricing_fake import PriceListFake, SpotHistoryFake

from cloud_tasks.errors import ProviderError
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
from cloud_tasks.plugin import CheckContext, Pricing, PricingContext
from cloud_tasks.registry import Registry
from cloud_tasks.testing import PricingContract, PricingSubject
from cloud_tasks_aws.pricing.price_list import pricing_region
from cloud_tasks_aws.settings import AwsSettings

BACKEND = Registry(only=["aws"]).pricing("aws")
FIXTURES = Path(__file__).parent / "fixtures"
PRODUCTS = json.loads((FIXTURES / "price_list.json").read_text())
HISTORY = json.loads((FIXTURES / "spot_history.json").read_text())
GP3 = BootDisk(disk_type="gp3", size_gb=10)

Open = Callable[..., Pricing]

INDEPENDENT = json.loads((FIXTURES / "independent_prices.json").read_text())
"""Prices per hour without a disk in us-east-1, from the tables of other projects."""
GP3_PER_HOUR = Money("0.08") * 10 / 730


@pytest.fixture
def price_list() -> Iterator[PriceListFake]:
    fake = PriceListFake(copy.deepcopy(PRODUCTS))
    with fake.server.serving():
        yield fake


@pytest.fixture
def history() -> Iterator[SpotHistoryFake]:
    fake = SpotHistoryFake(HISTORY)
    with fake.server.serving():
        yield fake


@pytest.fixture
def settings(price_list: PriceListFake, history: SpotHistoryFake) -> AwsSettings:
    return AwsSettings(
        access_key="stand",
        secret_key="in",
        pricing_endpoint=price_list.server.url,
        ec2_endpoint=history.server.url,
    )


@pytest.fixture
def open_prices(settings: AwsSettings) -> Iterator[Open]:
    with ExitStack() as stack:

        def open_at(cache_dir: Path | None = None, region: str = "us-east-1", **changed: Any) -> Pricing:
            context = PricingContext(region=region, cache_dir=cache_dir)
            opened: AbstractContextManager[Pricing] = BACKEND.open(attrs.evolve(settings, **changed), context)
            return stack.enter_context(opened)

        yield open_at


@pytest.fixture(scope="module")
def prices() -> Iterator[Pricing]:
    """Prices shared by read-only tests."""
    price_list, history = PriceListFake(PRODUCTS), SpotHistoryFake(HISTORY)
    with price_list.server.serving(), history.server.serving():
        settings = AwsSettings(
            access_key="stand", secret_key="in", pricing_endpoint=price_list.server.url, ec2_endpoint=history.server.url
        )
        with BACKEND.open(settings, PricingContext(region="us-east-1")) as pricing:
            yield pricing


def wanted(
    name: str = "m5.large",
    *,
    spot: bool = False,
    zone: str = "us-east-1a",
    disk: BootDisk = GP3,
) -> OfferRequest:
    instance_type = InstanceType(name=name, vcpus=2, memory_gb=8, architecture=Architecture.X86_64, zones=(zone,))
    provisioning_model = ProvisioningModel.SPOT if spot else ProvisioningModel.ON_DEMAND
    return OfferRequest(instance_type=instance_type, zone=zone, provisioning_model=provisioning_model, boot_disk=disk)


def offer(pricing: Pricing, request: OfferRequest) -> Offer:
    (answer,) = pricing.price([request])
    assert isinstance(answer, Offer), answer
    return answer


def instance_and_disk(pricing: Pricing, request: OfferRequest) -> Money:
    price = offer(pricing, request).price
    return price.machine + price.boot_disk


def reason(pricing: Pricing, request: OfferRequest) -> str:
    (answer,) = pricing.price([request])
    assert isinstance(answer, Unpriced), answer
    return answer.reason


class TestAwsPricing(PricingContract):
    @pytest.fixture
    def subject(self, settings: AwsSettings) -> PricingSubject:
        return PricingSubject(
            backend=BACKEND,
            settings=settings,
            context=PricingContext(region="us-east-1"),
            requests=[wanted("m5.large"), wanted("c5.large", spot=True), wanted("g5.xlarge", zone="us-east-1b")],
            unpriced=wanted("z9.large"),
        )


# The table


def test_on_demand_price_of_each_type_is_that_of_an_independent_table(prices: Pricing) -> None:
    for name, price in INDEPENDENT["on_demand"].items():
        found = instance_and_disk(prices, wanted(name)) - GP3_PER_HOUR
        assert float(found.usd) == pytest.approx(price, rel=0.01), name


def test_spot_price_of_each_type_and_zone_is_that_of_an_independent_table(prices: Pricing) -> None:
    for name, zones in INDEPENDENT["spot"].items():
        for zone, price in zones.items():
            found = instance_and_disk(prices, wanted(name, spot=True, zone=zone)) - GP3_PER_HOUR
            assert float(found.usd) == pytest.approx(price, rel=1e-6), (name, zone)


def test_price_tables_cover_the_fixtures(prices: Pricing) -> None:
    listed = {each["product"]["attributes"].get("instanceType") for each in PRODUCTS} - {None}
    priced = {name for name in listed if isinstance(prices.price([wanted(name)])[0], Offer)}
    assert priced == set(INDEPENDENT["on_demand"])
    assert {each["InstanceType"] for each in HISTORY} == set(INDEPENDENT["spot"])
    assert reason(prices, wanted("a1.large", spot=True, zone="us-east-1d")) == (
        "no spot price for a1.large in us-east-1d"
    )


@pytest.mark.parametrize(("setting", "expected"), [(None, "0.005"), (True, "0.005"), (False, "0")])
def test_price_includes_the_public_address_unless_there_is_none(
    open_prices: Open, setting: bool | None, expected: str
) -> None:
    pricing = open_prices(public_address=setting)
    for spot in (False, True):
        price = offer(pricing, wanted(spot=spot)).price
        assert price.address == Money(expected)
        assert price.total == price.machine + price.boot_disk + price.address


@pytest.mark.parametrize(
    ("name", "expected"),
    [("t3.medium", "0.08"), ("t3a.medium", "0.08"), ("t4g.medium", "0.064"), ("t2.micro", "0"), ("m5.large", "0")],
)
def test_price_includes_the_surplus_credits_of_a_type_in_unlimited_mode(
    prices: Pricing, name: str, expected: str
) -> None:
    assert offer(prices, wanted(name)).price.surplus_credits == Money(expected)


def test_spot_price_includes_the_surplus_credits(open_prices: Open, history: SpotHistoryFake) -> None:
    history.history = [{**each, "InstanceType": "t3.medium"} for each in HISTORY]
    assert offer(open_prices(), wanted("t3.medium", spot=True)).price.surplus_credits == Money("0.08")


def test_price_list_contains_linux_instances_with_a_price_only(prices: Pricing) -> None:
    assert offer(prices, wanted("m5.large")).price.cpu == Money("0.096")
    for without in ("u-12tb1.metal", "p5.48xlarge"):
        assert reason(prices, wanted(without)).endswith(f"no on-demand price in US dollars for {without}")


def test_local_zone_has_its_own_price_list(open_prices: Open, price_list: PriceListFake) -> None:
    local = json.loads(json.dumps([each for each in PRODUCTS if each["product"]["attributes"].get("usagetype")]))
    for each in local:
        each["product"]["attributes"]["regionCode"] = "us-east-1-bos-1"
        (term,) = each["terms"]["OnDemand"].values() if each["terms"] else ({"priceDimensions": {}},)
        for dimension in term["priceDimensions"].values():
            dimension["pricePerUnit"]["USD"] = str(Decimal(dimension["pricePerUnit"]["USD"]) * 2)
    price_list.products += local
    pricing = open_prices()
    assert instance_and_disk(pricing, wanted(zone="us-east-1-bos-1a")) == (Money("0.096") + GP3_PER_HOUR) * 2
    assert instance_and_disk(pricing, wanted()) == Money("0.096") + GP3_PER_HOUR


def test_price_in_another_currency_is_unpriced(open_prices: Open, price_list: PriceListFake) -> None:
    for each in price_list.products:
        each["product"]["attributes"]["regionCode"] = "cn-north-1"
    text = json.dumps(price_list.products).replace('"USD"', '"CNY"')
    price_list.products = json.loads(text)
    found = reason(open_prices(region="cn-north-1"), wanted(zone="cn-north-1a"))
    assert found == "price list of cn-north-1: no on-demand price in US dollars for m5.large"


@pytest.mark.parametrize(
    ("region", "endpoint"),
    [
        ("us-west-2", "us-east-1"),
        ("eu-north-1", "eu-central-1"),
        ("ap-southeast-2", "ap-south-1"),
        ("cn-north-1", "cn-northwest-1"),
        ("us-gov-west-1", "us-east-1"),
        ("eusc-de-east-1", "eusc-de-east-1"),
    ],
)
def test_pricing_region_is_the_nearest_endpoint(region: str, endpoint: str) -> None:
    assert pricing_region(region) == endpoint


# Disks


@pytest.mark.parametrize(
    ("disk", "size", "iops", "throughput"),
    [
        (BootDisk(disk_type="", size_gb=100), "8", "0", "0"),
        (BootDisk(disk_type="gp2", size_gb=100), "10", "0", "0"),
        (BootDisk(disk_type="gp3", size_gb=100), "8", "0", "0"),
        (BootDisk(disk_type="gp3", size_gb=100, iops=3000, throughput_mb_s=125), "8", "0", "0"),
        (BootDisk(disk_type="gp3", size_gb=100, iops=5000, throughput_mb_s=325), "8", "10", "8"),
        (BootDisk(disk_type="io1", size_gb=100, iops=2000), "12.5", "130", "0"),
        (BootDisk(disk_type="io2", size_gb=100, iops=10000), "12.5", "650", "0"),
        (BootDisk(disk_type="io2", size_gb=100, iops=40000), "12.5", "2444", "0"),
        (BootDisk(disk_type="io2", size_gb=100, iops=70000), "12.5", "3727.1", "0"),
        (BootDisk(disk_type="st1", size_gb=500), "22.5", "0", "0"),
        (BootDisk(disk_type="sc1", size_gb=500), "7.5", "0", "0"),
        (BootDisk(disk_type="standard", size_gb=10), "0.5", "0", "0"),
        (BootDisk(disk_type="gp2", size_gb=10.2), "1.1", "0", "0"),
    ],
)
def test_disk_price_is_size_plus_iops_and_throughput_above_baseline(
    prices: Pricing, disk: BootDisk, size: str, iops: str, throughput: str
) -> None:
    price = offer(prices, wanted(disk=disk)).price
    assert price.boot_disk == Money(size) / 730
    assert price.boot_disk_iops == Money(iops) / 730
    assert price.boot_disk_throughput == Money(throughput) / 730


@pytest.mark.parametrize("price", ["0.0000000000", "0.2000000000"])
@pytest.mark.parametrize("place", ["AWS Outposts", "AWS Wavelength Zone"])
def test_prices_are_not_those_of_other_places(
    open_prices: Open, price_list: PriceListFake, price: str, place: str
) -> None:
    others = copy.deepcopy(PRODUCTS)
    for each in others:
        each["product"]["attributes"]["locationType"] = place
        for term in each["terms"].get("OnDemand", {}).values():
            for dimension in term["priceDimensions"].values():
                dimension["pricePerUnit"] = {"USD": price}
    price_list.products += others
    found = offer(open_prices(), wanted(disk=BootDisk(disk_type="gp3", size_gb=100, iops=5000, throughput_mb_s=325)))
    assert found.price.cpu == Money("0.096")
    assert (found.price.boot_disk, found.price.boot_disk_iops) == (Money("8") / 730, Money("10") / 730)
    assert found.price.boot_disk_throughput == Money("8") / 730


@pytest.mark.parametrize(
    ("disk", "expected"),
    [
        (BootDisk(disk_type="nvme9", size_gb=10), "price list of us-east-1: no price for disk type nvme9"),
        (BootDisk(disk_type="io1", size_gb=10), "io1 needs boot_disk_iops"),
        (BootDisk(disk_type="gp2", size_gb=20000), "gp2: maximum size is 16,384 GB"),
    ],
)
def test_unpriced_names_the_invalid_disk(prices: Pricing, disk: BootDisk, expected: str) -> None:
    assert reason(prices, wanted(disk=disk)) == expected


def test_unpriced_names_missing_iops_or_throughput_price(open_prices: Open, price_list: PriceListFake) -> None:
    price_list.products = [
        each
        for each in PRODUCTS
        if each["product"]["productFamily"] not in ("System Operation", "Provisioned Throughput")
    ]
    pricing = open_prices()
    assert reason(pricing, wanted(disk=attrs.evolve(GP3, iops=4000))) == ("price list: no price for the IOPS of gp3")
    assert reason(pricing, wanted(disk=attrs.evolve(GP3, throughput_mb_s=200))) == (
        "price list of us-east-1: no price for the throughput of gp3"
    )
    assert offer(pricing, wanted()).price.boot_disk_iops == Money(0)


# Fetching and caching


def test_price_list_reads_all_pages(open_prices: Open, price_list: PriceListFake) -> None:
    offer(open_prices(), wanted("m5.metal"))
    assert price_list.actions.count("GetProducts") >= 5 + 3


def test_concurrent_pricing_fetches_once(open_prices: Open, history: SpotHistoryFake) -> None:
    pricing = open_prices()
    barrier = threading.Barrier(8)

    def ask(_: int) -> Money:
        barrier.wait()
        return offer(pricing, wanted(spot=True)).price_per_hour

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask, range(8)))) == 1
    pages = -(-len([each for each in HISTORY if each["ProductDescription"] == "Linux/UNIX"]) // 10)
    assert len(history.requests) == pages


def test_interrupted_price_list_raises_and_caches_nothing(
    open_prices: Open, price_list: PriceListFake, tmp_path: Path
) -> None:
    price_list.refuse("GetProducts", "AccessDeniedException", "not allowed to call GetProducts")
    with pytest.raises(ProviderError, match=r"AccessDenied.*doctor --policy") as caught:
        open_prices(cache_dir=tmp_path).price([wanted()])
    assert not caught.value.transient
    assert list(tmp_path.iterdir()) == []


def test_cached_prices_need_no_network_and_keep_their_age(
    open_prices: Open, price_list: PriceListFake, history: SpotHistoryFake, tmp_path: Path
) -> None:
    fetched = open_prices(tmp_path).price([wanted(), wanted(spot=True)])
    before = (len(price_list.actions), len(history.requests))
    again = open_prices(tmp_path).price([wanted(), wanted(spot=True)])
    assert again == fetched
    assert (len(price_list.actions), len(history.requests)) == before
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 10_000


def test_old_prices_are_refreshed(open_prices: Open, price_list: PriceListFake, tmp_path: Path) -> None:
    open_prices(tmp_path).price([wanted()])
    age_by(tmp_path, timedelta(hours=25))
    before = len(price_list.actions)
    answer = offer(open_prices(tmp_path), wanted())
    assert len(price_list.actions) > before
    assert answer.priced_at > datetime.now(UTC) - timedelta(minutes=5)


def test_old_prices_are_used_when_refresh_fails_with_one_warning(
    open_prices: Open, price_list: PriceListFake, history: SpotHistoryFake, tmp_path: Path
) -> None:
    open_prices(tmp_path).price([wanted(), wanted(spot=True)])
    age_by(tmp_path, timedelta(days=3))
    price_list.refuse("GetProducts", "AccessDeniedException", "no")
    history.refuse("UnauthorizedOperation", "no", status=403)
    pricing = open_prices(tmp_path)
    with structlog.testing.capture_logs() as logs:
        answers = [pricing.price([wanted(), wanted(spot=True)]) for _ in range(3)][-1]
    assert [entry["event"].partition(" of ")[0] for entry in logs] == ["On-demand prices", "Spot prices"]
    for answer in answers:
        assert isinstance(answer, Offer)
        assert timedelta(days=3) <= datetime.now(UTC) - answer.priced_at < timedelta(days=3, minutes=5)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 99}'])
def test_invalid_price_cache_is_ignored(open_prices: Open, tmp_path: Path, content: str) -> None:
    (tmp_path / "aws-on-demand-us-east-1.json").write_text(content)
    assert offer(open_prices(tmp_path), wanted()).price.cpu == Money("0.096")


def test_price_cache_is_per_endpoint(open_prices: Open, price_list: PriceListFake, tmp_path: Path) -> None:
    open_prices(tmp_path).price([wanted()])
    with PriceListFake([]).server.serving() as other, pytest.raises(ProviderError):
        open_prices(tmp_path, pricing_endpoint=other.url + "/none").price([wanted()])


def test_spot_price_cache_is_per_account(open_prices: Open, history: SpotHistoryFake, tmp_path: Path) -> None:
    open_prices(tmp_path).price([wanted(spot=True)])
    before = len(history.requests)
    open_prices(tmp_path).price([wanted(spot=True)])
    assert len(history.requests) == before
    open_prices(tmp_path, access_key="another").price([wanted(spot=True)])
    assert len(history.requests) > before
    assert not any("another" in file.read_text() for file in tmp_path.iterdir())


def test_unwritable_cache_folder_is_ignored(open_prices: Open, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert offer(open_prices(tmp_path / "file" / "cache"), wanted()).price.cpu == Money("0.096")


def age_by(folder: Path, age: timedelta) -> None:
    for file in folder.iterdir():
        content = json.loads(file.read_text())
        content["fetched_at"] = (datetime.now(UTC) - age).isoformat()
        file.write_text(json.dumps(content))


# Doctor


def test_doctor_checks_price_list_and_spot_prices(settings: AwsSettings) -> None:
    assert BACKEND.check is not None
    findings = list(BACKEND.check(settings, CheckContext(region="us-east-1")))
    assert [(finding.ok, finding.subject) for finding in findings] == [(True, "AWS price list"), (True, "spot prices")]


def test_doctor_reports_missing_price_permission_with_fix(
    settings: AwsSettings, price_list: PriceListFake, history: SpotHistoryFake
) -> None:
    price_list.refuse("DescribeServices", "AccessDeniedException", "no")
    history.refuse("UnauthorizedOperation", "no", status=403)
    assert BACKEND.check is not None
    findings = list(BACKEND.check(settings, CheckContext(region="us-east-1")))
    assert [finding.ok for finding in findings] == [False, False]
    assert all("doctor --policy" in finding.remedy for finding in findings)
