"""Filters of an instance listing.

Invariant, with a test: an instance without the job tag belongs to no job and is listed only on request.
"""

from __future__ import annotations

from typing import Any

from cloud_tasks.model import InstanceState
from cloud_tasks_aws.compute.tags import JOB_TAG
from cloud_tasks_aws.compute.to_model import STATES

__all__ = ["filters"]

_NOT_TERMINATED = [name for name, state in STATES.items() if state is not InstanceState.TERMINATED]


def filters(job_id: str | None, *, include_terminated: bool, foreign: bool) -> list[dict[str, Any]]:
    """Return the `DescribeInstances` filters of a listing; ``foreign`` includes unmanaged instances."""
    result: list[dict[str, Any]] = []
    if job_id is not None:
        result.append({"Name": f"tag:{JOB_TAG}", "Values": [_escape(job_id)]})
    elif not foreign:
        result.append({"Name": "tag-key", "Values": [JOB_TAG]})
    if not include_terminated:
        result.append({"Name": "instance-state-name", "Values": _NOT_TERMINATED})
    return result


def _escape(value: str) -> str:
    """Escape the wildcards of filter values."""
    return "".join(f"\\{letter}" if letter in "*?\\" else letter for letter in value)
