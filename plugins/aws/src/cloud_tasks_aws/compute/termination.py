"""Termination of instances.

Invariants, each with a test:

1. Every known id is terminated despite unknown ids, and an error is raised if a known instance may still run.
2. An unmanaged instance is never terminated.
3. A call with an unknown id is repeated for some seconds: EC2 may not know an instance that was launched a moment ago
   ("Eventual consistency", EC2 developer guide).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Any

from botocore.exceptions import ClientError

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin.kit import batched
from cloud_tasks_aws.compute.compute_errors import ids_in, translate_errors
from cloud_tasks_aws.compute.retries import retry_call
from cloud_tasks_aws.compute.to_model import instances_in
from cloud_tasks_aws.errors import code_of

__all__ = ["is_instance_id", "terminate_instances"]

_BATCH = 100
"""Instances per `TerminateInstances` call: the API accepts more, but one invalid id fails the whole call."""
_ID = re.compile(r"i-[0-9a-f]{8,17}")


class _UnknownError(Exception):
    """EC2 does not know some of the instances."""


def is_instance_id(text: str) -> bool:
    """Return whether a text can be the id of an instance; EC2 rejects a whole call for another one."""
    return _ID.fullmatch(text) is not None


def terminate_instances(ec2: Any, instance_ids: Sequence[str]) -> None:
    """Terminate instances; those that EC2 does not know have ended long ago. Raises `ProviderError`."""
    unknown: list[str] = []
    problems: list[ProviderError] = []
    for batch in batched([each for each in dict.fromkeys(instance_ids) if is_instance_id(each)], most=_BATCH):
        try:
            with translate_errors("terminating instances"):
                unknown += _terminate(ec2, _without_unmanaged(ec2, batch))
        except ProviderError as error:
            problems.append(error)
    if unknown:
        with translate_errors("terminating instances"):
            _terminate_new(ec2, unknown)
    if problems:
        raise problems[0]


def _terminate(ec2: Any, ids: Sequence[str]) -> list[str]:
    """Terminate these instances, and return the unknown ones: EC2 rejects a call with one, and names it."""
    left, unknown = list(ids), list[str]()
    while left:
        try:
            # A response without this field is not EC2's.
            _ = ec2.terminate_instances(InstanceIds=left)["TerminatingInstances"]
            break
        except ClientError as error:
            if not code_of(error).startswith("InvalidInstanceID"):
                raise
            named = ids_in(error) & set(left)
            if not named and len(left) > 1:
                return unknown + [other for each in left for other in _terminate(ec2, [each])]
            unknown += named or left
            left = [each for each in left if each not in unknown]
    return unknown


def _terminate_new(ec2: Any, ids: Sequence[str]) -> None:
    left = list(ids)

    def terminate() -> None:
        nonlocal left
        left = _terminate(ec2, left)
        if left:
            raise _UnknownError

    with contextlib.suppress(_UnknownError):
        retry_call(terminate, retryable=lambda error: isinstance(error, _UnknownError))


def _without_unmanaged(ec2: Any, ids: Sequence[str]) -> Sequence[str]:
    """Return the ids without those of unmanaged instances; all where EC2 does not answer, or lists none yet.

    Ids come from the records of a job: that nothing of it is left is worth more than this check.
    """
    condition = [{"Name": "instance-id", "Values": list(ids)}]
    unmanaged: set[str] = set()
    with contextlib.suppress(ProviderError), translate_errors("listing instances to terminate"):
        pages = ec2.get_paginator("describe_instances").paginate(Filters=condition)
        unmanaged = {each.instance_id for page in pages for each in instances_in(page) if not each.job_id}
    return [each for each in ids if each not in unmanaged]
