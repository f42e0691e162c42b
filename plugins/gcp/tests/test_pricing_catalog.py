"""`CatalogPricing`: fetching, caching and offline use, against a fake catalog over HTTP."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest
from billing_fake import BillingFake, google_error, serving, skus
from fake_server import Fault
from structlog.testing import capture_logs

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
from cloud_tasks.plugin import PricingBackend, PricingContext
from cloud_tasks.registry import Registry
from cloud_tasks.testing import PricingContract, PricingSubject
from cloud_tasks_gcp.pricing import CatalogPricing
from cloud_tasks_gcp.settings import GcpSettings

E2 = InstanceType(
    name="e2-standard-8", vcpus=8, memory_gb=32, architecture=Architecture.X86_64, zones=("us-central1-a",)
)
HOURLY = Money("0.268045680") + Money("0.4") / 730 + Money("0.005")


@pytest.fixture
def catalog() -> Iterator[BillingFake]:
    with serving() as fake:
        yield fake


@pytest.fixture
def settings(catalog: BillingFake) -> GcpSettings:
    return GcpSettings(project_id="p", billing_endpoint=catalog.url)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2025, 7, 8, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **passed: float) -> None:
        self.now += timedelta(**passed)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def request(
    machine: InstanceType = E2,
    zone: str = "us-central1-a",
    provisioning_model: ProvisioningModel = ProvisioningModel.ON_DEMAND,
) -> OfferRequest:
    return OfferRequest(
        instance_type=machine,
        zone=zone,
        provisioning_model=provisioning_model,
        boot_disk=BootDisk(disk_type="pd-standard", size_gb=10),
    )


def backend() -> PricingBackend:
    return Registry(only=["gcp"]).pricing("gcp")


class TestGcpPricing(PricingContract):
    @pytest.fixture
    def subject(self, settings: GcpSettings) -> PricingSubject:
        n2 = attrs.evolve(E2, name="n2-standard-8")
        return PricingSubject(
            backend=backend(),
            settings=settings,
            requests=[request(each, provisioning_model=how) for each in (E2, n2) for how in ProvisioningModel],
            unpriced=request(attrs.evolve(E2, name="x4-480-8t-metal")),
        )


def test_price_has_time_of_price_list(settings: GcpSettings, clock: Clock) -> None:
    pricing = CatalogPricing(settings, PricingContext(), now=clock)
    fetched = clock.now
    pricing.price([request()])
    clock.advance(hours=3)
    (offer,) = pricing.price([request()])
    assert isinstance(offer, Offer)
    assert offer.price_per_hour == HOURLY
    assert offer.priced_at == fetched


@pytest.mark.parametrize(
    ("name", "gpu", "sold"),
    [
        ("a3-highgpu-1g", "nvidia-h100-80gb", False),
        ("a3-ultragpu-8g", "nvidia-h200-141gb", False),
        ("a4-highgpu-8g", "nvidia-b200", False),
        ("a3-highgpu-8g", "nvidia-h100-80gb", True),
        ("a2-highgpu-1g", "nvidia-tesla-a100", True),
    ],
)
def test_price_on_demand_is_missing_for_types_that_are_not_sold_so(
    settings: GcpSettings, name: str, gpu: str, sold: bool
) -> None:
    machine = attrs.evolve(E2, name=name, gpu_count=1, gpu_type=gpu)
    wanted = [request(machine, provisioning_model=how) for how in ProvisioningModel]
    wanted = [attrs.evolve(each, boot_disk=BootDisk(disk_type="hyperdisk-balanced", size_gb=10)) for each in wanted]
    offers = dict(zip(ProvisioningModel, CatalogPricing(settings, PricingContext()).price(wanted), strict=True))
    assert isinstance(offers[ProvisioningModel.SPOT], Offer)
    on_demand = offers[ProvisioningModel.ON_DEMAND]
    assert isinstance(on_demand, Offer) is sold
    assert sold or "not sold on demand" in getattr(on_demand, "reason", "")


def test_price_includes_the_external_address_that_the_settings_assign(settings: GcpSettings) -> None:
    requests = [request(), attrs.evolve(request(), provisioning_model=ProvisioningModel.SPOT)]
    on_demand, spot = CatalogPricing(settings, PricingContext()).price(requests)
    assert isinstance(on_demand, Offer)
    assert isinstance(spot, Offer)
    assert (on_demand.price.address, spot.price.address) == (Money("0.005"), Money("0.0025"))
    private = attrs.evolve(settings, external_address=False)
    for offer in CatalogPricing(private, PricingContext()).price(requests):
        assert isinstance(offer, Offer)
        assert offer.price.address == Money.zero()


@pytest.mark.parametrize(("listed", "expected"), [("0.0070", "0.0070"), ("", "0.005")])
def test_price_of_the_external_address_is_that_of_the_list_if_it_has_one(
    settings: GcpSettings, catalog: BillingFake, listed: str, expected: str
) -> None:
    title = "External IP Charge on a Standard VM"
    catalog.skus = [each for each in skus() if each["description"] != title]
    if listed:
        (sku,) = (each for each in skus() if each["description"] == title)
        sku["pricingInfo"][0]["pricingExpression"]["tieredRates"][-1]["unitPrice"]["nanos"] = int(float(listed) * 1e9)
        catalog.skus = [*catalog.skus, sku]
    (offer,) = CatalogPricing(settings, PricingContext()).price([request()])
    assert isinstance(offer, Offer)
    assert offer.price.address == Money(expected)


def test_price_of_no_requests_fetches_nothing(settings: GcpSettings, catalog: BillingFake) -> None:
    with backend().open(settings, PricingContext()) as pricing:
        assert pricing.price([]) == ()
        assert catalog.calls == 0


def test_price_reads_all_pages(settings: GcpSettings, catalog: BillingFake) -> None:
    catalog.page_size = 7
    (offer,) = CatalogPricing(settings, PricingContext()).price([request()])
    assert isinstance(offer, Offer)
    assert offer.price_per_hour == HOURLY
    assert catalog.calls == -(-len(skus()) // 7)


def test_price_fetches_list_once_for_all_regions(settings: GcpSettings, catalog: BillingFake, tmp_path: Path) -> None:
    context = PricingContext(cache_dir=tmp_path)
    pricing = CatalogPricing(settings, context)
    pricing.price([request(), request(zone="europe-west1-b"), request(zone="moon-west1-a")])
    pricing.price([request(zone="asia-east1-a"), request(zone="moon-west1-a")])
    CatalogPricing(settings, context).price([request(zone="asia-east1-a")])
    assert catalog.calls == 1


def test_price_of_unknown_region_is_unpriced(settings: GcpSettings) -> None:
    first, second = CatalogPricing(settings, PricingContext()).price([request(zone="moon-west1-a"), request()])
    assert isinstance(first, Unpriced)
    assert first.reason == "the catalog has no prices for region moon-west1"
    assert isinstance(second, Offer)


@pytest.mark.parametrize(
    ("disk", "reason"),
    [
        (
            BootDisk(disk_type="pd-extreme", size_gb=10),
            "a pd-extreme boot disk has 500 to 65,536 GB, not 10",
        ),
        (
            BootDisk(disk_type="hyperdisk-balanced", size_gb=10, iops=9_000),
            "a hyperdisk-balanced boot disk of 10 GB has at most 5,000 IOPS, not 9,000",
        ),
    ],
)
def test_price_of_invalid_disk_is_unpriced_with_reason(settings: GcpSettings, disk: BootDisk, reason: str) -> None:
    refused = attrs.evolve(request(), boot_disk=disk)
    with backend().open(settings, PricingContext()) as pricing:
        unpriced, offer = pricing.price([refused, request()])
    assert unpriced == Unpriced(request=refused, reason=reason)
    assert isinstance(offer, Offer)


def test_price_differs_by_region(settings: GcpSettings) -> None:
    here, there = CatalogPricing(settings, PricingContext()).price([request(), request(zone="europe-west1-b")])
    assert isinstance(here, Offer)
    assert isinstance(there, Offer)
    assert there.price_per_hour > here.price_per_hour


def test_price_refetches_expired_list(settings: GcpSettings, catalog: BillingFake, clock: Clock) -> None:
    pricing = CatalogPricing(settings, PricingContext(), now=clock)
    pricing.price([request()])
    clock.advance(hours=25)
    (offer,) = pricing.price([request()])
    assert isinstance(offer, Offer)
    assert catalog.calls == 2
    assert offer.priced_at == clock.now


def test_price_without_network_uses_cached_list_with_warning(
    settings: GcpSettings, catalog: BillingFake, clock: Clock, tmp_path: Path
) -> None:
    context = PricingContext(cache_dir=tmp_path)
    CatalogPricing(settings, context, now=clock).price([request()])
    catalog.server.close()
    fetched = clock.now
    clock.advance(hours=48)
    with capture_logs() as logs:
        pricing = CatalogPricing(settings, context, now=clock)
        (offer,) = pricing.price([request()])
        pricing.price([request()])
    assert isinstance(offer, Offer)
    assert (offer.price_per_hour, offer.priced_at) == (HOURLY, fetched)
    (message,) = [entry["event"] for entry in logs]
    assert message.startswith(
        f"Prices of Google Cloud of us-central1: using those of {fetched:%Y-%m-%d %H:%M} UTC: cannot reach 127.0.0.1:"
    )


def test_price_retries_fetch_after_pause(settings: GcpSettings, catalog: BillingFake, clock: Clock) -> None:
    pricing = CatalogPricing(settings, PricingContext(), now=clock)
    pricing.price([request()])
    clock.advance(hours=25)
    catalog.refusal = google_error(403, "IAM_PERMISSION_DENIED", "No.")
    pricing.price([request()])
    catalog.refusal = None
    pricing.price([request()])
    assert catalog.calls == 2
    clock.advance(minutes=11)
    (offer,) = pricing.price([request()])
    assert isinstance(offer, Offer)
    assert offer.priced_at == clock.now


def test_price_without_network_and_cache_raises() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        unserved = GcpSettings(billing_endpoint=f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ProviderError, match="cannot reach") as caught:
            CatalogPricing(unserved, PricingContext()).price([request()])
    assert caught.value.transient


def test_price_reports_disabled_billing_api_with_fix(settings: GcpSettings, catalog: BillingFake) -> None:
    catalog.refusal = google_error(
        403,
        "SERVICE_DISABLED",
        "Cloud Billing API has not been used in project 12345 before or it is disabled.",
        metadata={"service": "cloudbilling.googleapis.com", "consumer": "projects/12345"},
    )
    with pytest.raises(ProviderError) as caught:
        CatalogPricing(settings, PricingContext()).price([request()])
    assert caught.value.message == "the Cloud Billing API is disabled in project p"
    assert caught.value.hint.startswith("run: gcloud services enable cloudbilling.googleapis.com --project p")
    assert catalog.calls == 1, "a permanent error is not retried"


def test_price_retries_transient_faults(settings: GcpSettings, catalog: BillingFake) -> None:
    catalog.page_size = 50
    catalog.server.fault = Fault(share=0.2)
    (offer,) = CatalogPricing(settings, PricingContext()).price([request()])
    assert isinstance(offer, Offer)
    assert offer.price_per_hour == HOURLY
    assert catalog.server.struck > 0


def test_price_discards_partial_list(settings: GcpSettings, catalog: BillingFake, tmp_path: Path) -> None:
    catalog.page_size = 100
    catalog.server.fault = Fault(share=1.0, status=None)
    with pytest.raises(ProviderError):
        CatalogPricing(settings, PricingContext(cache_dir=tmp_path)).price([request()])
    assert list(tmp_path.rglob("*.json")) == []


def test_price_refuses_empty_list(settings: GcpSettings, catalog: BillingFake) -> None:
    catalog.skus = []
    with pytest.raises(ProviderError, match="has no prices for Compute Engine"):
        CatalogPricing(settings, PricingContext()).price([request()])


def test_cache_files_are_small_exact_and_by_region(settings: GcpSettings, tmp_path: Path) -> None:
    CatalogPricing(settings, PricingContext(cache_dir=tmp_path)).price([request()])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"gcp-prices-{region}.json" for region in ("asia-east1", "europe-west1", "us-central1", "us-east1", "us-west1")
    ]
    kept = json.loads((tmp_path / "gcp-prices-us-central1.json").read_text())
    assert kept["prices"]["on_demand"]["core/e2"] == "0.02181159"
    assert (tmp_path / "gcp-prices-us-central1.json").stat().st_size < 20_000


def test_cache_files_of_other_catalog_are_ignored(settings: GcpSettings, catalog: BillingFake, tmp_path: Path) -> None:
    CatalogPricing(settings, PricingContext(cache_dir=tmp_path)).price([request()])
    with serving() as other:
        elsewhere = attrs.evolve(settings, billing_endpoint=other.url)
        CatalogPricing(elsewhere, PricingContext(cache_dir=tmp_path)).price([request()])
        assert other.calls == 1
