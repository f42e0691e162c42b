"""Conversion of EC2's descriptions of instances."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from cloud_tasks.model import Instance, InstanceState, ProvisioningModel
from cloud_tasks_aws.compute.tags import DISK_TAG, JOB_TAG, TOKEN_TAG, labels_of

__all__ = ["STATES", "instances_in", "to_instance"]

STATES = {
    "pending": InstanceState.STARTING,
    "running": InstanceState.RUNNING,
    "shutting-down": InstanceState.STOPPING,
    "stopping": InstanceState.STOPPING,
    "stopped": InstanceState.STOPPED,
    "terminated": InstanceState.TERMINATED,
}
"""As in "Amazon EC2 instance state changes" of the EC2 user guide."""
_STARTED = (InstanceState.STARTING, InstanceState.RUNNING)
_TIME = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) GMT\)")


def instances_in(page: Mapping[str, Any]) -> Iterator[Instance]:
    """Yield the instances of one page of `DescribeInstances`; a page without the field is none, and raises."""
    for reservation in page["Reservations"]:
        for description in reservation["Instances"]:
            yield to_instance(description)


def to_instance(description: Mapping[str, Any]) -> Instance:
    """Return the `Instance` of EC2's description; ``job_id`` is empty if it is unmanaged."""
    tags = {pair["Key"]: pair["Value"] for pair in description.get("Tags", ())}
    state = STATES.get(description["State"]["Name"], InstanceState.RUNNING)
    # The time of the last launch: the only one, unless a user stopped and started the instance.
    launched_at = description["LaunchTime"]
    launched_at = launched_at if launched_at.tzinfo is not None else launched_at.replace(tzinfo=UTC)
    return Instance(
        instance_id=description["InstanceId"],
        job_id=tags.get(JOB_TAG, ""),
        state=state,
        instance_type=description["InstanceType"],
        zone=description["Placement"]["AvailabilityZone"],
        provisioning_model=ProvisioningModel.SPOT
        if description.get("InstanceLifecycle") == "spot"
        else ProvisioningModel.ON_DEMAND,
        created_at=launched_at,
        client_token=tags.get(TOKEN_TAG) or description.get("ClientToken", ""),
        boot_disk_type=tags.get(DISK_TAG, ""),
        labels=labels_of(tags),
        address=description.get("PublicIpAddress") or description.get("PrivateIpAddress") or "",
        started_at=launched_at,
        ended_at=_ended_at(description, launched_at) if state is InstanceState.TERMINATED else None,
        reason=_reason(description) if state not in _STARTED else "",
    )


def _ended_at(description: Mapping[str, Any], launched_at: datetime) -> datetime | None:
    """Return the time in ``User initiated (2026-11-30 07:12:45 GMT)``; None without one."""
    found = _TIME.search(description.get("StateTransitionReason") or "")
    if found is None:
        return None
    try:
        return max(datetime.fromisoformat(found[1]).replace(tzinfo=UTC), launched_at)
    except ValueError:
        return None


def _reason(description: Mapping[str, Any]) -> str:
    """Return the message, such as ``Client.UserInitiatedShutdown: User initiated shutdown``, in one line."""
    reason = description.get("StateReason") or {}
    text = reason.get("Message") or reason.get("Code") or description.get("StateTransitionReason") or ""
    return " ".join(text.split())
