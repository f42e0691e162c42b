"""Compute contract of EC2, against the overlay over moto."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import boto3
import pytest
from ec2_process import OverlayProcess

from cloud_tasks.errors import RefusalScope
from cloud_tasks.model import (
    Architecture,
    BootDisk,
    InstanceType,
    LaunchRequest,
    Money,
    Offer,
    PriceBreakdown,
    ProvisioningModel,
)
from cloud_tasks.registry import Registry
from cloud_tasks.testing import ComputeContract, ComputeSubject, Refusal
from cloud_tasks_aws.settings import AwsSettings

REGISTRY = Registry(only=["aws"])
KEYS: dict[str, Any] = {
    "aws_access_key_id": "AKIDEXAMPLE",
    "aws_secret_access_key": "secret",
    "region_name": "us-east-1",
}


@pytest.fixture(scope="module")
def other_user(overlay_server: OverlayProcess) -> Iterator[Any]:
    """A client of another user of the account."""
    ec2 = boto3.client("ec2", endpoint_url=overlay_server.url, **KEYS)
    yield ec2
    ec2.close()


def offer(instance_type: str, zone: str) -> Offer:
    return Offer(
        instance_type=InstanceType(
            name=instance_type, vcpus=2, memory_gb=4.0, architecture=Architecture.X86_64, zones=(zone,)
        ),
        zone=zone,
        provisioning_model=ProvisioningModel.ON_DEMAND,
        boot_disk=BootDisk(disk_type="gp3", size_gb=10),
        price=PriceBreakdown(cpu=Money("0.0416")),
        priced_at=datetime.now(UTC),
    )


class TestEc2(ComputeContract):
    @pytest.fixture
    def subject(self, overlay: OverlayProcess, aws_settings: AwsSettings, other_user: Any) -> ComputeSubject:
        def without_capacity(request: LaunchRequest) -> LaunchRequest:
            overlay.control("stock-out", zone="us-east-1b")
            return attrs.evolve(request, offer=attrs.evolve(request.offer, zone="us-east-1b"))

        def over_the_quota(request: LaunchRequest) -> LaunchRequest:
            overlay.control("stock-out", zone="us-east-1c", code="VcpuLimitExceeded")
            return attrs.evolve(request, offer=attrs.evolve(request.offer, zone="us-east-1c"))

        def unknown_type(request: LaunchRequest) -> LaunchRequest:
            kind = attrs.evolve(request.offer.instance_type, name="t3.colossal")
            return attrs.evolve(request, offer=attrs.evolve(request.offer, instance_type=kind))

        def foreign() -> str:
            response = other_user.run_instances(
                ImageId="ami-04681a1dbd79675a5", InstanceType="m5.large", MinCount=1, MaxCount=1
            )
            return str(response["Instances"][0]["InstanceId"])

        refusals: dict[Callable[[LaunchRequest], LaunchRequest], RefusalScope] = {
            without_capacity: RefusalScope.OFFER,
            over_the_quota: RefusalScope.REGION,
            unknown_type: RefusalScope.INSTANCE_TYPE,
        }
        return ComputeSubject(
            backend=REGISTRY.compute("aws"),
            settings=aws_settings,
            region="us-east-1",
            offer=offer("t3.medium", "us-east-1a"),
            foreign=foreign,
            end_foreign=lambda instance_id: other_user.terminate_instances(InstanceIds=[instance_id]),
            refusals=tuple(Refusal(request=change, scope=scope) for change, scope in refusals.items()),
            lifetime=timedelta(seconds=1),
        )
