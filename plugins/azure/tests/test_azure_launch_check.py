"""Local checks of a launch request, without a call to Azure."""

from __future__ import annotations

import base64
import random
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from cloud_tasks.errors import InputError
from cloud_tasks.model import (
    Architecture,
    BootDisk,
    InstanceType,
    LaunchRequest,
    Offer,
    PriceBreakdown,
    ProvisioningModel,
)
from cloud_tasks.registry import Registry
from cloud_tasks_azure.settings import AzureSettings

OFFER = Offer(
    instance_type=InstanceType(
        name="type", vcpus=2, memory_gb=8.0, architecture=Architecture.X86_64, zones=("eastus-1",)
    ),
    zone="eastus-1",
    provisioning_model=ProvisioningModel.SPOT,
    boot_disk=BootDisk(disk_type="StandardSSD_LRS", size_gb=30),
    price=PriceBreakdown(),
    priced_at=datetime(2025, 7, 1, tzinfo=UTC),
)


def request(**changes: Any) -> LaunchRequest:
    base = LaunchRequest(client_token="0" * 25, job_id="job", offer=OFFER, startup_script="#!/bin/bash\n", labels={})
    return attrs.evolve(base, **changes)


def noise(size: int) -> str:
    """Return a script of about ``size`` bytes after compression."""
    text = base64.b64encode(random.Random(1).randbytes(size)).decode()
    return f"#!/bin/bash\n# {text}\n"


def checked(settings: AzureSettings, launch: LaunchRequest) -> None:
    check = Registry(only=["azure"]).compute("azure").check_launch
    assert check is not None
    check(settings, launch)


def test_check_launch_accepts_compressible_script() -> None:
    checked(AzureSettings(), request(startup_script="#!/bin/bash\n" + "echo again and again\n" * 50_000))
    checked(AzureSettings(), request(startup_script=noise(60000)))


def test_check_launch_refuses_script_too_long_even_compressed() -> None:
    with pytest.raises(InputError, match=r"run\.startup_script: startup script too long: [\d,]+ bytes, .*limit 65,535"):
        checked(AzureSettings(), request(startup_script=noise(90_000)))


def test_check_launch_refuses_invalid_boot_disk() -> None:
    offer = attrs.evolve(OFFER, boot_disk=BootDisk(disk_type="floppy", size_gb=1))
    with pytest.raises(InputError, match="floppy"):
        checked(AzureSettings(), request(offer=offer))


def test_check_launch_counts_the_lines_added_to_a_script() -> None:
    script = noise(63_100)
    checked(AzureSettings(), request(startup_script=script))
    with pytest.raises(InputError, match="startup script too long"):
        checked(AzureSettings(managed_identity="system"), request(startup_script=script))
