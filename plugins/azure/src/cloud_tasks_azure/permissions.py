"""What controller and worker have to be allowed, and no more: asked for by the doctor, printed as roles. Pure.

Sources: "Azure permissions for Compute", "… for Networking", "… for Management and governance", "… for Identity",
"… for Storage" and "… for Integration" in the reference of Azure role-based access control; for each call of the queue
and blob services "Permissions for calling data operations" in "Authorize with Microsoft Entra ID"; what a machine's
creation needs besides itself from the built-in role "Virtual Machine Contributor".

Invariants, each with a test:

1. What the plugin asks for is allowed, and what a setting makes needless is not.
2. A permission holds as Azure reads it: patterns with ``*``, without regard to case, less what is taken out again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from cloud_tasks_azure.settings import AzureSettings

__all__ = ["Allowed", "compute_actions", "missing", "queue_allowed", "worker_actions", "worker_queue_allowed"]


@attrs.frozen(kw_only=True)
class Allowed:
    """What a role allows: at Resource Manager, and at the services' own data."""

    actions: tuple[str, ...] = ()
    data_actions: tuple[str, ...] = ()


_LOOK = (
    "Microsoft.Authorization/permissions/read",
    "Microsoft.Compute/images/read",
    "Microsoft.Compute/locations/operations/read",
    "Microsoft.Compute/locations/usages/read",
    "Microsoft.Compute/skus/read",
    "Microsoft.Resources/providers/read",
    "Microsoft.Resources/subscriptions/providers/read",
    "Microsoft.Resources/subscriptions/resourceGroups/read",
    "Microsoft.Resources/subscriptions/resources/read",
    "Microsoft.Resources/subscriptions/resourcegroups/resources/read",
)
_MACHINES = (
    "Microsoft.Compute/disks/delete",
    "Microsoft.Compute/disks/read",
    # The boot disk is made along with its machine, by whoever makes that.
    "Microsoft.Compute/disks/write",
    # An image of one's own may be in a gallery.
    "Microsoft.Compute/galleries/images/versions/read",
    "Microsoft.Compute/virtualMachines/delete",
    "Microsoft.Compute/virtualMachines/read",
    "Microsoft.Compute/virtualMachines/retrieveBootDiagnosticsData/action",
    "Microsoft.Compute/virtualMachines/write",
    "Microsoft.Network/networkInterfaces/delete",
    "Microsoft.Network/networkInterfaces/join/action",
    "Microsoft.Network/networkInterfaces/read",
    "Microsoft.Network/networkInterfaces/write",
    "Microsoft.Network/networkSecurityGroups/join/action",
    # Also where machines have none now: what an earlier job left is removed.
    "Microsoft.Network/publicIPAddresses/delete",
    "Microsoft.Network/publicIPAddresses/read",
    "Microsoft.Network/virtualNetworks/subnets/join/action",
)
_ADDRESSES = (
    "Microsoft.Network/publicIPAddresses/join/action",
    "Microsoft.Network/publicIPAddresses/write",
)
_NETWORKS = (
    "Microsoft.Network/locations/operationResults/read",
    "Microsoft.Network/locations/operations/read",
    "Microsoft.Network/networkSecurityGroups/delete",
    "Microsoft.Network/networkSecurityGroups/read",
    "Microsoft.Network/networkSecurityGroups/write",
    "Microsoft.Network/virtualNetworks/delete",
    "Microsoft.Network/virtualNetworks/read",
    "Microsoft.Network/virtualNetworks/write",
)
_GROUPS = (
    "Microsoft.Resources/subscriptions/resourceGroups/delete",
    "Microsoft.Resources/subscriptions/resourceGroups/write",
)
_IDENTITY = (
    "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action",
    "Microsoft.ManagedIdentity/userAssignedIdentities/read",
)

_QUEUES = "Microsoft.Storage/storageAccounts/queueServices/queues"
_CONTAINERS = "Microsoft.Storage/storageAccounts/blobServices/containers"
_MESSAGES = tuple(f"{_QUEUES}/messages/{each}" for each in ("delete", "process/action", "read", "write"))
_BLOBS = tuple(f"{_CONTAINERS}/blobs/{each}" for each in ("add/action", "delete", "read", "write"))
_BUS_USE = (
    "Microsoft.ServiceBus/namespaces/messages/receive/action",
    "Microsoft.ServiceBus/namespaces/messages/send/action",
)


def compute_actions(settings: AzureSettings) -> tuple[str, ...]:
    """What starting, finding and removing machines asks for."""
    found = {*_LOOK, *_MACHINES}
    if settings.public_address:
        found |= {*_ADDRESSES}
    if settings.subnet is None:
        found |= {*_NETWORKS}
    else:
        found.add("Microsoft.Network/virtualNetworks/subnets/read")
    if settings.security_group is not None:
        found.add("Microsoft.Network/networkSecurityGroups/read")
    if settings.resource_group is None:
        found |= {*_GROUPS}
    if settings.managed_identity not in (None, "system"):
        found |= {*_IDENTITY}
    return tuple(sorted(found))


def queue_allowed(settings: AzureSettings) -> Allowed:
    """What making, filling, emptying and removing queues asks for."""
    if settings.queue == "servicebus":
        # Making and removing queues is a matter of "Manage", which only the whole of a namespace's data includes.
        return Allowed(actions=("Microsoft.ServiceBus/*",), data_actions=("Microsoft.ServiceBus/*",))
    used = worker_queue_allowed(settings)
    more = {f"{_QUEUES}/delete", f"{_QUEUES}/write"}
    if settings.oversize_container:
        more.add(f"{_CONTAINERS}/read")
    return Allowed(actions=tuple(sorted({*used.actions, *more})), data_actions=used.data_actions)


def worker_queue_allowed(settings: AzureSettings) -> Allowed:
    """What taking tasks, and sending events and tasks that are tried again, asks for."""
    if settings.queue == "servicebus":
        return Allowed(data_actions=_BUS_USE)
    actions, data = [f"{_QUEUES}/read"], [*_MESSAGES]
    if settings.oversize_container:
        # Whoever has the first large message makes the container.
        actions.append(f"{_CONTAINERS}/write")
        data += _BLOBS
    return Allowed(actions=tuple(sorted(actions)), data_actions=tuple(sorted(data)))


def worker_actions() -> tuple[str, ...]:
    """What a machine needs to end itself."""
    return ("Microsoft.Compute/virtualMachines/delete",)


def missing(wanted: Iterable[str], permissions: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Those of the actions that the permissions do **not** give, in order.

    Args:
        permissions: As the API lists them: ``actions`` and ``notActions`` of each role that somebody has.
    """
    rules = [(_pattern(each.get("actions")), _pattern(each.get("notActions"))) for each in permissions]
    return tuple(
        action
        for action in wanted
        if not any(given.fullmatch(action) and not taken.fullmatch(action) for given, taken in rules)
    )


def _pattern(actions: Any) -> re.Pattern[str]:
    """Of all that a list names; nothing fits an empty one."""
    parts = [re.escape(str(each)).replace(r"\*", ".*") for each in actions or ()]
    return re.compile("|".join(parts) or r"(?!)", re.IGNORECASE)
