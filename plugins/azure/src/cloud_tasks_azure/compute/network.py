"""Resource group and network of a job's instances, unless the settings name a subnet.

Both are created at the first launch in a location, cost nothing, carry the job's tag, and are deleted by the process
that terminates the last instance. Instances reach the internet by the subnet's default outbound access, without a
public address; inbound connections are blocked: the security group has the default rules only ("Azure network security
groups overview").

Invariants, each with a test:

1. Concurrent launches create one group and one network.
2. A group is deleted only if cloud-tasks created it for this job and it contains nothing else; a group or subnet of the
   settings is never changed.
3. Nothing is deleted while an instance of the job exists.
"""

from __future__ import annotations

import threading
from typing import Any

import attrs
import structlog

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_azure.compute.clients import Clients
from cloud_tasks_azure.compute.compute_errors import translate_errors
from cloud_tasks_azure.compute.listing import list_vms
from cloud_tasks_azure.compute.tags import JOB_TAG, group_name, network_name
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["Networks", "Place", "is_missing_placement"]

log = structlog.get_logger()

_SUBNET = "workers"
_ADDRESSES = "10.0.0.0/16"


@attrs.frozen(kw_only=True)
class Place:
    """Resource group, subnet and security group of a new VM."""

    group: str
    subnet: str
    """Resource id."""
    security_group: str | None
    """Resource id; None: the subnet's security group."""


class Networks:
    """Resource groups and networks of one backend. Thread-safe."""

    def __init__(self, clients: Clients, settings: AzureSettings) -> None:
        self._clients = clients
        self._settings = settings
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._places: dict[tuple[str, str], Place] = {}

    def group(self, job_id: str) -> str:
        """Return the resource group of a job's instances."""
        return self._settings.resource_group or group_name(job_id)

    def place(self, job_id: str, location: str) -> Place:
        """Return the placement of a new VM; missing resources are created. Raises `ProviderError`."""
        with self._lock:
            lock = self._locks.setdefault(job_id, threading.Lock())
        with lock:
            known = self._places.get((job_id, location))
            if known is None:
                known = self._places[job_id, location] = self._create(job_id, location)
            return known

    def forget(self, job_id: str) -> None:
        """Drop the cache of a job after Azure reported a missing resource."""
        with self._lock:
            for key in [key for key in self._places if key[0] == job_id]:
                del self._places[key]

    def _create(self, job_id: str, location: str) -> Place:
        group, tags = self.group(job_id), {JOB_TAG: job_id}
        if self._settings.resource_group is None:
            with translate_errors(f"create the resource group {group}", launching=True):
                self._create_group(group, location, tags)
        if self._settings.subnet is not None:
            return Place(group=group, subnet=self._settings.subnet, security_group=self._settings.security_group)
        name = network_name(job_id, location)
        network = self._clients.network
        with translate_errors(f"create the network {name}", launching=True):
            security_group = network.network_security_groups.begin_create_or_update(
                group, f"{name}-nsg", _json({"location": location, "tags": tags, "properties": {"securityRules": []}})
            ).result()
            subnet = {
                "name": _SUBNET,
                "properties": {
                    "addressPrefix": _ADDRESSES,
                    "networkSecurityGroup": {"id": security_group.id},
                    # Required by VMs without a public address ("Default outbound access in Azure").
                    "defaultOutboundAccess": True,
                },
            }
            space = {"addressSpace": {"addressPrefixes": [_ADDRESSES]}, "subnets": [subnet]}
            created = network.virtual_networks.begin_create_or_update(
                group, name, _json({"location": location, "tags": tags, "properties": space})
            ).result()
        subnet_id = f"{created.id}/subnets/{_SUBNET}"
        return Place(group=group, subnet=subnet_id, security_group=str(security_group.id))

    def _create_group(self, group: str, location: str, tags: dict[str, str]) -> None:
        groups = self._clients.resources.resource_groups
        # The location of an existing group cannot be changed.
        if not groups.check_existence(group):
            groups.create_or_update(group, _json({"location": location, "tags": tags}))

    # -- deletion --

    def remove_unused(self, job_id: str) -> None:
        """Delete the group and network of a job unless an instance of it exists. Raises `ProviderError`."""
        if list_vms(self._clients, job_id):
            return
        self.forget(job_id)
        if self._settings.resource_group is None and self._is_ours(group_name(job_id), job_id):
            group = group_name(job_id)
            try:
                with translate_errors(f"delete the resource group {group}"):
                    # The deletion takes minutes and nothing is billed: it completes in the background.
                    self._clients.resources.resource_groups.begin_delete(group, polling=False)
            except NotFoundError:
                return
            log.debug("Resource group is being deleted", group=group)
        elif self._settings.resource_group is not None and self._settings.subnet is None:
            self._remove_networks(self._settings.resource_group, job_id)

    def _is_ours(self, group: str, job_id: str) -> bool:
        """Return whether a group was created for the job and contains only its resources."""
        resources = self._clients.resources
        try:
            with translate_errors(f"read the resource group {group}"):
                found = resources.resource_groups.get(group)
                if (found.tags or {}).get(JOB_TAG) != job_id:
                    return False
                others = [str(r.name) for r in resources.resources.list_by_resource_group(group) if not _of(r, job_id)]
        except NotFoundError:
            return False
        if others:
            log.warning(f"Keeping the resource group {group}: it contains resources of others: {', '.join(others[:3])}")
        return not others

    def _remove_networks(self, group: str, job_id: str) -> None:
        with translate_errors(f"list the resource group {group}"):
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
                with translate_errors(f"delete the network {name}"):
                    pollers.append(delete(group, name))
            for poller in pollers:
                with translate_errors("delete a network"):
                    poller.result()


def _of(resource: Any, job_id: str) -> bool:
    return bool((resource.tags or {}).get(JOB_TAG) == job_id)


def _json(body: dict[str, Any]) -> Any:
    """Return the body, typed for the SDK's overloads."""
    return body


def is_missing_placement(error: ProviderError) -> bool:
    """Return whether a launch failed because its group or subnet does not exist."""
    reason = getattr(error, "reason", "")
    return reason in ("ResourceGroupNotFound", "InvalidResourceReference", "SubnetNotFound", "ResourceNotFound")
