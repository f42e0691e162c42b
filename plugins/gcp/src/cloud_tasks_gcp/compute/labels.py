"""The names and labels of our instances: whose they are is written there, and nowhere else.

Invariants, each with a test:

1. A name is made of the job and the whole client token, so that one token names one instance.
2. A label is one that the API takes, whatever it was made from ("Organize resources using labels": keys and values of
   at most 63 lower-case letters, digits, dashes and underscores).
3. What is read back has the keys that were given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cloud_tasks.model import LaunchRequest

__all__ = [
    "DISK_LABEL",
    "JOB_LABEL",
    "TOKEN_LABEL",
    "instance_name",
    "job_filter",
    "label_value",
    "labels_of",
    "own_labels",
]

_PREFIX = "cloud-tasks-"
JOB_LABEL = f"{_PREFIX}job"
TOKEN_LABEL = f"{_PREFIX}token"
DISK_LABEL = f"{_PREFIX}boot-disk"
"""The boot disk's type, which the API does not tell of an instance that exists."""

_NAME_LENGTH = 63
_LABEL_LENGTH = 63
_NOT_ALLOWED = re.compile(r"[^a-z0-9_-]")


def instance_name(request: LaunchRequest) -> str:
    """``ct-<job>-<token>``, cut in the job where it would be too long for a name (63 characters)."""
    token = request.client_token
    job = re.sub(r"[^a-z0-9-]", "-", request.job_id.lower())[: _NAME_LENGTH - len(token) - 4].strip("-") or "job"
    return f"ct-{job}-{token}"


def label_value(text: str) -> str:
    """The text as a label's value: equal texts give equal values."""
    return _NOT_ALLOWED.sub("-", text.lower())[:_LABEL_LENGTH]


def labels_of(request: LaunchRequest) -> dict[str, str]:
    """All labels of the instance that a request asks for, and of its disks."""
    given = {f"{_PREFIX}{key}": value for key, value in request.labels.items()}
    labels = {**given, JOB_LABEL: request.job_id, TOKEN_LABEL: request.client_token}
    labels[DISK_LABEL] = request.offer.boot_disk.disk_type
    return {label_value(key): label_value(value) for key, value in labels.items()}


def own_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels of a listed instance under the keys that the launch request had."""
    return {key.removeprefix(_PREFIX): value for key, value in labels.items()}


def job_filter(job_id: str | None) -> str:
    """The API's filter for what belongs to a job, or to any job of this system."""
    return f"labels.{JOB_LABEL}:*" if job_id is None else f'labels.{JOB_LABEL}="{label_value(job_id)}"'
