"""Complete listings: VMs with their power states, and resources with the job tag, page by page.

Invariant, with a test: a listing with a failed page raises; a partial listing is never returned.
"""

from __future__ import annotations

from typing import Any

from cloud_tasks_azure.compute.clients import Clients
from cloud_tasks_azure.compute.compute_errors import translate_errors
from cloud_tasks_azure.compute.tags import JOB_TAG
from cloud_tasks_azure.compute.to_model import VmStatus, status_of

__all__ = ["list_vms", "tagged_resources", "vm_statuses"]


def list_vms(clients: Clients, job_id: str | None, *, foreign: bool = False) -> tuple[Any, ...]:
    """Return the VMs of a job, or of all jobs (None), in every resource group; with ``foreign`` also unmanaged ones.

    The API cannot filter VMs by tag, so all VMs of the subscription are listed.
    """
    with translate_errors("list instances"):
        found = tuple(clients.compute.virtual_machines.list_all())
    if foreign and job_id is None:
        return found
    return tuple(each for each in found if _is_of(job_id, each.tags or {}))


def vm_statuses(clients: Clients) -> dict[str, VmStatus]:
    """Return statuses by resource id in lower case, for all VMs of the subscription."""
    with translate_errors("list power states"):
        found = tuple(clients.compute.virtual_machines.list_all(status_only="true"))
    return {str(each.id).lower(): status_of(each) for each in found}


def tagged_resources(clients: Clients, job_id: str | None = None) -> tuple[Any, ...]:
    """Return the resources with the job tag: VMs, disks, network interfaces, addresses, networks."""
    with translate_errors("list the resources of jobs"):
        return tuple(clients.resources.resources.list(filter=_filter(job_id)))


def _filter(job_id: str | None) -> str:
    if job_id is None:
        return f"tagName eq '{JOB_TAG}'"
    value = job_id.replace("'", "''")
    return f"tagName eq '{JOB_TAG}' and tagValue eq '{value}'"


def _is_of(job_id: str | None, tags: Any) -> bool:
    found = tags.get(JOB_TAG)
    return bool(found) if job_id is None else found == job_id
