"""Termination of instances and their disks.

Invariants, each with a test:

1. Only resources with the label of cloud-tasks are deleted.
2. When `terminate_instances` returns, no instance and no disk of the given names exists, whatever its state was.
3. Deletions run in parallel, and a failed one does not stop the others.
4. An instance whose zone is known is deleted there, without a listing; other zones need not answer.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any

import attrs
from google.cloud import compute_v1 as sdk

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin.kit import FanOut
from cloud_tasks_gcp.compute.clients import ANSWER_TIMEOUT, Clients, read_retry
from cloud_tasks_gcp.compute.compute_errors import translate_errors
from cloud_tasks_gcp.compute.labels import JOB_LABEL, job_filter
from cloud_tasks_gcp.compute.listing import Required, all_disks, all_instances, zone_disks
from cloud_tasks_gcp.compute.operations import operation_problem, wait_for_operation
from cloud_tasks_gcp.compute.to_model import last_part

__all__ = ["terminate_instances"]

_TIMEOUT = timedelta(minutes=5)
"""Time limit of a deletion: a guest may take 90 s to shut down ("Stop or restart a VM") before it."""
_MAX_PARALLEL = 16

_GONE_CODES = ("RESOURCE_NOT_FOUND", "NOT_FOUND")


@attrs.frozen(kw_only=True)
class _Resource:
    """An instance or disk to delete."""

    kind: str
    """``instance`` or ``disk``."""
    name: str
    zone: str
    is_listed: bool = True
    """Whether a listing of managed resources has shown it; otherwise its label is still to be checked."""


def terminate_instances(
    clients: Clients, project: str, names: Sequence[str], zone_of: Mapping[str, str], required: Required
) -> None:
    """Delete the managed instances of these names and their disks. Raise `ProviderError` when any may remain.

    Args:
        zone_of: Zones of instances, as far as they are known.
        required: Zones that have to answer where the zone of an instance is not known.
    """
    located = {name: zone_of[name] for name in names if name in zone_of}
    others = frozenset(names) - located.keys()
    in_zones = [_Resource(kind="instance", name=name, zone=zone, is_listed=False) for name, zone in located.items()]
    steps: list[Callable[[], None]] = [lambda: _delete_all(clients, project, in_zones)]
    # A boot disk outlives its instance when auto-delete was switched off or the instance was never created.
    for zone in sorted(set(located.values())):
        steps.append(lambda zone=zone: _delete_disks(clients, project, zone, located.keys()))  # type: ignore[misc]
    if others:
        steps.append(lambda: _terminate_listed(clients, project, others, required))
    _run_all(steps)


def _delete_disks(clients: Clients, project: str, zone: str, names: Collection[str]) -> None:
    disks = zone_disks(clients, project, zone, job_filter(None))
    _delete_all(clients, project, [_resource("disk", each) for each in disks if _belongs(each, names)])


def _terminate_listed(clients: Clients, project: str, names: frozenset[str], required: Required) -> None:
    managed = job_filter(None)
    instances, silent = all_instances(clients, project, managed, required)
    found = [each for each in instances if each.name in names]

    def delete_disks() -> None:
        disks, also_silent = all_disks(clients, project, managed, required)
        _delete_all(clients, project, [_resource("disk", each) for each in disks if _belongs(each, names)])
        unknown = sorted(names - {each.name for each in found})
        if unknown and (zones := silent | also_silent):
            problem = f"cannot find {', '.join(unknown)}: no answer from {', '.join(sorted(zones))}"
            raise ProviderError(problem, transient=True)

    _run_all([lambda: _delete_all(clients, project, [_resource("instance", each) for each in found]), delete_disks])


def _run_all(steps: Iterable[Callable[[], None]]) -> None:
    """Run all steps, then raise the first error."""
    problems = []
    for step in steps:
        try:
            step()
        except ProviderError as error:
            problems.append(error)
    if problems:
        raise problems[0]


def _belongs(disk: sdk.Disk, names: Collection[str]) -> bool:
    return disk.name in names and not disk.users


def _resource(kind: str, resource: Any) -> _Resource:
    return _Resource(kind=kind, name=resource.name, zone=last_part(resource.zone))


def _delete_all(clients: Clients, project: str, resources: Iterable[_Resource]) -> None:
    """Start all deletions, then wait for them: the total time is about that of the slowest."""
    resources = tuple(resources)
    with closing(FanOut(_MAX_PARALLEL, "gcp-delete")) as fan_out:
        started = fan_out.outcomes(lambda resource: _start_deletion(clients, project, resource), resources)
        operations = [
            (resource, each)
            for resource, each in zip(resources, started, strict=True)
            if isinstance(each, sdk.Operation)
        ]
        ended = fan_out.outcomes(lambda pair: _await_deletion(clients, project, *pair), operations)
    problems = [result for result in (*started, *ended) if isinstance(result, ProviderError)]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        transient = any(problem.transient for problem in problems)
        raise ProviderError(f"{problems[0].message}{more}", transient=transient, hint=problems[0].hint) from problems[0]


def _start_deletion(clients: Clients, project: str, resource: _Resource) -> sdk.Operation | None:
    """Start the deletion; return None when the resource does not exist."""
    # A new request id per attempt: a repeated id returns the failed operation.
    request_id = str(uuid.uuid4())
    try:
        with clients.acquire() as one, translate_errors(f"delete the {resource.kind} {resource.name}"):
            if resource.kind == "disk":
                disk = sdk.DeleteDiskRequest(
                    project=project, zone=resource.zone, disk=resource.name, request_id=request_id
                )
                return one.disks.delete_unary(request=disk, timeout=ANSWER_TIMEOUT)
            if not resource.is_listed:
                found = one.instances.get(
                    project=project,
                    zone=resource.zone,
                    instance=resource.name,
                    retry=read_retry(),
                    timeout=ANSWER_TIMEOUT,
                )
                if JOB_LABEL not in found.labels:
                    return None
            instance = sdk.DeleteInstanceRequest(
                project=project, zone=resource.zone, instance=resource.name, request_id=request_id
            )
            return one.instances.delete_unary(request=instance, timeout=ANSWER_TIMEOUT)
    except NotFoundError:
        return None


def _await_deletion(clients: Clients, project: str, resource: _Resource, operation: sdk.Operation) -> None:
    """Wait for a deletion. Raise `ProviderError` when it failed."""
    what = f"delete the {resource.kind} {resource.name}"
    with clients.acquire() as one:
        done = wait_for_operation(one, operation, project=project, zone=resource.zone, what=what, timeout=_TIMEOUT)
    problem = operation_problem(done)
    if problem is not None and problem.code not in _GONE_CODES:
        raise ProviderError(f"cannot {what}: {problem.text}", transient=True)
