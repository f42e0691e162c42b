"""Resource Manager's machines as the model's. Pure.

Invariant, with a test: a machine that may be billed is never described as terminated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cloud_tasks.model import Instance, InstanceState, Purchase
from cloud_tasks_azure.compute.tags import DISK_TAG, JOB_TAG, TOKEN_TAG, own_tags
from cloud_tasks_azure.compute.zones import location_name, zone_name

__all__ = ["described_instance", "group_of", "power_state"]

_POWER: Mapping[str, InstanceState] = {
    "creating": InstanceState.STARTING,
    "starting": InstanceState.STARTING,
    "running": InstanceState.RUNNING,
    "stopping": InstanceState.STOPPING,
    "deallocating": InstanceState.STOPPING,
    "deleting": InstanceState.STOPPING,
    # Stopped is billed in full, deallocated for its disk ("States and billing status of Azure Virtual Machines").
    "stopped": InstanceState.STOPPED,
    "deallocated": InstanceState.STOPPED,
}
_PROVISIONING: Mapping[str, InstanceState] = {
    "creating": InstanceState.STARTING,
    "deleting": InstanceState.STOPPING,
    # What could not be made is there all the same until somebody deletes it.
    "failed": InstanceState.STOPPED,
    "canceled": InstanceState.STOPPED,
}
_GROUP = re.compile(r"/resourceGroups/(?P<group>[^/]+)/", re.IGNORECASE)


def described_instance(machine: Any, power: str = "") -> Instance:
    """A listed machine; ``job_id`` is empty where it is not ours.

    Args:
        power: Its power state, e.g. ``running``; empty where that is not known.
    """
    tags = dict(machine.tags or {})
    job_id = tags.get(JOB_TAG, "")
    told = machine.properties
    numbers = machine.zones or []
    size = told.hardware_profile.vm_size if told is not None and told.hardware_profile is not None else ""
    priority = _text(told.priority) if told is not None else ""
    return Instance(
        instance_id=str(machine.name),
        job_id=job_id,
        state=_state(_text(told.provisioning_state) if told is not None else "", power),
        instance_type=_text(size),
        zone=zone_name(location_name(machine.location or ""), numbers[0] if numbers else None),
        purchase=Purchase.SPOT if priority in ("Spot", "Low") else Purchase.ON_DEMAND,
        created_at=(told.time_created if told is not None else None) or datetime.now(UTC),
        client_token=tags.get(TOKEN_TAG, ""),
        boot_disk_type=tags.get(DISK_TAG, ""),
        labels=own_tags(tags) if job_id else tags,
    )


def _state(provisioning: str, power: str) -> InstanceState:
    if provisioning.lower() == "deleting":
        return InstanceState.STOPPING
    if power:
        return _POWER.get(power.lower(), InstanceState.RUNNING)
    return _PROVISIONING.get(provisioning.lower(), InstanceState.RUNNING)


def power_state(machine: Any) -> str:
    """``running`` of the status ``PowerState/running`` of a machine that was read with its status; else empty."""
    told = machine.properties
    view = told.instance_view if told is not None else None
    for status in (view.statuses if view is not None else None) or ():
        kind, _, value = str(status.code or "").partition("/")
        if kind == "PowerState":
            return value
    return ""


def group_of(resource_id: str) -> str:
    """The resource group that an id names."""
    match = _GROUP.search(resource_id)
    return match["group"] if match is not None else ""


def _text(value: Any) -> str:
    return str(getattr(value, "value", value) or "")
