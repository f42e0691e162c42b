"""Complete listings: VMs with their power states, and the resources that are created with a VM.

Each resource provider lists its own resources, with their tags and at once. Resource Manager's listing of all resources
is neither: filtered by a tag, it leaves out the tags ("Resources - List"), and new resources appear later.

Invariant, with a test: a listing with a failed page raises; a partial listing is never returned.
"""

from __future__ import annotations

from typing import Any

from cloud_tasks_azure.compute.arm import COMPUTE, DISKS, NETWORK, Arm
from cloud_tasks_azure.compute.compute_errors import translate_errors
from cloud_tasks_azure.compute.tags import JOB_TAG
from cloud_tasks_azure.compute.to_model import VmStatus, status_of

__all__ = ["PARTS", "list_parts", "list_vms", "tag_of", "vm_statuses"]

_VMS = "/providers/Microsoft.Compute/virtualMachines"
PARTS = {
    "/providers/Microsoft.Network/networkInterfaces": NETWORK,
    "/providers/Microsoft.Network/publicIPAddresses": NETWORK,
    "/providers/Microsoft.Compute/disks": DISKS,
}
"""Resources created with a VM and their API versions, in the order in which they can be deleted."""


def list_vms(arm: Arm, job_id: str | None, *, foreign: bool = False) -> list[dict[str, Any]]:
    """Return the VMs of a job, or of all jobs (None), in every resource group; with ``foreign`` also unmanaged ones.

    The API cannot filter VMs by tag, so all VMs of the subscription are listed.
    """
    with translate_errors("list instances"):
        found = arm.entries(_VMS, COMPUTE)
    if foreign and job_id is None:
        return found
    return [each for each in found if _is_of(job_id, each)]


def vm_statuses(arm: Arm) -> dict[str, VmStatus]:
    """Return statuses by resource id in lower case, for all VMs of the subscription."""
    with translate_errors("list power states"):
        found = arm.entries(_VMS, COMPUTE, statusOnly="true")
    return {str(each["id"]).lower(): status_of(each) for each in found}


def list_parts(arm: Arm, job_id: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return the disks, network interfaces and addresses of a job's VMs, or of all jobs (None), by kind."""
    found = {}
    for kind, version in PARTS.items():
        with translate_errors(f"list {kind.rpartition('/')[2]}"):
            found[kind] = [each for each in arm.entries(kind, version) if _is_of(job_id, each)]
    return found


def tag_of(resource: dict[str, Any], name: str) -> str:
    """Return the value of a tag; empty without it."""
    return str((resource.get("tags") or {}).get(name) or "")


def _is_of(job_id: str | None, resource: dict[str, Any]) -> bool:
    found = tag_of(resource, JOB_TAG)
    return bool(found) if job_id is None else found == job_id
