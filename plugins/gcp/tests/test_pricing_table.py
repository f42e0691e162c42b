"""Documented prices of each family against the code, from the API's JSON to the price."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from billing_fake import skus

from cloud_tasks.model import Architecture, BootDisk, InstanceType, Money
from cloud_tasks_gcp.disks import provisioned
from cloud_tasks_gcp.pricing.parts import NotPricedError
from cloud_tasks_gcp.pricing.rates import Rates, rates_by_region
from cloud_tasks_gcp.pricing.skus import read_skus

PAGE = Path(__file__).parents[3] / "docs" / "providers" / "gcp_prices.md"
PD_STANDARD = BootDisk(disk_type="pd-standard", size_gb=10)


def table(heading: str) -> Iterator[dict[str, str]]:
    """Yield the rows of the first table under a heading, by column."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    names = [cell.strip() for cell in lines[0].strip("|").split("|")]
    for line in lines[2:]:
        yield dict(zip(names, (cell.strip() for cell in line.strip("|").split("|")), strict=True))


def machine_of(row: dict[str, str]) -> InstanceType:
    count, _, kind = row["GPUs"].partition(" x ")
    return InstanceType(
        name=row["machine type"].split()[0],
        vcpus=int(row["CPUs"]),
        memory_gb=float(row["GiB"]),
        local_ssd_gb=float(row["local SSD, GiB"] or 0),
        gpu_count=int(count or 0),
        gpu_type=kind,
        architecture=Architecture.X86_64,
        zones=("us-central1-a",),
    )


FAMILIES = list(table("How each family is priced"))
DISKS = list(table("Boot disks"))


@pytest.fixture(scope="module")
def rates() -> Rates:
    return rates_by_region(read_skus([{"skus": skus()}]), datetime.now(UTC))["us-central1"]


def price(rates: Rates, machine: InstanceType, *, spot: bool) -> Money:
    """Return the price of the instance without its boot disk."""
    found = rates.price(machine, PD_STANDARD, spot=spot)
    return found.total - found.boot_disk


def rounded(money: Money) -> str:
    return f"{money.usd:.6f}"


@pytest.mark.parametrize("row", FAMILIES, ids=[row["machine type"] for row in FAMILIES])
def test_price_of_instance_matches_documentation(row: dict[str, str], rates: Rates) -> None:
    machine = machine_of(row)
    assert rounded(price(rates, machine, spot=False)) == row["on demand"]
    assert rounded(price(rates, machine, spot=True)) == row["spot"]


def test_price_table_covers_compute_engine_families() -> None:
    families = {row["machine type"].split("-")[0] for row in FAMILIES}
    general = {"e2", "n1", "n2", "n2d", "n4", "n4a", "n4d", "t2d", "t2a", "c3", "c3d", "c4", "c4a", "c4d", "c4n"}
    compute = {"c2", "c2d", "h3", "h4d"}
    memory = {"m1", "m2", "m3", "m4", "m4n"}
    others = {"z3", "z4d", "a2", "a3", "a4", "g2", "g4", "f1", "g1"}
    assert families == general | compute | memory | others
    assert len(families) >= 25


@pytest.mark.parametrize("row", FAMILIES, ids=[row["machine type"] for row in FAMILIES])
def test_price_table_titles_are_in_catalog(row: dict[str, str]) -> None:
    described = [each["description"] for each in skus()]
    for title in (row["cores and memory sold as"].split(",")[0], row["local SSD sold as"]):
        assert any(description.startswith(title) for description in described), title


@pytest.mark.parametrize("row", DISKS, ids=[row["type"] for row in DISKS])
def test_price_of_disk_matches_documentation(row: dict[str, str], rates: Rates) -> None:
    disk = BootDisk(disk_type=row["type"], size_gb=100)
    iops, throughput = provisioned(disk)
    assert (str(iops or ""), str(throughput or "")) == (row["IOPS"], row["MiB/s"])
    found = rates.price(machine_of(FAMILIES[0]), disk, spot=False)
    assert rounded(found.boot_disk + found.boot_disk_iops + found.boot_disk_throughput) == row["100 GiB, per hour"]


UNPRICED = {
    "x4-*": "x4-480-8t-metal",
    "ct*, tpu*, *-tpu": "n1-340-48-tpu",
    "g4-standard with fewer than 48 CPUs": "g4-standard-6",
}


@pytest.mark.parametrize("row", list(table("Types without a price")), ids=lambda row: row["machine types"])
def test_unpriced_types_match_documentation(row: dict[str, str], rates: Rates) -> None:
    machine = InstanceType(
        name=UNPRICED[row["machine types"]],
        vcpus=6,
        memory_gb=24,
        architecture=Architecture.X86_64,
        zones=("us-central1-a",),
        gpu_count=1,
        gpu_type="nvidia-rtx-pro-6000",
    )
    with pytest.raises(NotPricedError) as caught:
        price(rates, machine, spot=False)
    assert str(caught.value) == row["reason"]


def test_price_of_reference_instance_matches_reference(rates: Rates) -> None:
    found = rates.price(machine_of(FAMILIES[0]), PD_STANDARD, spot=False)
    assert FAMILIES[0]["machine type"] == "e2-standard-8"
    assert found.cpu == Money("0.17449272")
    assert found.memory == Money("0.09355296")
    assert found.boot_disk == Money("0.4") / 730
    reference = Decimal("0.268614")
    assert abs(found.total.usd - reference) / reference < Decimal("0.0002")
