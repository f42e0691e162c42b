"""The instances of this system: how they are marked, and how EC2's description of one is read.

Invariant, with a test: what carries no mark of ours is shown only to those who ask for foreign machines, and belongs to
no job.
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
"""The mark: whatever has this tag is ours, and its value says of which job."""
_DISK_TAG = f"{_PREFIX}boot-disk"
TOKEN_TAG = f"{_PREFIX}token"
"""The client token of the launch request: what EC2 itself shows of an instance of a fleet is another."""

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
    """The tags of an instance and of all that is made with it."""
    values = {
        "Name": f"cloud-tasks {request.job_id}",
        JOB_TAG: request.job_id,
        _DISK_TAG: request.offer.boot_disk.disk_type or DEFAULT_DISK_TYPE,
        TOKEN_TAG: request.client_token,
        **{f"{_PREFIX}{name}": value for name, value in request.labels.items()},
    }
    return [{"Key": name, "Value": value} for name, value in values.items()]


def filters(job_id: str | None, *, include_terminated: bool, foreign: bool) -> list[dict[str, Any]]:
    """The filters of `DescribeInstances` for a listing."""
    wanted: list[dict[str, Any]] = []
    if job_id is not None:
        wanted.append({"Name": f"tag:{JOB_TAG}", "Values": [_literal(job_id)]})
    elif not foreign:
        wanted.append({"Name": "tag-key", "Values": [JOB_TAG]})
    if not include_terminated:
        wanted.append({"Name": "instance-state-name", "Values": _LIVING})
    return wanted


def _literal(value: str) -> str:
    """Filter values have wildcards; a job id means itself."""
    return "".join(f"\\{letter}" if letter in "*?\\" else letter for letter in value)


def instances_in(page: Mapping[str, Any]) -> Iterator[Instance]:
    """The instances of one page of `DescribeInstances`."""
    for reservation in page.get("Reservations", ()):
        for description in reservation.get("Instances", ()):
            yield instance(description)


def instance(description: Mapping[str, Any]) -> Instance:
    """One instance, as EC2 describes it."""
    named = _tags(description.get("Tags", ()))
    created = description["LaunchTime"]
    return Instance(
        instance_id=description["InstanceId"],
        job_id=named.get(JOB_TAG, ""),
        state=_STATES.get(description["State"]["Name"], InstanceState.RUNNING),
        instance_type=description["InstanceType"],
        zone=description["Placement"]["AvailabilityZone"],
        purchase=Purchase.SPOT if description.get("InstanceLifecycle") == "spot" else Purchase.ON_DEMAND,
        created_at=created if created.tzinfo is not None else created.replace(tzinfo=UTC),
        client_token=named.get(TOKEN_TAG) or description.get("ClientToken", ""),
        boot_disk_type=named.get(_DISK_TAG, ""),
        labels={
            name.removeprefix(_PREFIX): value
            for name, value in named.items()
            if name.startswith(_PREFIX) and name not in (JOB_TAG, _DISK_TAG, TOKEN_TAG)
        },
        address=description.get("PublicIpAddress") or description.get("PrivateIpAddress") or "",
    )


def _tags(pairs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {pair["Key"]: pair["Value"] for pair in pairs}
