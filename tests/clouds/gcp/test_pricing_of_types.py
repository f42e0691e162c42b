"""Prices of every machine type of the Compute Engine fake, with every supported boot disk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from billing_fake import skus
from gce_catalog import load_catalog
from google.cloud import compute_v1 as sdk

from cloud_tasks.model import BootDisk, InstanceType
from cloud_tasks_gcp.compute.to_model import to_instance_types
from cloud_tasks_gcp.pricing.parts import NotPricedError
from cloud_tasks_gcp.pricing.rates import Rates, rates_by_region
from cloud_tasks_gcp.pricing.skus import read_skus

LIST = Path(__file__).parent / "support" / "list_prices.csv"
TPU = re.compile("^ct|-tpu$")


def types_of(region: str) -> tuple[InstanceType, ...]:
    catalog = load_catalog()
    return to_instance_types(
        (zone, sdk.MachineType.from_json(json.dumps(machine_type.resource(zone)), ignore_unknown_fields=True))
        for zone in catalog.regions[region]
        for machine_type in catalog.types[zone].values()
    )


@pytest.fixture(scope="module")
def rates() -> dict[str, Rates]:
    return dict(rates_by_region(read_skus([{"skus": skus()}]), datetime.now(UTC)))


def problems(rates: Rates, machines: tuple[InstanceType, ...]) -> dict[str, str]:
    """Return the machine types unpriced a price, with reasons."""
    found = {}
    for machine in machines:
        for disk_type in machine.boot_disk_types:
            for spot in (False, True):
                try:
                    price = rates.price(machine, BootDisk(disk_type=disk_type, size_gb=10), spot=spot).total
                except NotPricedError as error:
                    found[machine.name] = str(error)
                else:
                    assert 0 < price.usd < 200, (machine.name, disk_type, price)
    return found


def test_price_exists_for_every_type_of_complete_list(rates: dict[str, Rates]) -> None:
    machines = types_of("us-central1")
    assert len({machine.name.split("-")[0] for machine in machines}) >= 25
    tpus = ("ct5lp-hightpu-4t", "n1-340-48-tpu", "n1-356-96-tpu")
    reason = "TPU types are priced per chip, which is not supported"
    assert problems(rates["us-central1"], machines) == dict.fromkeys(tpus, reason)


def listed() -> Iterator[tuple[str, float, float | None]]:
    """Yield machine types with their prices on demand and as spot, from a table of another project."""
    for line in LIST.read_text().splitlines():
        if not line.startswith(("#", "machine type")):
            name, on_demand, spot = line.split(",")
            yield name, float(on_demand), float(spot) if spot else None


def test_price_of_every_type_is_that_of_an_independent_list(rates: dict[str, Rates]) -> None:
    machines = {machine.name: machine for machine in types_of("us-central1")}
    disk = BootDisk(disk_type="pd-standard", size_gb=10)
    wrong = {}
    for name, *expected in listed():
        for spot, price in zip((False, True), expected, strict=True):
            found = rates["us-central1"].price(machines[name], disk, spot=spot)
            if price is not None and abs(float((found.total - found.boot_disk).usd) / price - 1) > 0.01:
                wrong[name, spot] = (found, price)
    assert wrong == {}
    unlisted = {"a3-megagpu-8g", "a3-ultragpu-8g", "a4-highgpu-8g", "h4d-standard-192"}
    assert {name for name in machines if not TPU.search(name)} - {name for name, *_ in listed()} == unlisted


def test_price_of_other_types_unaffected_by_missing_families(rates: dict[str, Rates]) -> None:
    machines = types_of("europe-west1")
    unpriced = problems(rates["europe-west1"], machines)
    assert unpriced["c3d-standard-8"] == "the catalog has no spot price for core/c3d in europe-west1"
    assert len(machines) - len(unpriced) > 200


def test_spot_price_is_below_on_demand_price(rates: dict[str, Rates]) -> None:
    disk = BootDisk(disk_type="pd-standard", size_gb=10)
    for machine in types_of("us-central1"):
        if TPU.search(machine.name):
            continue
        on_demand, spot = (rates["us-central1"].price(machine, disk, spot=each).total for each in (False, True))
        assert spot < on_demand, machine.name
