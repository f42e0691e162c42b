"""Ends machines with all that is theirs.

Invariants, each with a test:

1. Only what carries this system's tag is ever deleted.
2. When `remove` returns, no machine and no disk, network interface or address of those names is left.
3. Deletions run side by side, and one that fails does not keep the others from being carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import attrs

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_azure.compute.clients import Clients
from cloud_tasks_azure.compute.describe import group_of
from cloud_tasks_azure.compute.failures import mapped
from cloud_tasks_azure.compute.listing import machines, tagged_resources
from cloud_tasks_azure.compute.tags import INSTANCE_TAG

__all__ = ["remove", "remove_machine"]

_PATIENCE = timedelta(minutes=10)
_AT_ONCE = 16

_KINDS = ("microsoft.network/networkinterfaces", "microsoft.network/publicipaddresses", "microsoft.compute/disks")
"""Parts of a machine, in the order in which they let go of each other."""


@attrs.frozen(kw_only=True)
class _Victim:
    """One resource to delete."""

    kind: str
    """``microsoft.compute/virtualmachines`` or one of the parts."""
    group: str
    name: str


def remove(clients: Clients, names: Sequence[str]) -> None:
    """Delete the machines of these names that are ours, and their parts. Raises when any may remain."""
    wanted = frozenset(names)
    if not wanted:
        return
    found = [each for each in machines(clients, None) if each.name in wanted]
    _delete_all(clients, [_machine(each) for each in found])
    _remove_parts(clients, wanted)


def remove_machine(clients: Clients, group: str, name: str) -> None:
    """Delete one machine that could not be made, and its parts. Raises when any may remain."""
    _delete_all(clients, [_Victim(kind="microsoft.compute/virtualmachines", group=group, name=name)])
    _remove_parts(clients, frozenset({name}))


def _remove_parts(clients: Clients, names: frozenset[str]) -> None:
    """Parts go with their machine, unless somebody told them not to, or the machine never came to be."""
    parts = [each for each in tagged_resources(clients) if (each.tags or {}).get(INSTANCE_TAG) in names]
    for kind in _KINDS:
        left = [_part(each) for each in parts if str(each.type).lower() == kind]
        _delete_all(clients, left)


def _machine(machine: Any) -> _Victim:
    return _Victim(kind="microsoft.compute/virtualmachines", group=group_of(machine.id), name=str(machine.name))


def _part(part: Any) -> _Victim:
    return _Victim(kind=str(part.type).lower(), group=group_of(part.id), name=str(part.name))


def _delete_all(clients: Clients, victims: Sequence[_Victim]) -> None:
    """Begin all deletions, then wait for them: together they take little longer than the slowest."""
    if not victims:
        return
    with ThreadPoolExecutor(min(_AT_ONCE, len(victims)), thread_name_prefix="azure-delete") as threads:
        begun = list(threads.map(lambda victim: _attempt(lambda: _begin(clients, victim)), victims))
    # Each operation is followed by a thread of the SDK's own.
    ended = [
        _attempt(lambda told=told, victim=victim: _settle(told, victim))  # type: ignore[misc]
        for told, victim in zip(begun, victims, strict=True)
        if not isinstance(told, ProviderError)
    ]
    problems = [told for told in (*begun, *ended) if isinstance(told, ProviderError)]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        transient = any(problem.transient for problem in problems)
        raise ProviderError(f"{problems[0].message}{more}", transient=transient, hint=problems[0].hint) from problems[0]


def _attempt(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ProviderError as error:
        return error


def _begin(clients: Clients, victim: _Victim) -> Any:
    """Ask for the deletion; None where there is nothing to delete any more."""
    try:
        with mapped(f"delete {victim.name}"):
            match victim.kind:
                case "microsoft.compute/virtualmachines":
                    # Forced: a guest that does not shut down is not waited for, and no result of its is lost by that.
                    return clients.compute.virtual_machines.begin_delete(victim.group, victim.name, force_deletion=True)
                case "microsoft.compute/disks":
                    return clients.compute.disks.begin_delete(victim.group, victim.name)
                case "microsoft.network/networkinterfaces":
                    return clients.network.network_interfaces.begin_delete(victim.group, victim.name)
                case _:
                    return clients.network.public_ip_addresses.begin_delete(victim.group, victim.name)
    except NotFoundError:
        return None


def _settle(poller: Any, victim: _Victim) -> None:
    """Wait for a deletion. Raises when it failed, or takes too long."""
    if poller is None:
        return
    try:
        with mapped(f"delete {victim.name}"):
            poller.wait(_PATIENCE.total_seconds())
            if not poller.done():
                raise ProviderError(f"cannot delete {victim.name}: it is still under way", transient=True)
            poller.result()
    except NotFoundError:
        return
