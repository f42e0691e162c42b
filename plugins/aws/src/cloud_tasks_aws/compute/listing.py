"""Listing of instances: tags, filters, and conversion of EC2's descriptions.

Invariant, with a test: an instance without the job tag belongs to no job and is listed only on request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any

from cloud_tasks.model import Instance, InstanceState, LaunchRequest, Purchase
from cloud_tasks_aws.compute.disks import DEFAULT_DISK_TYPE

__all__ = ["JOB_TAG", "TOKEN_TAG", "filters", "instance", "instances_in", "tags"]

_PREFIX = "cloud-tasks-"
JOB_TAG = f"{_PREFIX}job"
"""Tag of every managed instance; its value is the job id."""
_DISK_TAG = f"{_PREFIX}boot-disk"
TOKEN_TAG = f"{_PREFIX}token"
"""Client token of the launch request; the ``ClientToken`` of a fleet's instance is EC2's own."""

_STATES = {
    "pending": InstanceState.STARTING,
    "running": InstanceState.RUNNING,
    "shutting-down": InstanceState.STOPPING,
    "stopping": InstanceState.STOPPING,
    "stopped": InstanceState.STOPPED,
    "terminated": InstanceState.TERMINATED,
}
"""As in "Amazon EC2 instance state changes" of the EC2 user guide."""
_LIVING = [name for name, state in _STATES.items() if state is not InstanceState.TERMINATED]


def tags(request: LaunchRequest) -> list[dict[str, str]]:
    """Return the tags of an instance and of the resources created with it."""
    values = {
        "Name": f"cloud-tasks {request.job_id}",
        JOB_TAG: request.job_id,
        _DISK_TAG: request.offer.boot_disk.disk_type or DEFAULT_DISK_TYPE,
        TOKEN_TAG: request.client_token,
        **{f"{_PREFIX}{name}": value for name, value in request.labels.items()},
    }
    return [{"Key": name, "Value": value} for name, value in values.items()]


def filters(job_id: str | None, *, include_terminated: bool, foreign: bool) -> list[dict[str, Any]]:
    """Return the `DescribeInstances` filters of a listing."""
    result: list[dict[str, Any]] = []
    if job_id is not None:
        result.append({"Name": f"tag:{JOB_TAG}", "Values": [_literal(job_id)]})
    elif not foreign:
        result.append({"Name": "tag-key", "Values": [JOB_TAG]})
    if not include_terminated:
        result.append({"Name": "instance-state-name", "Values": _LIVING})
    return result


def _literal(value: str) -> str:
    """Escape the wildcards of filter values."""
    return "".join(f"\\{letter}" if letter in "*?\\" else letter for letter in value)


def instances_in(page: Mapping[str, Any]) -> Iterator[Instance]:
    """Yield the instances of one page of `DescribeInstances`."""
    for reservation in page.get("Reservations", ()):
        for description in reservation.get("Instances", ()):
            yield instance(description)


def instance(description: Mapping[str, Any]) -> Instance:
    """Return the `Instance` of EC2's description."""
    by_name = _tags(description.get("Tags", ()))
    created = description["LaunchTime"]
    return Instance(
        instance_id=description["InstanceId"],
        job_id=by_name.get(JOB_TAG, ""),
        state=_STATES.get(description["State"]["Name"], InstanceState.RUNNING),
        instance_type=description["InstanceType"],
        zone=description["Placement"]["AvailabilityZone"],
        purchase=Purchase.SPOT if description.get("InstanceLifecycle") == "spot" else Purchase.ON_DEMAND,
        created_at=created if created.tzinfo is not None else created.replace(tzinfo=UTC),
        client_token=by_name.get(TOKEN_TAG) or description.get("ClientToken", ""),
        boot_disk_type=by_name.get(_DISK_TAG, ""),
        labels={
            name.removeprefix(_PREFIX): value
            for name, value in by_name.items()
            if name.startswith(_PREFIX) and name not in (JOB_TAG, _DISK_TAG, TOKEN_TAG)
        },
        address=description.get("PublicIpAddress") or description.get("PrivateIpAddress") or "",
    )


def _tags(pairs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {pair["Key"]: pair["Value"] for pair in pairs}
