"""Complete listings: VMs with their power states, resources that are created with a VM or left by one, sizes, quotas.

Each resource provider lists its own resources, with their tags and at once. Resource Manager's listing of all resources
is neither: filtered by a tag, it leaves out the tags ("Resources - List"), and new resources appear later.

Invariants, each with a test:

1. A listing with a failed page raises; a partial listing is never returned.
2. A resource counts as left only if its VM does not exist, not if the listing of VMs does not have it yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from cloud_tasks.errors import NotFoundError
from cloud_tasks_azure.compute.arm import COMPUTE, DISKS, NETWORK, SKUS, Arm
from cloud_tasks_azure.compute.compute_errors import translate_errors
from cloud_tasks_azure.compute.tags import INSTANCE_TAG, JOB_TAG
from cloud_tasks_azure.compute.to_model import VmStatus, group_of, status_of

__all__ = ["get_vm", "leftovers", "list_parts", "list_skus", "list_usages", "list_vms", "tag_of", "vm_statuses"]


def list_vms(arm: Arm, job_id: str | None, *, foreign: bool = False) -> list[Mapping[str, Any]]:
    """Return the VMs of a job, or of all jobs (None), in every resource group; with ``foreign`` also unmanaged ones.

    The API cannot filter VMs by tag, so all VMs of the subscription are listed.
    """
    with translate_errors("list instances"):
        found = arm.compute().virtual_machines.list_all(api_version=COMPUTE)
        return [each for each in found if (foreign and job_id is None) or _is_of(job_id, each)]


def vm_statuses(arm: Arm) -> dict[str, VmStatus]:
    """Return statuses by resource id in lower case, for all VMs of the subscription."""
    with translate_errors("list power states"):
        found = arm.compute().virtual_machines.list_all(status_only="true", api_version=COMPUTE)
        return {str(each["id"]).lower(): status_of(each) for each in found}


def list_parts(arm: Arm, job_id: str | None = None) -> list[list[Mapping[str, Any]]]:
    """Return the resources created with a job's VMs, or with those of all jobs (None).

    They are grouped by kind, in the order in which they can be deleted: interfaces, addresses, disks.
    """
    found: list[list[Mapping[str, Any]]] = []
    for kind in ("networkInterfaces", "publicIPAddresses"):
        with translate_errors(f"list {kind}"):
            entries = arm.entries(f"/providers/Microsoft.Network/{kind}", NETWORK)
        found.append([each for each in entries if _is_of(job_id, each)])
    with translate_errors("list disks"):
        disks = arm.compute().disks.list(api_version=DISKS)
        found.append([each for each in disks if _is_of(job_id, each)])
    return found


def leftovers(
    arm: Arm, parts: Iterable[Mapping[str, Any]], vms: Iterable[Mapping[str, Any]]
) -> dict[str, list[Mapping[str, Any]]]:
    """Return the resources whose VM does not exist, by the VM's name.

    Args:
        parts: Resources created with VMs.
        vms: VMs of the same jobs.
    """
    left: dict[str, list[Mapping[str, Any]]] = {}
    for part in parts:
        left.setdefault(tag_of(part, INSTANCE_TAG), []).append(part)
    listed = {"", *(str(each["name"]) for each in vms)}
    return {
        name: some
        for name, some in left.items()
        if name not in listed and get_vm(arm, group_of(some[0]["id"]), name) is None
    }


def get_vm(arm: Arm, group: str, name: str) -> Mapping[str, Any] | None:
    """Return a VM, or None if it does not exist."""
    with suppress(NotFoundError), translate_errors(f"read {name}"):
        vms = arm.compute().virtual_machines
        return vms.get(group, name, api_version=COMPUTE)
    return None


def list_skus(arm: Arm, location: str) -> list[Mapping[str, Any]]:
    """Return the resource SKUs of a location, of all kinds."""
    with translate_errors(f"list the sizes of {location}"):
        skus = arm.compute().resource_skus
        return list(skus.list(filter=f"location eq '{location}'", api_version=SKUS))


def list_usages(arm: Arm, location: str) -> list[Mapping[str, Any]]:
    """Return the quotas of a location."""
    with translate_errors("read the subscription's quotas"):
        return list(arm.compute().usage.list(location, api_version=COMPUTE))


def tag_of(resource: Mapping[str, Any], name: str) -> str:
    """Return the value of a tag; empty without it."""
    return str((resource.get("tags") or {}).get(name) or "")


def _is_of(job_id: str | None, resource: Mapping[str, Any]) -> bool:
    found = tag_of(resource, JOB_TAG)
    return bool(found) if job_id is None else found == job_id
