"""Names and tags of managed resources, which alone record the job that a resource belongs to.

Invariants, each with a test:

1. A VM's name contains the job and the whole client token, so that a token names one VM; the names of its disk, network
   interface and address are derived from it.
2. Two jobs never have one group or network.
3. Labels are read back with the keys and values that were set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cloud_tasks.model import LaunchRequest
from cloud_tasks.plugin.kit import safe_name

__all__ = [
    "DISK_TAG",
    "IMAGE_TAG",
    "INSTANCE_TAG",
    "JOB_TAG",
    "TOKEN_TAG",
    "address_name",
    "disk_name",
    "group_name",
    "instance_name",
    "interface_name",
    "network_name",
    "own_tags",
    "tags_of",
]

_PREFIX = "cloud-tasks-"
JOB_TAG = f"{_PREFIX}job"
TOKEN_TAG = f"{_PREFIX}token"
INSTANCE_TAG = f"{_PREFIX}instance"
"""Tag of a VM and of its resources: the VM's name."""
DISK_TAG = f"{_PREFIX}boot-disk"
IMAGE_TAG = f"{_PREFIX}image"
"""Tag of images and of what contains them."""

_NAME_LENGTH, _GROUP_LENGTH = 64, 90
"""Lengths of names of Linux VMs and networks, and of groups ("Naming rules and restrictions for Azure resources")."""
_VALUE_LENGTH = 256
_KEY_LENGTH = 512
_NOT_IN_A_KEY = re.compile(r"[<>%&\\?/]")


def instance_name(request: LaunchRequest) -> str:
    """Return ``ct-<job>-<token>``, with the job truncated if needed."""
    token = request.client_token
    return f"ct-{_plain(request.job_id, _NAME_LENGTH - len(token) - 4)}-{token}"


def disk_name(instance: str) -> str:
    return f"{instance}-disk"


def interface_name(instance: str) -> str:
    return f"{instance}-nic"


def address_name(instance: str) -> str:
    return f"{instance}-ip"


def group_name(job_id: str) -> str:
    """Return the name of a job's resource group."""
    return safe_name(f"{_PREFIX}{job_id}", allowed="a-z0-9-", longest=_GROUP_LENGTH)


def network_name(job_id: str, location: str) -> str:
    """Return the name of a job's network in one location; its security group's name starts with it."""
    return safe_name(f"ct-{job_id}-{location}", allowed="a-z0-9-", longest=_NAME_LENGTH - len("-nsg"))


def _plain(text: str, length: int) -> str:
    return re.sub(r"[^a-z0-9-]", "-", text.lower())[:length].strip("-") or "job"


def tags_of(request: LaunchRequest) -> dict[str, str]:
    """Return the tags of the requested VM and of its resources."""
    given = {f"{_PREFIX}{key}": value for key, value in request.labels.items()}
    own = {
        JOB_TAG: request.job_id,
        TOKEN_TAG: request.client_token,
        INSTANCE_TAG: instance_name(request),
        DISK_TAG: request.offer.boot_disk.disk_type,
    }
    return {_NOT_IN_A_KEY.sub("-", key)[:_KEY_LENGTH]: value[:_VALUE_LENGTH] for key, value in {**given, **own}.items()}


def own_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a listed VM under the keys of the launch request's labels."""
    return {key.removeprefix(_PREFIX): value for key, value in tags.items() if key.startswith(_PREFIX)}
