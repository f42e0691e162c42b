"""Local checks of a launch request, without a call to AWS."""

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
from cloud_tasks_aws.settings import AwsSettings

OFFER = Offer(
    instance_type=InstanceType(
        name="type", vcpus=2, memory_gb=8.0, architecture=Architecture.X86_64, zones=("us-east-1a",)
    ),
    zone="us-east-1a",
    provisioning_model=ProvisioningModel.SPOT,
    boot_disk=BootDisk(disk_type="gp3", size_gb=30),
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


def checked(settings: AwsSettings, launch: LaunchRequest) -> None:
    check = Registry(only=["aws"]).compute("aws").check_launch
    assert check is not None
    check(settings, launch)


def test_check_launch_accepts_compressible_script() -> None:
    checked(AwsSettings(), request(startup_script="#!/bin/bash\n" + "echo again and again\n" * 50_000))
    checked(AwsSettings(), request(startup_script=noise(13000)))


def test_check_launch_refuses_script_too_long_even_compressed() -> None:
    with pytest.raises(InputError, match=r"run\.startup_script: startup script too long: [\d,]+ bytes, .*limit 16,384"):
        checked(AwsSettings(), request(startup_script=noise(90_000)))


def test_check_launch_refuses_invalid_boot_disk() -> None:
    offer = attrs.evolve(OFFER, boot_disk=BootDisk(disk_type="floppy", size_gb=1))
    with pytest.raises(InputError, match="floppy"):
        checked(AwsSettings(), request(offer=offer))


def test_check_launch_accepts_long_script_with_script_location() -> None:
    checked(AwsSettings(script_location="s3://bucket/scripts"), request(startup_script=noise(90_000)))
