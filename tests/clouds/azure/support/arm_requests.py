"""Launch requests and inspection helpers for tests of Virtual Machines."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from arm_fake import SUBSCRIPTION, ArmFake
from arm_process import ArmProcess
from cloud_requests import request_for

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
from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks.registry import Registry
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["body_of", "detached", "offer", "opened", "remaining", "settings_for", "unmanaged_vm_body", "wanted"]

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE9wZW5TU0ggcHVibGljIGtleSBvZiBhIHRlc3Q= tests"


def offer(name: str = "Standard_D2s_v5", zone: str = "eastus-1", *, spot: bool = False, arm: bool = False) -> Offer:
    """Return the offer of a small VM."""
    return Offer(
        instance_type=InstanceType(
            name=name,
            vcpus=2,
            memory_gb=8.0,
            architecture=Architecture.ARM64 if arm else Architecture.X86_64,
            zones=("eastus-1",),
        ),
        zone=zone,
        provisioning_model=ProvisioningModel.SPOT if spot else ProvisioningModel.ON_DEMAND,
        boot_disk=BootDisk(disk_type="StandardSSD_LRS", size_gb=10),
        price=PriceBreakdown(cpu=Money("0.1")),
        priced_at=datetime(2025, 7, 1, tzinfo=UTC),
    )


def wanted(offered: Offer | None = None, **changes: Any) -> LaunchRequest:
    """Return a launch request with a new client token."""
    return request_for(offered or offer(), **changes)


def settings_for(fake: ArmFake | ArmProcess, **settings: Any) -> AzureSettings:
    """Return plugin settings for the fake."""
    return AzureSettings(
        subscription_id=SUBSCRIPTION,
        management_endpoint=fake.url,
        **{"operation_poll_seconds": 0.02, "ssh_public_key": KEY, **settings},
    )


def opened(fake: ArmFake, *, job_id: str = "job", **settings: Any) -> AbstractContextManager[Compute]:
    """Open the plugin's compute backend on the fake."""
    chosen = settings_for(fake, **settings)
    return Registry(only=["azure"]).compute("azure").open(chosen, ComputeContext(job_id=job_id, region="eastus"))


def body_of(fake: ArmFake, name: str) -> dict[str, Any]:
    """Return the request body of the VM of this name."""
    return next(each.resource for each in fake.cloud.machines.values() if each.name == name)


def detached(fake: ArmFake, name: str) -> None:
    """Let the resources of a VM outlive it."""
    for part in fake.cloud.resources.values():
        if part["name"].startswith(name):
            part["properties"]["deleteOption"] = "Detach"


def remaining(fake: ArmFake) -> tuple[list[str], list[str], list[str]]:
    """Return the names of the fake's VMs, of its other resources, and of its groups."""
    state = fake.state()
    return [each["name"] for each in state["instances"]], state["resources"], state["groups"]


def unmanaged_vm_body(subnet: str) -> dict[str, Any]:
    """Return the request body of an unmanaged VM."""
    address = {"name": "ip", "properties": {"subnet": {"id": subnet}}}
    return {
        "location": "eastus",
        "tags": {"team": "others"},
        "properties": {
            "hardwareProfile": {"vmSize": "Standard_B2s"},
            "storageProfile": {
                "imageReference": {
                    "publisher": "Canonical",
                    "offer": "ubuntu-24_04-lts",
                    "sku": "server",
                    "version": "latest",
                },
                "osDisk": {"name": "theirs", "createOption": "FromImage", "managedDisk": {}},
            },
            "osProfile": {
                "computerName": "theirs",
                "adminUsername": "they",
                "linuxConfiguration": {"ssh": {"publicKeys": [{"path": "/", "keyData": "ssh-rsa AAAA"}]}},
            },
            "networkProfile": {
                "networkInterfaceConfigurations": [
                    {"name": "theirs", "properties": {"primary": True, "ipConfigurations": [address]}}
                ]
            },
        },
    }
