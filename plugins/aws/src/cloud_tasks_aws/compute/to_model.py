"""Conversion of EC2's descriptions of instances."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC
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


def instances_in(page: Mapping[str, Any]) -> Iterator[Instance]:
    """Yield the instances of one page of `DescribeInstances`."""
    for reservation in page.get("Reservations", ()):
        for description in reservation.get("Instances", ()):
            yield to_instance(description)


def to_instance(description: Mapping[str, Any]) -> Instance:
    """Return the `Instance` of EC2's description; ``job_id`` is empty if it is unmanaged."""
    tags = {pair["Key"]: pair["Value"] for pair in description.get("Tags", ())}
    created = description["LaunchTime"]
    return Instance(
        instance_id=description["InstanceId"],
        job_id=tags.get(JOB_TAG, ""),
        state=STATES.get(description["State"]["Name"], InstanceState.RUNNING),
        instance_type=description["InstanceType"],
        zone=description["Placement"]["AvailabilityZone"],
        provisioning_model=ProvisioningModel.SPOT
        if description.get("InstanceLifecycle") == "spot"
        else ProvisioningModel.ON_DEMAND,
        created_at=created if created.tzinfo is not None else created.replace(tzinfo=UTC),
        client_token=tags.get(TOKEN_TAG) or description.get("ClientToken", ""),
        boot_disk_type=tags.get(DISK_TAG, ""),
        labels=labels_of(tags),
        address=description.get("PublicIpAddress") or description.get("PrivateIpAddress") or "",
    )
