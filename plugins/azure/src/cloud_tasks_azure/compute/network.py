"""Where a job's machines are put: its resource group and, unless the settings name a subnet, a network of its own.

Both are made at the first launch in a location, cost nothing, carry the job's tag, and are removed with the last
machine by whoever ended it. Machines reach the world through the subnet's default outbound access, without an address
of their own; nothing reaches them: the security group has the default rules alone ("Azure network security groups
overview").

Invariants, each with a test:

1. Launches side by side make one group and one network.
2. A group is deleted only if it was made by this system for this job, and holds nothing else; a group or subnet of the
   settings is never touched.
3. Nothing is removed while a machine of the job is there.
"""

from __future__ import annotations

import threading
from typing import Any

import attrs
import structlog

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_azure.compute.clients import Clients
from cloud_tasks_azure.compute.failures import mapped
from cloud_tasks_azure.compute.listing import machines
from cloud_tasks_azure.compute.tags import JOB_TAG, group_name, network_name
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["Networks", "Place", "problem_is_missing_place"]

log = structlog.get_logger()

_SUBNET = "workers"
_ADDRESSES = "10.0.0.0/16"


@attrs.frozen(kw_only=True)
class Place:
    """Where a machine is made."""

    group: str
    subnet: str
    """A resource id."""
    security_group: str | None
    """Likewise; None: what the subnet has."""


class Networks:
    """The groups and networks of one backend. Thread-safe."""

    def __init__(self, clients: Clients, settings: AzureSettings) -> None:
        self._clients = clients
        self._settings = settings
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._places: dict[tuple[str, str], Place] = {}

    def group(self, job_id: str) -> str:
        """The resource group of a job's machines."""
        return self._settings.resource_group or group_name(job_id)

    def place(self, job_id: str, location: str) -> Place:
        """Where to make a machine; what is not there yet is made. Raises `ProviderError` or `LaunchRefused`."""
        with self._lock:
            lock = self._locks.setdefault(job_id, threading.Lock())
        with lock:
            known = self._places.get((job_id, location))
            if known is None:
                known = self._places[job_id, location] = self._make(job_id, location)
            return known

    def forget(self, job_id: str) -> None:
        """Look again next time: somebody removed what was there."""
        with self._lock:
            for key in [key for key in self._places if key[0] == job_id]:
                del self._places[key]

    def _make(self, job_id: str, location: str) -> Place:
        group, tags = self.group(job_id), {JOB_TAG: job_id}
        if self._settings.resource_group is None:
            with mapped(f"make the resource group {group}", launching=True):
                self._make_group(group, location, tags)
        if self._settings.subnet is not None:
            return Place(group=group, subnet=self._settings.subnet, security_group=self._settings.security_group)
        name = network_name(job_id, location)
        network = self._clients.network
        with mapped(f"make the network {name}", launching=True):
            rules = network.network_security_groups.begin_create_or_update(
                group, f"{name}-nsg", _json({"location": location, "tags": tags, "properties": {"securityRules": []}})
            ).result()
            subnet = {
                "name": _SUBNET,
                "properties": {
                    "addressPrefix": _ADDRESSES,
                    "networkSecurityGroup": {"id": rules.id},
                    # Without it a machine that has no address reaches nothing ("Default outbound access in Azure").
                    "defaultOutboundAccess": True,
                },
            }
            space = {"addressSpace": {"addressPrefixes": [_ADDRESSES]}, "subnets": [subnet]}
            made = network.virtual_networks.begin_create_or_update(
                group, name, _json({"location": location, "tags": tags, "properties": space})
            ).result()
        return Place(group=group, subnet=f"{made.id}/subnets/{_SUBNET}", security_group=str(rules.id))

    def _make_group(self, group: str, location: str, tags: dict[str, str]) -> None:
        groups = self._clients.resources.resource_groups
        # One that is there has a location of its own, which cannot be changed.
        if not groups.check_existence(group):
            groups.create_or_update(group, _json({"location": location, "tags": tags}))

    # -- removing --

    def remove_unused(self, job_id: str) -> None:
        """Remove what was made for a job, if no machine of it is left. Raises `ProviderError`."""
        if machines(self._clients, job_id):
            return
        self.forget(job_id)
        if self._settings.resource_group is None and self._is_ours(group_name(job_id), job_id):
            group = group_name(job_id)
            try:
                with mapped(f"delete the resource group {group}"):
                    # It takes minutes and nothing is billed any more: Azure ends it without us.
                    self._clients.resources.resource_groups.begin_delete(group, polling=False)
            except NotFoundError:
                return
            log.debug("Resource group is being deleted", group=group)
        elif self._settings.resource_group is not None and self._settings.subnet is None:
            self._remove_networks(self._settings.resource_group, job_id)

    def _is_ours(self, group: str, job_id: str) -> bool:
        """Whether a group was made for the job and holds nothing that was not."""
        resources = self._clients.resources
        try:
            with mapped(f"look into the resource group {group}"):
                found = resources.resource_groups.get(group)
                if (found.tags or {}).get(JOB_TAG) != job_id:
                    return False
                strange = [str(r.name) for r in resources.resources.list_by_resource_group(group) if not _of(r, job_id)]
        except NotFoundError:
            return False
        if strange:
            log.warning(f"The resource group {group} is kept: it holds {', '.join(strange[:3])}, which is not ours")
        return not strange

    def _remove_networks(self, group: str, job_id: str) -> None:
        with mapped(f"look into the resource group {group}"):
            found = [
                (str(each.type).lower(), str(each.name))
                for each in self._clients.resources.resources.list_by_resource_group(group)
                if _of(each, job_id)
            ]
        network = self._clients.network
        deletions = (
            ("microsoft.network/virtualnetworks", network.virtual_networks.begin_delete),
            ("microsoft.network/networksecuritygroups", network.network_security_groups.begin_delete),
        )
        for kind, delete in deletions:
            pollers: list[Any] = []
            for name in (name for each, name in found if each == kind):
                with mapped(f"delete the network {name}"):
                    pollers.append(delete(group, name))
            for poller in pollers:
                with mapped("delete a network"):
                    poller.result()


def _of(resource: Any, job_id: str) -> bool:
    return bool((resource.tags or {}).get(JOB_TAG) == job_id)


def _json(body: dict[str, Any]) -> Any:
    """A body as the SDK's overloads take it."""
    return body


def problem_is_missing_place(error: ProviderError) -> bool:
    """Whether a launch failed because its group or subnet is gone."""
    reason = getattr(error, "reason", "")
    return reason in ("ResourceGroupNotFound", "InvalidResourceReference", "SubnetNotFound", "ResourceNotFound")
