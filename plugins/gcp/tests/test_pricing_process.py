"""The catalog fake as a separate process, as used by job-level tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_tasks.model import Architecture, BootDisk, InstanceType, Offer, OfferRequest, ProvisioningModel
from cloud_tasks.plugin import PricingContext
from cloud_tasks_gcp.pricing import open_pricing
from cloud_tasks_gcp.settings import GcpSettings

SUPPORT = Path(__file__).parents[3] / "tests" / "clouds"


@pytest.fixture
def address() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, str(SUPPORT / "gcp" / "support" / "billing_fake.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(SUPPORT / "support")},
    )
    assert process.stdout is not None
    with process:
        yield process.stdout.readline().strip()
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=20) == 0


def test_billing_fake_serves_from_separate_process(address: str) -> None:
    machine = InstanceType(
        name="n2-standard-8", vcpus=8, memory_gb=32, architecture=Architecture.X86_64, zones=("us-central1-a",)
    )
    request = OfferRequest(
        instance_type=machine,
        zone="us-central1-a",
        provisioning_model=ProvisioningModel.SPOT,
        boot_disk=BootDisk(disk_type="pd-standard", size_gb=10),
    )
    with open_pricing(GcpSettings(billing_endpoint=address), PricingContext()) as pricing:
        (offer,) = pricing.price([request])
    assert isinstance(offer, Offer)
    assert offer.price_per_hour.format(6) == "$0.187288"
