"""Conversion of Resource Manager's VMs. Pure.

Invariant, with a test: a VM that may be billed is never converted to a terminated instance.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from cloud_tasks.model import Instance, InstanceState, ProvisioningModel
from cloud_tasks_azure.compute.tags import DISK_TAG, JOB_TAG, TOKEN_TAG, own_tags
from cloud_tasks_azure.compute.zones import location_name, zone_name

__all__ = ["VmStatus", "group_of", "status_of", "to_instance"]

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
_GROUP = re.compile(r"/resourceGroups/(?P<group>[^/]+)/", re.IGNORECASE)


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


def to_instance(vm: Any, status: VmStatus = _UNKNOWN) -> Instance:
    """Return the `Instance` of a VM; ``job_id`` is empty if it is unmanaged."""
    tags = dict(vm.tags or {})
    job_id = tags.get(JOB_TAG, "")
    properties = vm.properties
    numbers = vm.zones or []
    has_size = properties is not None and properties.hardware_profile is not None
    size = properties.hardware_profile.vm_size if has_size else ""
    priority = _text(properties.priority) if properties is not None else ""
    state = _state(_text(properties.provisioning_state) if properties is not None else "", status.power)
    created_at = (properties.time_created if properties is not None else None) or datetime.now(UTC)
    since = status.running_since if state is InstanceState.RUNNING else None
    return Instance(
        instance_id=str(vm.name),
        job_id=job_id,
        state=state,
        instance_type=_text(size),
        zone=zone_name(location_name(vm.location or ""), numbers[0] if numbers else None),
        provisioning_model=ProvisioningModel.SPOT if priority in ("Spot", "Low") else ProvisioningModel.ON_DEMAND,
        created_at=created_at,
        client_token=tags.get(TOKEN_TAG, ""),
        boot_disk_type=tags.get(DISK_TAG, ""),
        labels=own_tags(tags) if job_id else tags,
        started_at=None if since is None else max(since, created_at),
        reason=status.problem if state is InstanceState.STOPPED else "",
    )


def _state(provisioning: str, power: str) -> InstanceState:
    if provisioning.lower() == "deleting":
        return InstanceState.STOPPING
    if power:
        return _POWER.get(power.lower(), InstanceState.RUNNING)
    return _PROVISIONING.get(provisioning.lower(), InstanceState.RUNNING)


def status_of(vm: Any) -> VmStatus:
    """Return the status of a VM; an empty one if the VM was read without its instance view."""
    properties = vm.properties
    view = properties.instance_view if properties is not None else None
    power, problem = "", ""
    times: dict[str, datetime | None] = {}
    for status in (view.statuses if view is not None else None) or ():
        code = str(status.code or "")
        kind, _, value = code.partition("/")
        if kind == "PowerState" and not power:
            power = value
        if _text(status.level) == "Error" and not problem:
            problem = " ".join(f"{code}: {status.message}".split()) if status.message else code
        times.setdefault(code.lower(), status.time)
    since = times.get("powerstate/running") or times.get("provisioningstate/succeeded")
    return VmStatus(power=power, running_since=since, problem=problem)


def group_of(resource_id: str) -> str:
    """Return the resource group of a resource id."""
    match = _GROUP.search(resource_id)
    return match["group"] if match is not None else ""


def _text(value: Any) -> str:
    return str(getattr(value, "value", value) or "")
