"""Launch requests for tests of Compute Engine, and queries of the fake."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from cloud_requests import request_for
from gce_fake import GceFake

from cloud_tasks.model import (
    Architecture,
    BootDisk,
    InstanceType,
    LaunchRequest,
    Offer,
    PriceBreakdown,
    ProvisioningModel,
)
from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks.registry import Registry
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["launch_request", "offer", "open_compute", "remaining"]


def offer(name: str = "e2-standard-2", zone: str = "us-central1-a", *, spot: bool = False) -> Offer:
    """Return an offer of a small instance type, on demand unless ``spot``."""
    return Offer(
        instance_type=InstanceType(
            name=name, vcpus=2, memory_gb=8.0, architecture=Architecture.X86_64, zones=("us-central1-a",)
        ),
        zone=zone,
        provisioning_model=ProvisioningModel.SPOT if spot else ProvisioningModel.ON_DEMAND,
        boot_disk=BootDisk(disk_type="pd-balanced", size_gb=10),
        price=PriceBreakdown(),
        priced_at=datetime(2025, 7, 1, tzinfo=UTC),
    )


def launch_request(offered: Offer | None = None, **changes: Any) -> LaunchRequest:
    """Return a launch request with a new token."""
    return request_for(offered or offer(), **changes)


def open_compute(fake: GceFake, **settings: Any) -> AbstractContextManager[Compute]:
    """Open the plugin's compute backend on the fake."""
    chosen = GcpSettings(project_id="fake-project", compute_endpoint=fake.url, **settings)
    return Registry(only=["gcp"]).compute("gcp").open(chosen, ComputeContext(job_id="job", region="us-central1"))


def remaining(fake: GceFake) -> tuple[list[str], list[str]]:
    """Return the names of the fake's instances and disks."""
    state = fake.state()
    return [each["name"] for each in state["instances"]], state["disks"]
