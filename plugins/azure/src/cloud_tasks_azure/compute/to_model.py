"""Conversion of Resource Manager's VMs. Pure.

Invariant, with a test: a VM that may be billed is never converted to a terminated instance.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
from azure.mgmt.core.tools import parse_resource_id

from cloud_tasks.model import Instance, InstanceState, ProvisioningModel
from cloud_tasks_azure.compute.tags import DISK_TAG, JOB_TAG, TOKEN_TAG, own_tags
from cloud_tasks_azure.compute.zones import location_name, zone_name

__all__ = [
    "VmStatus",
    "group_of",
    "leftover_instance",
    "provisioning_state",
    "status_of",
    "to_instance",
]

_POWER: Mapping[str, InstanceState] = {
    "creating": InstanceState.STARTING,
    "starting": InstanceState.STARTING,
    "running": InstanceState.RUNNING,
    "stopping": InstanceState.STOPPING,
    "deallocating": InstanceState.STOPPING,
    "deleting": InstanceState.STOPPING,
    # Stopped is billed in full, deallocated for the disk ("States and billing status of Azure Virtual Machines").
    "stopped": InstanceState.STOPPED,
    "deallocated": InstanceState.STOPPED,
}
_PROVISIONING: Mapping[str, InstanceState] = {
    "creating": InstanceState.STARTING,
    "deleting": InstanceState.STOPPING,
    # A VM whose creation failed exists until it is deleted.
    "failed": InstanceState.STOPPED,
    "canceled": InstanceState.STOPPED,
}


@attrs.frozen(kw_only=True)
class VmStatus:
    """What the instance view of a VM says."""

    power: str = ""
    """Power state, e.g. ``running``; empty if unknown."""
    running_since: datetime | None = None
    """Time of the status ``PowerState/running``, or else of the end of the provisioning."""
    problem: str = ""
    """Code and message of the first status with the level ``Error``, in one line."""


_UNKNOWN = VmStatus()


def to_instance(vm: Mapping[str, Any], status: VmStatus = _UNKNOWN) -> Instance:
    """Return the `Instance` of a VM; ``job_id`` is empty if it is unmanaged."""
    tags = {str(name): str(value) for name, value in (vm.get("tags") or {}).items()}
    job_id = tags.get(JOB_TAG, "")
    properties = vm.get("properties") or {}
    numbers = vm.get("zones") or [None]
    state = _state(str(properties.get("provisioningState") or ""), status.power)
    created_at = _time(properties.get("timeCreated")) or datetime.now(UTC)
    since = status.running_since if state is InstanceState.RUNNING else None
    is_spot = properties.get("priority") in ("Spot", "Low")
    return Instance(
        instance_id=str(vm["name"]),
        job_id=job_id,
        state=state,
        instance_type=str((properties.get("hardwareProfile") or {}).get("vmSize") or ""),
        zone=zone_name(location_name(str(vm.get("location") or "")), numbers[0]),
        provisioning_model=ProvisioningModel.SPOT if is_spot else ProvisioningModel.ON_DEMAND,
        created_at=created_at,
        client_token=tags.get(TOKEN_TAG, ""),
        boot_disk_type=tags.get(DISK_TAG, ""),
        labels=own_tags(tags) if job_id else tags,
        started_at=None if since is None else max(since, created_at),
        reason=status.problem if state is InstanceState.STOPPED else "",
    )


def leftover_instance(name: str, parts: Sequence[Mapping[str, Any]]) -> Instance:
    """Return the `Instance` of a VM that is gone, of which disk, interface or address are left."""
    tags = {str(key): str(value) for part in parts for key, value in (part.get("tags") or {}).items()}
    zones = [zone for part in parts for zone in part.get("zones") or ()]
    times = [_time((part.get("properties") or {}).get("timeCreated")) for part in parts]
    return Instance(
        instance_id=name,
        job_id=tags.get(JOB_TAG, ""),
        state=InstanceState.STOPPED,
        instance_type="",
        zone=zone_name(location_name(str(parts[0].get("location") or "")), zones[0] if zones else None),
        provisioning_model=ProvisioningModel.ON_DEMAND,
        # Interfaces and addresses have no time.
        created_at=min((time for time in times if time is not None), default=datetime.now(UTC)),
        client_token=tags.get(TOKEN_TAG, ""),
        boot_disk_type=tags.get(DISK_TAG, ""),
        labels=own_tags(tags),
        reason=f"the VM is gone; left: {', '.join(sorted(_part(each) for each in parts))}",
    )


def _part(resource: Mapping[str, Any]) -> str:
    kind = str(resource["id"]).split("/")[-2].lower()
    return {"disks": "disk", "networkinterfaces": "interface"}.get(kind, "address")


def provisioning_state(vm: Mapping[str, Any]) -> str:
    """Return the state of a VM's latest change in lower case: ``creating``."""
    return str((vm.get("properties") or {}).get("provisioningState") or "").lower()


def _state(provisioning: str, power: str) -> InstanceState:
    if provisioning.lower() == "deleting":
        return InstanceState.STOPPING
    if power:
        return _POWER.get(power.lower(), InstanceState.RUNNING)
    return _PROVISIONING.get(provisioning.lower(), InstanceState.RUNNING)


def status_of(vm: Mapping[str, Any]) -> VmStatus:
    """Return the status of a VM; an empty one if the VM was read without its instance view."""
    view = (vm.get("properties") or {}).get("instanceView") or {}
    power, problem = "", ""
    times: dict[str, datetime | None] = {}
    for status in view.get("statuses") or ():
        code, message = str(status.get("code") or ""), str(status.get("message") or "")
        kind, _, value = code.partition("/")
        if kind == "PowerState" and not power:
            power = value
        if status.get("level") == "Error" and not problem:
            problem = " ".join(f"{code}: {message}".split()) if message else code
        times.setdefault(code.lower(), _time(status.get("time")))
    since = times.get("powerstate/running") or times.get("provisioningstate/succeeded")
    return VmStatus(power=power, running_since=since, problem=problem)


def group_of(resource_id: str) -> str:
    """Return the resource group of a resource id."""
    return str(parse_resource_id(resource_id).get("resource_group", ""))


def _time(text: Any) -> datetime | None:
    """Return a time of the API, which has up to seven decimal places."""
    try:
        found = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", str(text or "")))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
