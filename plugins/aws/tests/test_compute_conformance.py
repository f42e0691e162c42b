"""EC2 keeps the contract of compute, over the overlay in front of moto."""

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
    Purchase,
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
def stranger(overlay_server: OverlayProcess) -> Iterator[Any]:
    """Somebody else's client in the same account."""
    ec2 = boto3.client("ec2", endpoint_url=overlay_server.url, **KEYS)
    yield ec2
    ec2.close()


def offer(instance_type: str, zone: str) -> Offer:
    return Offer(
        instance_type=InstanceType(
            name=instance_type, vcpus=2, memory_gb=4.0, architecture=Architecture.X86_64, zones=(zone,)
        ),
        zone=zone,
        purchase=Purchase.ON_DEMAND,
        boot_disk=BootDisk(disk_type="gp3", size_gb=10),
        price=PriceBreakdown(cpu=Money("0.0416")),
        priced_at=datetime.now(UTC),
    )


class TestEc2(ComputeContract):
    @pytest.fixture
    def subject(self, overlay: OverlayProcess, aws_settings: AwsSettings, stranger: Any) -> ComputeSubject:
        def sold_out(request: LaunchRequest) -> LaunchRequest:
            overlay.tell("stock-out", zone="us-east-1b")
            return attrs.evolve(request, offer=attrs.evolve(request.offer, zone="us-east-1b"))

        def over_the_quota(request: LaunchRequest) -> LaunchRequest:
            overlay.tell("stock-out", zone="us-east-1c", code="VcpuLimitExceeded")
            return attrs.evolve(request, offer=attrs.evolve(request.offer, zone="us-east-1c"))

        def unheard_of(request: LaunchRequest) -> LaunchRequest:
            kind = attrs.evolve(request.offer.instance_type, name="t3.colossal")
            return attrs.evolve(request, offer=attrs.evolve(request.offer, instance_type=kind))

        def foreign() -> str:
            made = stranger.run_instances(
                ImageId="ami-04681a1dbd79675a5", InstanceType="m5.large", MinCount=1, MaxCount=1
            )
            return str(made["Instances"][0]["InstanceId"])

        refusals: dict[Callable[[LaunchRequest], LaunchRequest], RefusalScope] = {
            sold_out: RefusalScope.OFFER,
            over_the_quota: RefusalScope.REGION,
            unheard_of: RefusalScope.INSTANCE_TYPE,
        }
        return ComputeSubject(
            backend=REGISTRY.compute("aws"),
            settings=aws_settings,
            region="us-east-1",
            offer=offer("t3.medium", "us-east-1a"),
            foreign=foreign,
            refusals=tuple(Refusal(request=make, scope=scope) for make, scope in refusals.items()),
            lifetime=timedelta(seconds=1),
        )
