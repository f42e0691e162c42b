"""SKUs and rates: exact amounts, recognized titles, excluded offers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cloud_tasks.model import Architecture, BootDisk, InstanceType, Money
from cloud_tasks_gcp.pricing.parts import NotPricedError
from cloud_tasks_gcp.pricing.rates import Rates, rates_by_region
from cloud_tasks_gcp.pricing.skus import Sku, read_skus
from cloud_tasks_gcp.pricing.titles import rate_key

NOW = datetime(2025, 7, 8, tzinfo=UTC)


def sku(
    description: str,
    *prices: dict[str, Any],
    unit: str = "h",
    usage: str = "OnDemand",
    family: str = "Compute",
    regions: tuple[str, ...] = ("us-central1",),
) -> dict[str, Any]:
    tiers = [{"startUsageAmount": 0, "unitPrice": price} for price in prices or ({"units": "1", "nanos": 0},)]
    return {
        "description": description,
        "category": {"resourceFamily": family, "resourceGroup": "CPU", "usageType": usage},
        "serviceRegions": list(regions),
        "pricingInfo": [{"pricingExpression": {"usageUnit": unit, "tieredRates": tiers}}],
    }


def read(raw: dict[str, Any]) -> Sku | None:
    found = list(read_skus([{"skus": [raw]}]))
    return found[0] if found else None


def price_of(raw: dict[str, Any]) -> Money:
    found = read(raw)
    assert found is not None
    return found.price


def key_of(description: str, **how: Any) -> str | None:
    found = read(sku(description, **how))
    return rate_key(found) if found is not None else None


def test_read_skus_combines_units_and_nanos_exactly() -> None:
    raw = sku("E2 Instance Core", {"currencyCode": "USD", "units": "9", "nanos": 796550569})
    assert price_of(raw) == Money("9.796550569")


def test_read_skus_accepts_nanos_without_units() -> None:
    assert price_of(sku("E2 Instance Core", {"nanos": 21811590})) == Money("0.02181159")


def test_read_skus_uses_first_nonzero_tier() -> None:
    raw = sku("Storage PD Capacity", {"units": "0", "nanos": 0}, {"nanos": 40_000_000}, {"nanos": 30_000_000})
    assert price_of(raw) == Money("0.04")


def test_read_skus_accepts_zero_price() -> None:
    assert price_of(sku("E2 Instance Core", {"units": "0"}, {"units": "0"})) == Money(0)


def test_read_skus_converts_month_to_730_hours() -> None:
    assert price_of(sku("Balanced PD Capacity", {"units": "73"}, unit="GiBy.mo", family="Storage")) == Money("0.1")


def test_read_skus_converts_gigabytes_to_gibibytes() -> None:
    assert price_of(sku("C4D Instance Ram", {"units": "1"}, unit="GBy.h")) == Money("1.073741824")


def test_read_skus_uses_newest_price() -> None:
    raw = sku("E2 Instance Core", {"units": "1"})
    raw["pricingInfo"] += sku("E2 Instance Core", {"units": "2"})["pricingInfo"]
    assert price_of(raw) == Money(2)


@pytest.mark.parametrize(
    "invalid",
    [
        sku("E2 Instance Core", unit="fortnight"),
        sku("E2 Instance Core", {"currencyCode": "EUR", "units": "1"}),
        sku("E2 Instance Core", {"units": "one"}),
        sku("E2 Instance Core", usage="Commit1Yr"),
        sku("E2 Instance Core", family="License"),
        {**sku("E2 Instance Core"), "pricingInfo": []},
        {**sku("E2 Instance Core"), "pricingInfo": [{}]},
        {**sku("E2 Instance Core"), "category": None},
        {"skuId": "0000-0000-0000"},
    ],
    ids=[
        "unknown unit",
        "other currency",
        "invalid number",
        "a commitment",
        "a licence",
        "no price",
        "an empty price",
        "no category",
        "no description",
    ],
)
def test_read_skus_skips_invalid_skus(invalid: dict[str, Any]) -> None:
    answer = {"skus": [invalid, sku("N2 Instance Core")]}
    assert [each.title for each in read_skus([answer])] == ["N2 Instance Core"]


@pytest.mark.parametrize(
    ("description", "key"),
    [
        ("E2 Instance Core running in Americas", "core/e2"),
        ("N1 Predefined Instance Ram running in Zurich", "ram/n1"),
        ("N2D AMD Instance Core running in Iowa", "core/n2d"),
        ("C4A Arm Instance Ram running in Iowa", "ram/c4a"),
        ("M3 Memory-optimized Instance Core running in Iowa", "core/m3"),
        ("Memory-optimized Instance Core running in Iowa", "core/m1"),
        ("Memory Optimized Upgrade Premium for Memory-optimized Instance Ram running in Iowa", "ram/m2/premium"),
        ("Compute optimized Core running in Americas", "core/c2"),
        ("Compute optimized Instance Ram running in Doha", "ram/c2"),
        ("Z4D-HIGHMEM-STANDARDLSSD Instance Ram running in Iowa", "ram/z4d-highmem-standardlssd"),
        ("N2 Custom Instance Core running in Paris", "core/n2/custom"),
        ("N2 Custom Extended Instance Ram running in Paris", "ram/n2/extended"),
        ("Custom Instance Core running in Paris", "core/n1/custom"),
        ("Nvidia L4 GPU running in Netherlands", "gpu/nvidia-l4"),
        ("H200 141GB GPU running in Belgium", "gpu/nvidia-h200-141gb"),
        ("A4 Nvidia B200 (1 gpu slice) running in Americas", "slice/nvidia-b200"),
        ("SSD backed Local Storage", "ssd"),
        ("SSD backed Local Storage in Bangkok", "ssd"),
        ("C4D Instance Local SSD running in Frankfurt", "ssd/c4d"),
        ("C4A Arm Instance Local SSD running in Frankfurt", "ssd/c4a"),
        ("Q9 Instance Core running in Atlantis", "core/q9"),
        ("N1 Predefined Instance RAM running in Jakarta", "ram/n1"),
        ("C2D AMD Core running in Dallas", "core/c2d"),
    ],
)
def test_rate_key_of_compute_titles(description: str, key: str) -> None:
    assert key_of(description) == key


@pytest.mark.parametrize(
    ("description", "key"),
    [
        ("Storage PD Capacity", "disk/pd-standard/capacity"),
        ("Balanced PD Capacity in Mumbai", "disk/pd-balanced/capacity"),
        ("Extreme PD IOPS in Mumbai", "disk/pd-extreme/iops"),
        ("Hyperdisk Balanced Throughput in Mumbai", "disk/hyperdisk-balanced/throughput"),
        ("Hyperdisk Throughput Throughput Capacity in Mumbai", "disk/hyperdisk-throughput/throughput"),
        ("Hyperdisk Extreme Iops in Mumbai", "disk/hyperdisk-extreme/iops"),
        ("SSD backed Local Storage", "ssd"),
    ],
)
def test_rate_key_of_disk_titles(description: str, key: str) -> None:
    assert key_of(description, family="Storage") == key


@pytest.mark.parametrize(
    "description",
    [
        "Commitment v1: E2 Cpu in Americas for 1 Year",
        "N2 Sole Tenancy Instance Core running in Americas",
        "Sole Tenancy Premium for N2 Sole Tenancy Instance Core running in Americas",
        "DWS Calendar Mode H4D Instance Core running in Americas",
        "DWS Defined Duration A3 Core running in Americas",
        "TPU7x running in Americas",
        "Reserved A2 Instance Core in Americas",
        "C4A Sole Tenancy Instance Local SSD running in Iowa",
        "Nvidia Tesla T4 GPU attached to Sole Tenancy VMs running in Americas",
        "Nvidia L4 Virtual Workstation GPU running in Netherlands",
        "Regional Storage PD Capacity in Iowa",
        "Hyperdisk Balanced Confidential Mode IOPS in Iowa",
        "Hyperdisk Balanced Storage Pools Advanced Capacity in Iowa",
        "VM state: preserved local SSD in Bangkok",
        "N2 Instance Core running in Iowa for Confidential Computing",
        "A3 Instance Core running in Iowa with DWS Flex Start",
    ],
)
@pytest.mark.parametrize("family", ["Compute", "Storage"])
def test_rate_key_of_excluded_offers_is_none(description: str, family: str) -> None:
    assert key_of(description, family=family) is None


@pytest.mark.parametrize(
    ("description", "usage"),
    [
        ("Spot Preemptible E2 Instance Core running in Iowa", "Preemptible"),
        ("Preemptible E2 Instance Core running in Iowa", "Preemptible"),
        ("Nvidia L4 GPU attached to Spot Preemptible VMs running in Iowa", "Preemptible"),
        ("Spot Preemptible A4 Nvidia B200 (1 gpu slice) running in Americas", "OnDemand"),
    ],
)
def test_read_skus_recognizes_spot_by_usage_or_description(description: str, usage: str) -> None:
    found = read(sku(description, usage=usage))
    assert found is not None
    assert found.spot
    assert rate_key(found) in ("core/e2", "gpu/nvidia-l4", "slice/nvidia-b200")


def test_rates_by_region_uses_higher_of_two_prices() -> None:
    answer = {"skus": [sku("E2 Instance Core", {"units": each}) for each in ("2", "3", "1")]}
    assert rates_by_region(read_skus([answer]), NOW)["us-central1"].on_demand == {"core/e2": Money(3)}


def test_rates_by_region_applies_sku_to_its_regions() -> None:
    answer = {"skus": [sku("E2 Instance Core", regions=("us-east1", "us-west1"))]}
    assert sorted(rates_by_region(read_skus([answer]), NOW)) == ["us-east1", "us-west1"]


DISK = BootDisk(disk_type="pd-standard", size_gb=10)


def rates(**on_demand: str) -> Rates:
    named = {key.replace("__", "/"): Money(price) for key, price in on_demand.items()}
    capacity = {f"disk/{kind}/capacity": Money(0) for kind in ("pd-standard", "hyperdisk-balanced")}
    return Rates(region="us-central1", fetched_at=NOW, on_demand={**capacity, **named}, spot={})


def machine(name: str, vcpus: int, memory_gb: float, **more: Any) -> InstanceType:
    return InstanceType(
        name=name, vcpus=vcpus, memory_gb=memory_gb, architecture=Architecture.X86_64, zones=("us-central1-a",), **more
    )


def test_price_of_extended_memory() -> None:
    known = rates(core__n2__custom="1", ram__n2__custom="0.01", ram__n2__extended="0.1")
    found = known.price(machine("n2-custom-2-20480-ext", 2, 20), DISK, spot=False)
    assert (found.cpu, found.memory) == (Money(2), Money("0.56"))


def test_price_of_custom_n1_without_family_name() -> None:
    known = rates(core__n1__custom="1", ram__n1__custom="0.01")
    assert known.price(machine("custom-4-8192", 4, 8), DISK, spot=False).total == Money("4.08")


def test_price_of_custom_e2_falls_back_to_standard_e2() -> None:
    known = rates(core__e2="1", ram__e2="0.01")
    assert known.price(machine("e2-custom-4-8192", 4, 8), DISK, spot=False).total == Money("4.08")
    assert known.price(machine("e2-custom-small-2048", 2, 2), DISK, spot=False).total == Money("0.52")


def test_price_of_local_ssd_falls_back_to_common_rate() -> None:
    known = rates(core__c4="0", ram__c4="0", ssd="0.5")
    assert known.price(machine("c4-standard-8-lssd", 8, 30, local_ssd_gb=375), DISK, spot=False).total == Money("187.5")


def test_price_of_z3_local_ssd_uses_common_rate() -> None:
    known = rates(core__z3="0", ram__z3="0", ssd="0.5", ssd__z3="9")
    assert known.price(machine("z3-highmem-88", 88, 704, local_ssd_gb=2), DISK, spot=False).total == Money(1)


def test_price_of_disk_counts_performance_above_included() -> None:
    known = rates(
        core__e2="0",
        ram__e2="0",
        **{"disk/hyperdisk-balanced/iops": "0.01", "disk/hyperdisk-balanced/throughput": "0.1"},
    )
    disk = BootDisk(disk_type="hyperdisk-balanced", size_gb=10, iops=3100, throughput_mb_s=150)
    found = known.price(machine("e2-standard-2", 2, 8), disk, spot=False)
    assert (found.boot_disk_iops, found.boot_disk_throughput) == (Money(1), Money(1))


def test_price_of_disk_is_same_for_spot() -> None:
    known = Rates(
        region="us-central1",
        fetched_at=NOW,
        on_demand={"disk/pd-standard/capacity": Money("0.1")},
        spot={"core/e2": Money(0), "ram/e2": Money(0)},
    )
    assert known.price(machine("e2-standard-2", 2, 8), DISK, spot=True).total == Money(1)


@pytest.mark.parametrize(
    ("machine", "disk", "reason"),
    [
        (machine("n2-standard-2", 2, 8), DISK, "the catalog has no price for core/n2 in us-central1"),
        (machine("a2-highgpu-1g", 12, 85), DISK, "unknown accelerators"),
        (
            machine("e2-standard-2", 2, 8, gpu_count=1, gpu_type="nvidia-abacus"),
            DISK,
            "unknown accelerator nvidia-abacus",
        ),
        (
            machine("e2-standard-2", 2, 8),
            BootDisk(disk_type="pd-papyrus", size_gb=10),
            "unknown boot disk type pd-papyrus",
        ),
        (machine("n9-custom-2-20480-ext", 2, 20), DISK, "unknown price of extended memory for N9"),
    ],
)
def test_price_with_unknown_part_raises(machine: InstanceType, disk: BootDisk, reason: str) -> None:
    with pytest.raises(NotPricedError) as caught:
        rates(core__e2="1", ram__e2="1").price(machine, disk, spot=False)
    assert str(caught.value) == reason


def test_price_error_names_missing_spot_price() -> None:
    with pytest.raises(NotPricedError, match="no spot price for core/e2 in us-central1"):
        rates(core__e2="1", ram__e2="1").price(machine("e2-standard-2", 2, 8), DISK, spot=True)
