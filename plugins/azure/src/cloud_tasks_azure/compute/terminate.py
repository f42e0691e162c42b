"""Termination of instances: deletion of VMs and of the resources created with them.

Resource Manager allows a subscription ten deletions and 25 reads per second ("Understand how Azure Resource Manager
throttles requests"). Deletions therefore begin at a bounded rate, and one listing of all VMs shows which have ended;
operations are not polled one by one.

Invariants, each with a test:

1. Only resources with the job tag are deleted.
2. When `terminate_instances` returns, no VM, disk, network interface or address of the given names exists.
3. A failed deletion does not prevent the others, and is reported with Azure's reason.
4. The number of requests grows with the number of VMs only by their deletions.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin.kit import FanOut
from cloud_tasks_azure.compute.arm import BEGIN, COMPUTE, DISKS, NETWORK, Arm, Operation
from cloud_tasks_azure.compute.compute_errors import translate_errors
from cloud_tasks_azure.compute.listing import list_parts, list_vms, tag_of
from cloud_tasks_azure.compute.tags import INSTANCE_TAG, JOB_TAG
from cloud_tasks_azure.compute.to_model import group_of, provisioning_state

__all__ = ["delete_now", "delete_parts", "delete_vm", "terminate_instances"]

_TIMEOUT = timedelta(minutes=10)
_THREADS = 8
_INTERVAL = 0.125
"""Seconds between the beginnings of two deletions."""
_POLLED = 10
"""Operations that are looked at after a listing, of VMs that do not seem to be deleted."""


def terminate_instances(arm: Arm, names: Sequence[str], launched: Mapping[str, str] = {}) -> None:
    """Delete the managed VMs of these names and their resources. Raises `ProviderError` if any may remain.

    Args:
        launched: Resource ids of VMs, by name, that may be too new to be listed.
    """
    selected = frozenset(names)
    if not selected:
        return
    listed = list_vms(arm, None, foreign=True)
    names_listed = {str(each["name"]) for each in listed}
    found = [str(each["id"]) for each in listed if each["name"] in selected and tag_of(each, JOB_TAG)]
    unlisted = [path for name, path in launched.items() if name in selected - names_listed]
    _delete_vms(arm, found)
    delete_now(arm, unlisted)
    delete_parts(arm, names=selected)


def delete_vm(arm: Arm, vm_id: str) -> None:
    """Delete one VM whose creation failed, and its resources. Raises `ProviderError` if any may remain."""
    _delete_vms(arm, [vm_id])
    delete_parts(arm, names=frozenset({_name(vm_id)}))


def delete_parts(arm: Arm, *, names: frozenset[str] | None = None, job_id: str | None = None) -> None:
    """Delete resources left by VMs of these names, or by all VMs of a job: a deletion failed or was disabled."""
    for listed in list_parts(arm, job_id):
        delete_now(arm, [str(each["id"]) for each in listed if names is None or tag_of(each, INSTANCE_TAG) in names])


def delete_now(arm: Arm, paths: Sequence[str]) -> None:
    """Delete a few resources, and wait for the operation of each. Raises `ProviderError` if any may remain."""
    running, problems = _start(arm, paths)
    for path, operation in running.items():
        try:
            with translate_errors(f"delete {_name(path)}"):
                arm.wait(operation, timeout=_TIMEOUT)
        except ProviderError as error:
            problems[path] = error
    _raise(list(problems.values()))


def _delete_vms(arm: Arm, vm_ids: Sequence[str]) -> None:
    running, problems = _start(arm, vm_ids)
    deadline, pause = datetime.now(UTC) + _TIMEOUT, arm.poll_seconds
    while running:
        _sleep(pause)
        pause = min(pause * 1.5, max(arm.poll_seconds, 10.0))
        try:
            listed = {str(each["id"]).lower(): each for each in list_vms(arm, None)}
        except ProviderError as error:
            if not error.transient or datetime.now(UTC) > deadline:
                raise
            continue
        running = {path: each for path, each in running.items() if path.lower() in listed}
        failed = _failed(running, listed)
        problems |= failed
        running = {path: each for path, each in running.items() if path not in failed}
        if datetime.now(UTC) > deadline:
            text = "the operation is still running"
            problems |= {
                path: ProviderError(f"cannot delete {_name(path)}: {text}", transient=True) for path in running
            }
            break
    _raise(list(problems.values()))


def _failed(running: Mapping[str, Operation], listed: Mapping[str, Mapping[str, Any]]) -> dict[str, ProviderError]:
    """Return the errors of deletions that failed: the listing has their VMs in another state."""
    found = {}
    odd = [path for path in running if provisioning_state(listed[path.lower()]) != "deleting"]
    for path in odd[:_POLLED]:
        try:
            with translate_errors(f"delete {_name(path)}"):
                running[path].update_status()
        except ProviderError as error:
            found[path] = error
    return found


def _start(arm: Arm, paths: Sequence[str]) -> tuple[dict[str, Operation], dict[str, ProviderError]]:
    """Begin deletions, at most one per interval; return operations and errors. A missing resource has neither."""
    lock = threading.Lock()

    def start(path: str) -> Operation:
        with lock:
            if len(paths) > _THREADS:
                _sleep(_INTERVAL)
        with translate_errors(f"delete {_name(path)}"):
            return _delete(arm, path)

    fan_out = FanOut(_THREADS, "azure-delete")
    try:
        found = dict(zip(paths, fan_out.outcomes(start, paths), strict=True))
    finally:
        fan_out.close()
    running = {path: each for path, each in found.items() if isinstance(each, Operation)}
    problems = {path: each for path, each in found.items() if isinstance(each, ProviderError)}
    return running, {path: each for path, each in problems.items() if not isinstance(each, NotFoundError)}


def _delete(arm: Arm, path: str) -> Operation:
    """Begin to delete a VM, disk or resource of the network."""
    group, name, kind = group_of(path), _name(path), path.split("/")[-2].lower()
    if kind == "virtualmachines":
        # Forced: the guest's shutdown is not awaited, since no result depends on it.
        begin: Any = arm.compute().virtual_machines.begin_delete
        return arm.operation(begin(group, name, force_deletion=True, api_version=COMPUTE, **BEGIN).result())
    if kind == "disks":
        begin = arm.compute().disks.begin_delete
        return arm.operation(begin(group, name, api_version=DISKS, **BEGIN).result())
    return arm.operation(arm.delete(path, NETWORK))


def _raise(problems: Sequence[ProviderError]) -> None:
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        transient = any(problem.transient for problem in problems)
        raise ProviderError(f"{problems[0].message}{more}", transient=transient, hint=problems[0].hint) from problems[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _sleep(seconds: float) -> None:
    threading.Event().wait(seconds)
