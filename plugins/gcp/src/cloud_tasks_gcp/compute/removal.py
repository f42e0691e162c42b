"""Ends instances with all that is theirs.

Invariants, each with a test:

1. Only what carries this system's label is ever deleted.
2. When `remove` returns, no instance and no disk of those names is left, whatever state they were in.
3. Deletions run side by side, and one that fails does not keep the others from being carried out.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, TypeVar

import attrs
from google.cloud import compute_v1 as sdk

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_gcp.compute.clients import ANSWER_TIMEOUT, Clients
from cloud_tasks_gcp.compute.describe import last_part
from cloud_tasks_gcp.compute.failures import mapped
from cloud_tasks_gcp.compute.labels import job_filter
from cloud_tasks_gcp.compute.listing import all_disks, all_instances
from cloud_tasks_gcp.compute.operations import finished, operation_problem

__all__ = ["remove"]

_PATIENCE = timedelta(minutes=5)
"""A guest may take 90 s to shut down ("Stop or restart a VM"); the deletion follows."""
_AT_ONCE = 16

_T = TypeVar("_T")

_GONE_CODES = ("RESOURCE_NOT_FOUND", "NOT_FOUND")


@attrs.frozen(kw_only=True)
class _Victim:
    """One resource to delete."""

    kind: str
    """``instance`` or ``disk``."""
    name: str
    zone: str


def remove(clients: Clients, project: str, names: Sequence[str]) -> None:
    """Delete the instances of these names that are ours, and their disks. Raises when any may remain."""
    wanted = frozenset(names)
    if not wanted:
        return
    ours = job_filter(None)
    instances = [each for each in all_instances(clients, project, ours) if each.name in wanted]
    _delete_all(clients, project, [_victim("instance", each) for each in instances])
    # A boot disk goes with its instance, unless somebody told it not to, or the instance never came to be.
    disks = [each for each in all_disks(clients, project, ours) if _belongs(each, wanted)]
    _delete_all(clients, project, [_victim("disk", each) for each in disks])


def _belongs(disk: sdk.Disk, names: frozenset[str]) -> bool:
    return disk.name in names and not disk.users


def _victim(kind: str, resource: Any) -> _Victim:
    return _Victim(kind=kind, name=resource.name, zone=last_part(resource.zone))


def _delete_all(clients: Clients, project: str, victims: Iterable[_Victim]) -> None:
    """Begin all deletions, then wait for them: together they take little longer than the slowest."""
    victims = tuple(victims)
    if not victims:
        return
    with ThreadPoolExecutor(min(_AT_ONCE, len(victims)), thread_name_prefix="gcp-delete") as threads:
        begun = list(threads.map(lambda victim: _attempt(lambda: _begin(clients, project, victim)), victims))
        waits = threads.map(
            lambda pair: _attempt(lambda: _settle(clients, project, *pair)),
            [(victim, told) for victim, told in zip(victims, begun, strict=True) if isinstance(told, sdk.Operation)],
        )
        problems = [told for told in (*begun, *waits) if isinstance(told, ProviderError)]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        transient = any(problem.transient for problem in problems)
        raise ProviderError(f"{problems[0].message}{more}", transient=transient, hint=problems[0].hint) from problems[0]


def _attempt(call: Callable[[], _T]) -> _T | ProviderError:
    try:
        return call()
    except ProviderError as error:
        return error


def _begin(clients: Clients, project: str, victim: _Victim) -> sdk.Operation | None:
    """Ask for the deletion; None where there is nothing to delete any more."""
    # One number per attempt: repeating an operation that failed would only bring its failure back.
    request_id = str(uuid.uuid4())
    try:
        with clients.one() as one, mapped(f"delete the {victim.kind} {victim.name}"):
            if victim.kind == "disk":
                disk = sdk.DeleteDiskRequest(project=project, zone=victim.zone, disk=victim.name, request_id=request_id)
                return one.disks.delete_unary(request=disk, timeout=ANSWER_TIMEOUT)
            instance = sdk.DeleteInstanceRequest(
                project=project, zone=victim.zone, instance=victim.name, request_id=request_id
            )
            return one.instances.delete_unary(request=instance, timeout=ANSWER_TIMEOUT)
    except NotFoundError:
        return None


def _settle(clients: Clients, project: str, victim: _Victim, operation: sdk.Operation) -> None:
    """Wait for a deletion. Raises when it failed."""
    what = f"delete the {victim.kind} {victim.name}"
    with clients.one() as one:
        done = finished(one, operation, project=project, zone=victim.zone, what=what, patience=_PATIENCE)
    problem = operation_problem(done)
    if problem is not None and problem.code not in _GONE_CODES and problem.status != 404:
        raise ProviderError(f"cannot {what}: {problem.message or problem.code}", transient=True)
