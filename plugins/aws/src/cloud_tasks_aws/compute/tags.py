"""Tags of managed instances and of the resources created with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cloud_tasks.model import LaunchRequest
from cloud_tasks_aws.compute.disks import DEFAULT_DISK_TYPE

__all__ = ["DISK_TAG", "JOB_TAG", "TOKEN_TAG", "labels_of", "shared_tags", "tags_of"]

_PREFIX = "cloud-tasks-"
JOB_TAG = f"{_PREFIX}job"
"""Tag of every managed instance; its value is the job id."""
DISK_TAG = f"{_PREFIX}boot-disk"
TOKEN_TAG = f"{_PREFIX}token"
"""Client token of the launch request; the ``ClientToken`` of a fleet's instance is EC2's own."""


def tags_of(request: LaunchRequest, further: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the tags of an instance and of the resources created with it, the configured ones included."""
    values = {
        "Name": f"cloud-tasks {request.job_id}",
        **further,
        JOB_TAG: request.job_id,
        DISK_TAG: request.offer.boot_disk.disk_type or DEFAULT_DISK_TYPE,
        TOKEN_TAG: request.client_token,
        **{f"{_PREFIX}{name}": value for name, value in request.labels.items()},
    }
    return [{"Key": name, "Value": value} for name, value in values.items()]


def labels_of(tags: dict[str, str]) -> dict[str, str]:
    """Return the labels of the launch request from the tags of an instance."""
    return {
        name.removeprefix(_PREFIX): value
        for name, value in tags.items()
        if name.startswith(_PREFIX) and name not in (JOB_TAG, DISK_TAG, TOKEN_TAG)
    }


def shared_tags(tags: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return the tags that all launches of a job have in common: without client token and labels."""
    return [dict(each) for each in tags if each["Key"] in (JOB_TAG, DISK_TAG) or not each["Key"].startswith(_PREFIX)]
