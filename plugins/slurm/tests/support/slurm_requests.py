"""Launch requests for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cloud_tasks.model import (
    Architecture,
    BootDisk,
    InstanceType,
    LaunchRequest,
    Offer,
    PriceBreakdown,
    ProvisioningModel,
)

__all__ = ["launch_request"]


def launch_request(
    token: str, *, zone: str = "main", script: str = "sleep 600", max_lifetime: timedelta | None = timedelta(minutes=10)
) -> LaunchRequest:
    """Return a request of the job ``job-TOKEN``, for half of the test cluster's node."""
    kind = InstanceType(name=f"{zone}-1", vcpus=1, memory_gb=2.0, architecture=Architecture.X86_64, zones=(zone,))
    offer = Offer(
        instance_type=kind,
        zone=zone,
        provisioning_model=ProvisioningModel.ON_DEMAND,
        boot_disk=BootDisk(disk_type="", size_gb=10),
        price=PriceBreakdown(),
        priced_at=datetime.now(UTC),
    )
    return LaunchRequest(
        client_token=token,
        job_id=f"job-{token}",
        offer=offer,
        startup_script=script,
        labels={},
        max_lifetime=max_lifetime,
    )
