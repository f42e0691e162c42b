"""Resource group and network of a job's instances, unless the settings name a subnet.

Both are created at the first launch in a location, cost nothing, carry the job's tag, and are deleted by the process
that terminates the last instance. Instances reach the internet by the subnet's default outbound access or a NAT
gateway, without a public address; inbound connections are blocked: the security group has the default rules only
("Azure network security groups overview").

Invariants, each with a test:

1. Concurrent launches create one group and one network.
2. A group is deleted only if cloud-tasks created it for this job and it contains nothing else; a group or subnet of the
   settings is never changed.
3. Nothing is deleted while an instance of the job exists. Then nothing of the job is left: no network, disk, interface
   or address.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import attrs
import structlog

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_azure.compute.arm import NETWORK, RESOURCES, Arm
from cloud_tasks_azure.compute.compute_errors import translate_errors
from cloud_tasks_azure.compute.listing import list_vms, tag_of
from cloud_tasks_azure.compute.tags import JOB_TAG, group_name, network_name
from cloud_tasks_azure.compute.terminate import delete_now, delete_parts
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["Networks", "Place", "is_missing_placement"]

log = structlog.get_logger()

_TIMEOUT = timedelta(minutes=5)
_SUBNET = "workers"
_ADDRESSES = "10.0.0.0/16"
_EXTENSIONS = "microsoft.compute/virtualmachines/extensions"


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

    def __init__(self, arm: Arm, settings: AzureSettings) -> None:
        self._arm = arm
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
        name = self.group(job_id)
        group = f"/subscriptions/{self._arm.subscription}/resourceGroups/{name}"
        tags = {**self._settings.tags, JOB_TAG: job_id}
        if self._settings.resource_group is None:
            with translate_errors(f"create the resource group {name}", launching=True, shared=True):
                # The location of an existing group cannot be changed.
                if not self._arm.exists(group, RESOURCES):
                    self._arm.put(group, RESOURCES, {"location": location, "tags": tags})
        if self._settings.subnet is not None:
            return Place(group=name, subnet=self._settings.subnet, security_group=self._settings.security_group)
        network = f"{group}/providers/Microsoft.Network/virtualNetworks/{network_name(job_id, location)}"
        rules = network.replace("virtualNetworks", "networkSecurityGroups") + "-nsg"
        subnet = {
            "addressPrefix": _ADDRESSES,
            "networkSecurityGroup": {"id": rules},
            # Required by VMs without a public address ("Default outbound access in Azure").
            "defaultOutboundAccess": self._settings.nat_gateway is None,
        }
        if self._settings.nat_gateway is not None:
            subnet["natGateway"] = {"id": self._settings.nat_gateway}
        space = {
            "addressSpace": {"addressPrefixes": [_ADDRESSES]},
            "subnets": [{"name": _SUBNET, "properties": subnet}],
        }
        for path, properties in ((rules, {"securityRules": []}), (network, space)):
            with translate_errors(f"create the network {path.rpartition('/')[2]}", launching=True, shared=True):
                body = {"location": location, "tags": tags, "properties": properties}
                self._arm.wait(self._arm.operation(self._arm.put(path, NETWORK, body)), timeout=_TIMEOUT)
        return Place(group=name, subnet=f"{network}/subnets/{_SUBNET}", security_group=rules)

    # -- deletion --

    def remove_unused(self, job_id: str) -> None:
        """Delete the group and network of a job unless an instance of it exists. Raises `ProviderError`."""
        if list_vms(self._arm, job_id):
            return
        self.forget(job_id)
        group = self.group(job_id)
        if self._settings.resource_group is None and self._is_ours(group, job_id):
            try:
                with translate_errors(f"delete the resource group {group}"):
                    # The deletion takes minutes and nothing is billed: it completes in the background.
                    self._arm.delete(f"/resourceGroups/{group}", RESOURCES)
            except NotFoundError:
                return
            log.debug("Resource group is being deleted", group=group)
            return
        delete_parts(self._arm, job_id=job_id)
        if self._settings.resource_group is not None and self._settings.subnet is None:
            self._remove_networks(self._settings.resource_group, job_id)

    def _is_ours(self, group: str, job_id: str) -> bool:
        """Return whether a group was created for the job and contains only its resources."""
        try:
            with translate_errors(f"read the resource group {group}"):
                if tag_of(self._arm.get(f"/resourceGroups/{group}", RESOURCES), JOB_TAG) != job_id:
                    return False
            others = [str(each["name"]) for each in self._resources(group) if not _belongs(each, job_id)]
        except NotFoundError:
            return False
        if others:
            log.warning(f"Keeping the resource group {group}: it contains resources of others: {', '.join(others[:3])}")
        return not others

    def _remove_networks(self, group: str, job_id: str) -> None:
        found = [each for each in self._resources(group) if tag_of(each, JOB_TAG) == job_id]
        for kind in ("microsoft.network/virtualnetworks", "microsoft.network/networksecuritygroups"):
            delete_now(self._arm, [str(each["id"]) for each in found if str(each["type"]).lower() == kind])

    def _resources(self, group: str) -> list[dict[str, Any]]:
        with translate_errors(f"list the resource group {group}"):
            return self._arm.entries(f"/resourceGroups/{group}/resources", RESOURCES)


def _belongs(resource: dict[str, Any], job_id: str) -> bool:
    """Return whether a resource is the job's, or an extension that a policy of the organization added to a VM."""
    return tag_of(resource, JOB_TAG) == job_id or str(resource["type"]).lower() == _EXTENSIONS


def is_missing_placement(error: ProviderError) -> bool:
    """Return whether a launch failed because its group or subnet does not exist."""
    reason = getattr(error, "reason", "")
    return reason in ("ResourceGroupNotFound", "InvalidResourceReference", "SubnetNotFound", "ResourceNotFound")
