"""Launch requests for tests of the EC2 backend."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import attrs

from cloud_tasks.model import (
    Architecture,
    BootDisk,
    Instance,
    InstanceType,
    LaunchRequest,
    Money,
    Offer,
    PriceBreakdown,
    ProvisioningModel,
)

__all__ = ["KEYS", "RequestOf", "described", "offer", "request_for"]

KEYS: dict[str, Any] = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret"}
RequestOf = Callable[..., LaunchRequest]
_SCRIPT = "#!/bin/bash\nwhile true; do sleep 1; done\n"
_ARM = ("t4g", "c7g")


def offer(
    name: str = "t3.medium",
    zone: str = "us-east-1a",
    provisioning_model: ProvisioningModel = ProvisioningModel.ON_DEMAND,
    *,
    vcpus: int = 2,
) -> Offer:
    """Return an offer with a gp3 disk."""
    kind = InstanceType(
        name=name,
        vcpus=vcpus,
        memory_gb=4.0,
        architecture=Architecture.ARM64 if name.startswith(_ARM) else Architecture.X86_64,
        zones=(zone,),
    )
    return Offer(
        instance_type=kind,
        zone=zone,
        provisioning_model=provisioning_model,
        boot_disk=BootDisk(disk_type="gp3", size_gb=20, iops=4_000, throughput_mb_s=200),
        price=PriceBreakdown(cpu=Money("0.04")),
        priced_at=datetime.now(UTC),
    )


def request_for(job: str, chosen: Offer, **changes: Any) -> LaunchRequest:
    """Return a request with a new client token."""
    request = LaunchRequest(
        client_token=uuid4().hex,
        job_id=job,
        offer=chosen,
        startup_script=_SCRIPT,
        labels={"run": "r1", "owner": "tester", "expires": "2000000000"},
    )
    return attrs.evolve(request, **changes)


def described(ec2: Any, instance: Instance) -> Any:
    """Return EC2's description of an instance."""
    return ec2.describe_instances(InstanceIds=[instance.instance_id])["Reservations"][0]["Instances"][0]
