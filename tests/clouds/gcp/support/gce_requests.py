"""What tests of Compute Engine ask for, and how they look at the stand-in."""

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
    Purchase,
)
from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks.registry import Registry
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["offer", "opened", "remaining", "wanted"]


def offer(name: str = "e2-standard-2", zone: str = "us-central1-a", *, spot: bool = False) -> Offer:
    """A small machine; on demand unless ``spot``."""
    return Offer(
        instance_type=InstanceType(
            name=name, vcpus=2, memory_gb=8.0, architecture=Architecture.X86_64, zones=("us-central1-a",)
        ),
        zone=zone,
        purchase=Purchase.SPOT if spot else Purchase.ON_DEMAND,
        boot_disk=BootDisk(disk_type="pd-balanced", size_gb=10),
        price=PriceBreakdown(),
        priced_at=datetime(2025, 7, 1, tzinfo=UTC),
    )


def wanted(offered: Offer | None = None, **changes: Any) -> LaunchRequest:
    """A launch with a token of its own."""
    return request_for(offered or offer(), **changes)


def opened(fake: GceFake, **settings: Any) -> AbstractContextManager[Compute]:
    """The plugin's compute, calling the stand-in."""
    chosen = GcpSettings(project_id="stand-in", compute_endpoint=fake.url, **settings)
    return Registry(only=["gcp"]).compute("gcp").open(chosen, ComputeContext(job_id="job", region="us-central1"))


def remaining(fake: GceFake) -> tuple[list[str], list[str]]:
    """The names of the instances and of the disks that the stand-in has."""
    state = fake.state()
    return [each["name"] for each in state["instances"]], state["disks"]
