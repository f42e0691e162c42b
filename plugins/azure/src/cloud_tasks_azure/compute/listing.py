"""Complete listings: machines with their power states, and whatever carries our tags, page by page.

Invariant, with a test: a listing of which a page failed raises; it is never shorter than the truth.
"""

from __future__ import annotations

from typing import Any

from cloud_tasks_azure.compute.clients import Clients
from cloud_tasks_azure.compute.describe import power_state
from cloud_tasks_azure.compute.failures import mapped
from cloud_tasks_azure.compute.tags import JOB_TAG

__all__ = ["machines", "power_states", "tagged_groups", "tagged_resources"]


def machines(clients: Clients, job_id: str | None, *, foreign: bool = False) -> tuple[Any, ...]:
    """The machines of a job, or of all jobs (None), in every resource group; with ``foreign`` all there are.

    The API cannot filter machines by tag, so that all of the subscription are read.
    """
    with mapped("list machines"):
        found = tuple(clients.compute.virtual_machines.list_all())
    if foreign and job_id is None:
        return found
    return tuple(each for each in found if _is_of(job_id, each.tags or {}))


def power_states(clients: Clients) -> dict[str, str]:
    """``running``, ``stopped`` … by resource id in lower case, for all machines of the subscription."""
    with mapped("list the machines' states"):
        found = tuple(clients.compute.virtual_machines.list_all(status_only="true"))
    return {str(each.id).lower(): power_state(each) for each in found}


def tagged_resources(clients: Clients, job_id: str | None = None) -> tuple[Any, ...]:
    """Everything that carries our tag: machines, disks, network interfaces, addresses, networks."""
    with mapped("list what the jobs made"):
        return tuple(clients.resources.resources.list(filter=_filter(job_id)))


def tagged_groups(clients: Clients, job_id: str | None = None) -> tuple[Any, ...]:
    """The resource groups that were made for jobs."""
    with mapped("list resource groups"):
        return tuple(clients.resources.resource_groups.list(filter=_filter(job_id)))


def _filter(job_id: str | None) -> str:
    if job_id is None:
        return f"tagName eq '{JOB_TAG}'"
    value = job_id.replace("'", "''")
    return f"tagName eq '{JOB_TAG}' and tagValue eq '{value}'"


def _is_of(job_id: str | None, tags: Any) -> bool:
    found = tags.get(JOB_TAG)
    return bool(found) if job_id is None else found == job_id
