"""The names and tags of what is ours: whose it is, is written there and nowhere else.

Invariants, each with a test:

1. A name is made of the job and the whole client token, so that one token names one machine, and its disk, network
   interface and address have names made from it.
2. What is read back has the keys and the values that were given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cloud_tasks.model import LaunchRequest

__all__ = [
    "DISK_TAG",
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
"""On a machine and on all its parts: the machine's name."""
DISK_TAG = f"{_PREFIX}boot-disk"

_NAME_LENGTH = 64
"""Of a Linux machine ("Naming rules and restrictions for Azure resources"); groups take 90, networks 64."""
_VALUE_LENGTH = 256
_KEY_LENGTH = 512
_NOT_IN_A_KEY = re.compile(r"[<>%&\\?/]")


def instance_name(request: LaunchRequest) -> str:
    """``ct-<job>-<token>``, cut in the job where it would be too long."""
    token = request.client_token
    return f"ct-{_plain(request.job_id, _NAME_LENGTH - len(token) - 4)}-{token}"


def disk_name(instance: str) -> str:
    return f"{instance}-disk"


def interface_name(instance: str) -> str:
    return f"{instance}-nic"


def address_name(instance: str) -> str:
    return f"{instance}-ip"


def group_name(job_id: str) -> str:
    """Of the resource group of a job."""
    return f"cloud-tasks-{_plain(job_id, 60)}"


def network_name(job_id: str, location: str) -> str:
    """Of a job's network, and of its security group, in one location."""
    return f"ct-{_plain(job_id, 30)}-{location}"


def _plain(text: str, length: int) -> str:
    return re.sub(r"[^a-z0-9-]", "-", text.lower())[:length].strip("-") or "job"


def tags_of(request: LaunchRequest) -> dict[str, str]:
    """All tags of the machine that a request asks for, and of its parts."""
    given = {f"{_PREFIX}{key}": value for key, value in request.labels.items()}
    own = {
        JOB_TAG: request.job_id,
        TOKEN_TAG: request.client_token,
        INSTANCE_TAG: instance_name(request),
        DISK_TAG: request.offer.boot_disk.disk_type,
    }
    return {_NOT_IN_A_KEY.sub("-", key)[:_KEY_LENGTH]: value[:_VALUE_LENGTH] for key, value in {**given, **own}.items()}


def own_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags of a listed machine under the keys that the launch request had."""
    return {key.removeprefix(_PREFIX): value for key, value in tags.items()}
