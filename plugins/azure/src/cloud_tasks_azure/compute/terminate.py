"""Termination of instances: deletion of VMs and of the resources created with them.

Invariants, each with a test:

1. Only resources with the job tag are deleted.
2. When `terminate_instances` returns, no VM, disk, network interface or address of the given names exists.
3. Deletions run concurrently, and a failed one does not prevent the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import attrs

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_azure.compute.clients import Clients
from cloud_tasks_azure.compute.compute_errors import translate_errors
from cloud_tasks_azure.compute.listing import list_vms, tagged_resources
from cloud_tasks_azure.compute.tags import INSTANCE_TAG
from cloud_tasks_azure.compute.to_model import group_of

__all__ = ["delete_vm", "terminate_instances"]

_TIMEOUT = timedelta(minutes=10)
_MAX_CONCURRENT = 16

_KINDS = ("microsoft.network/networkinterfaces", "microsoft.network/publicipaddresses", "microsoft.compute/disks")
"""Resources created with a VM, in the order in which they can be deleted."""


@attrs.frozen(kw_only=True)
class _Resource:
    """A resource to delete."""

    kind: str
    """``microsoft.compute/virtualmachines`` or one of `_KINDS`."""
    group: str
    name: str


def terminate_instances(clients: Clients, names: Sequence[str]) -> None:
    """Delete the managed VMs of these names and their resources. Raises `ProviderError` if any may remain."""
    selected = frozenset(names)
    if not selected:
        return
    found = [each for each in list_vms(clients, None) if each.name in selected]
    _delete_all(clients, [_vm(each) for each in found])
    _delete_parts(clients, selected)


def delete_vm(clients: Clients, group: str, name: str) -> None:
    """Delete one VM whose creation failed, and its resources. Raises `ProviderError` if any may remain."""
    _delete_all(clients, [_Resource(kind="microsoft.compute/virtualmachines", group=group, name=name)])
    _delete_parts(clients, frozenset({name}))


def _delete_parts(clients: Clients, names: frozenset[str]) -> None:
    """Delete resources left by a VM: it was never created, or their delete option was changed."""
    parts = [each for each in tagged_resources(clients) if (each.tags or {}).get(INSTANCE_TAG) in names]
    for kind in _KINDS:
        left = [_part(each) for each in parts if str(each.type).lower() == kind]
        _delete_all(clients, left)


def _vm(vm: Any) -> _Resource:
    return _Resource(kind="microsoft.compute/virtualmachines", group=group_of(vm.id), name=str(vm.name))


def _part(part: Any) -> _Resource:
    return _Resource(kind=str(part.type).lower(), group=group_of(part.id), name=str(part.name))


def _delete_all(clients: Clients, resources: Sequence[_Resource]) -> None:
    """Start all deletions, then wait for them, so that they run concurrently."""
    if not resources:
        return
    with ThreadPoolExecutor(min(_MAX_CONCURRENT, len(resources)), thread_name_prefix="azure-delete") as threads:
        started = list(threads.map(lambda resource: _attempt(lambda: _start(clients, resource)), resources))
    # The SDK polls each operation in a thread of its own.
    finished = [
        _attempt(lambda poller=poller, resource=resource: _wait(poller, resource))  # type: ignore[misc]
        for poller, resource in zip(started, resources, strict=True)
        if not isinstance(poller, ProviderError)
    ]
    problems = [result for result in (*started, *finished) if isinstance(result, ProviderError)]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        transient = any(problem.transient for problem in problems)
        raise ProviderError(f"{problems[0].message}{more}", transient=transient, hint=problems[0].hint) from problems[0]


def _attempt(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ProviderError as error:
        return error


def _start(clients: Clients, resource: _Resource) -> Any:
    """Start the deletion and return its poller; None if the resource does not exist."""
    try:
        with translate_errors(f"delete {resource.name}"):
            match resource.kind:
                case "microsoft.compute/virtualmachines":
                    # Forced: the guest's shutdown is not awaited, since no result depends on it.
                    return clients.compute.virtual_machines.begin_delete(
                        resource.group, resource.name, force_deletion=True
                    )
                case "microsoft.compute/disks":
                    return clients.compute.disks.begin_delete(resource.group, resource.name)
                case "microsoft.network/networkinterfaces":
                    return clients.network.network_interfaces.begin_delete(resource.group, resource.name)
                case _:
                    return clients.network.public_ip_addresses.begin_delete(resource.group, resource.name)
    except NotFoundError:
        return None


def _wait(poller: Any, resource: _Resource) -> None:
    """Wait for a deletion. Raises `ProviderError` if it fails or takes too long."""
    if poller is None:
        return
    try:
        with translate_errors(f"delete {resource.name}"):
            poller.wait(_TIMEOUT.total_seconds())
            if not poller.done():
                raise ProviderError(f"cannot delete {resource.name}: the operation is still running", transient=True)
            poller.result()
    except NotFoundError:
        return
