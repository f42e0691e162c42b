"""Names and labels of managed instances, the only record of who owns an instance.

Invariants, each with a test:

1. A name consists of the job and the whole client token, so one token names one instance.
2. A label is valid for the API, whatever text it comes from ("Organize resources using labels": keys and values of at
   most 63 lower-case letters, digits, dashes and underscores).
3. Labels of a listed instance have the keys of the launch request.
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
"""Type of the boot disk, which the API does not report for an existing instance."""

_NAME_LENGTH = 63
_LABEL_LENGTH = 63
_NOT_ALLOWED = re.compile(r"[^a-z0-9_-]")


def instance_name(request: LaunchRequest) -> str:
    """Return ``ct-<job>-<token>``; the job is truncated to keep the name within 63 characters."""
    token = request.client_token
    job = re.sub(r"[^a-z0-9-]", "-", request.job_id.lower())[: _NAME_LENGTH - len(token) - 4].strip("-") or "job"
    return f"ct-{job}-{token}"


def label_value(text: str) -> str:
    """Convert a text to a valid label value; equal texts give equal values."""
    return _NOT_ALLOWED.sub("-", text.lower())[:_LABEL_LENGTH]


def labels_of(request: LaunchRequest) -> dict[str, str]:
    """Return all labels of the requested instance and of its disks."""
    given = {f"{_PREFIX}{key}": value for key, value in request.labels.items()}
    labels = {**given, JOB_LABEL: request.job_id, TOKEN_LABEL: request.client_token}
    labels[DISK_LABEL] = request.offer.boot_disk.disk_type
    return {label_value(key): label_value(value) for key, value in labels.items()}


def own_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of a listed instance under the keys of the launch request."""
    return {key.removeprefix(_PREFIX): value for key, value in labels.items()}


def job_filter(job_id: str | None) -> str:
    """Return the API's filter for instances of a job; None for every managed instance."""
    return f"labels.{JOB_LABEL}:*" if job_id is None else f'labels.{JOB_LABEL}="{label_value(job_id)}"'
