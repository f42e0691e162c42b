"""Minimum permissions of controller and worker, checked by the doctor and printed as roles. Pure.

Sources: "Azure permissions for Compute", "… for Networking", "… for Management and governance", "… for Identity",
"… for Storage" and "… for Integration" in the reference of Azure role-based access control; for each call of the queue
and blob services "Permissions for calling data operations" in "Authorize with Microsoft Entra ID"; for the resources
created with a VM the built-in role "Virtual Machine Contributor".

Invariants, each with a test:

1. Every call of the plugin is allowed; permissions that the settings make unnecessary are left out.
2. Permissions are evaluated as by Azure: patterns with ``*``, ignoring case, minus the excluded actions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from cloud_tasks_azure.settings import AzureSettings

__all__ = [
    "OWN_QUEUES",
    "Allowed",
    "compute_actions",
    "missing",
    "queue_allowed",
    "url_allowed",
    "worker_actions",
    "worker_queue_allowed",
]


OWN_QUEUES = ("azure", "azure-servicebus")
"""Queues of this distribution: Storage Queue and Service Bus."""
_STORAGE, _BUS = OWN_QUEUES


@attrs.frozen(kw_only=True)
class Allowed:
    """Actions of a role: for Resource Manager, and for the data of the services."""

    actions: tuple[str, ...] = ()
    data_actions: tuple[str, ...] = ()


_READ = (
    "Microsoft.Authorization/permissions/read",
    # The user's image: a managed one, one of a gallery, or one of the marketplace.
    "Microsoft.Compute/galleries/images/read",
    "Microsoft.Compute/galleries/images/versions/read",
    "Microsoft.Compute/images/read",
    "Microsoft.Compute/locations/operations/read",
    "Microsoft.Compute/locations/publishers/artifacttypes/offers/skus/versions/read",
    "Microsoft.Compute/locations/usages/read",
    "Microsoft.Compute/skus/read",
    "Microsoft.Resources/providers/read",
    "Microsoft.Resources/subscriptions/providers/read",
    "Microsoft.Resources/subscriptions/resourceGroups/read",
    "Microsoft.Resources/subscriptions/resourcegroups/resources/read",
)
_INSTANCES = (
    "Microsoft.Compute/disks/delete",
    "Microsoft.Compute/disks/read",
    # The boot disk is created with its VM, with the caller's permissions.
    "Microsoft.Compute/disks/write",
    "Microsoft.Compute/virtualMachines/delete",
    "Microsoft.Compute/virtualMachines/read",
    "Microsoft.Compute/virtualMachines/retrieveBootDiagnosticsData/action",
    "Microsoft.Compute/virtualMachines/write",
    # The deletion of an interface is an operation of the network provider.
    "Microsoft.Network/locations/operationResults/read",
    "Microsoft.Network/locations/operations/read",
    "Microsoft.Network/networkInterfaces/delete",
    "Microsoft.Network/networkInterfaces/join/action",
    "Microsoft.Network/networkInterfaces/read",
    "Microsoft.Network/networkInterfaces/write",
    "Microsoft.Network/networkSecurityGroups/join/action",
    # Needed even without public addresses now: those of an earlier job are deleted.
    "Microsoft.Network/publicIPAddresses/delete",
    "Microsoft.Network/publicIPAddresses/read",
    "Microsoft.Network/virtualNetworks/subnets/join/action",
)
_ADDRESSES = (
    "Microsoft.Network/locations/usages/read",
    "Microsoft.Network/publicIPAddresses/join/action",
    "Microsoft.Network/publicIPAddresses/write",
)
_NETWORKS = (
    "Microsoft.Network/networkSecurityGroups/delete",
    "Microsoft.Network/networkSecurityGroups/write",
    "Microsoft.Network/virtualNetworks/delete",
    "Microsoft.Network/virtualNetworks/write",
)
_GROUPS = (
    "Microsoft.Resources/subscriptions/resourceGroups/delete",
    "Microsoft.Resources/subscriptions/resourceGroups/write",
)
_IDENTITY = (
    # The doctor looks for the worker's role of the identity.
    "Microsoft.Authorization/roleAssignments/read",
    "Microsoft.Authorization/roleDefinitions/read",
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
    """Return the actions for launching, listing and terminating instances."""
    found = {*_READ, *_INSTANCES}
    if settings.public_address:
        found |= {*_ADDRESSES}
    if settings.subnet is None:
        found |= {*_NETWORKS}
    else:
        found.add("Microsoft.Network/virtualNetworks/subnets/read")
    if settings.nat_gateway is not None:
        found |= {"Microsoft.Network/natGateways/join/action", "Microsoft.Network/natGateways/read"}
    if settings.security_group is not None:
        found.add("Microsoft.Network/networkSecurityGroups/read")
    if settings.resource_group is None:
        found |= {*_GROUPS}
    if settings.managed_identity not in (None, "system"):
        found |= {*_IDENTITY}
    return tuple(sorted(found))


def queue_allowed(settings: AzureSettings, queue: str) -> Allowed:
    """Return the permissions for creating, filling, purging and deleting queues.

    Args:
        queue: Name of the queue backend, as in `CheckContext`.
    """
    if queue == _BUS:
        # Creating and deleting queues requires "Manage", which only the full data permission of a namespace includes.
        return Allowed(actions=("Microsoft.ServiceBus/*",), data_actions=("Microsoft.ServiceBus/*",))
    used = worker_queue_allowed(settings, queue)
    if not used.data_actions:
        return used
    more = {f"{_QUEUES}/{each}" for each in ("delete", "read", "write")}
    if settings.oversize_container:
        more.add(f"{_CONTAINERS}/read")
    return Allowed(actions=tuple(sorted({*used.actions, *more})), data_actions=used.data_actions)


def worker_queue_allowed(settings: AzureSettings, queue: str) -> Allowed:
    """Return the permissions for receiving tasks, and for sending events and retried tasks."""
    if queue == _BUS:
        return Allowed(data_actions=_BUS_USE)
    if queue not in ("", _STORAGE):
        return Allowed()
    if not settings.oversize_container:
        return Allowed(data_actions=_MESSAGES)
    # The sender of the first large message creates the container.
    return Allowed(actions=(f"{_CONTAINERS}/write",), data_actions=tuple(sorted((*_MESSAGES, *_BLOBS))))


def url_allowed(urls: Iterable[str], *, write: bool) -> Allowed:
    """Return the permissions for URLs of Blob Storage; none for others."""
    if not any(url.partition("://")[0] in ("az", "abfs", "abfss") for url in urls):
        return Allowed()
    # The file library reads the container before it writes.
    return Allowed(actions=(f"{_CONTAINERS}/read",), data_actions=_BLOBS if write else (f"{_CONTAINERS}/blobs/read",))


def worker_actions() -> tuple[str, ...]:
    """Return the actions for an instance that deletes itself."""
    return ("Microsoft.Compute/virtualMachines/delete",)


def missing(actions: Iterable[str], permissions: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the actions that the permissions do **not** allow, in order.

    Args:
        permissions: As listed by the API: ``actions`` and ``notActions`` of each assigned role.
    """
    rules = [(_pattern(each.get("actions")), _pattern(each.get("notActions"))) for each in permissions]
    return tuple(
        action
        for action in actions
        if not any(allowed.fullmatch(action) and not excluded.fullmatch(action) for allowed, excluded in rules)
    )


def _pattern(actions: Any) -> re.Pattern[str]:
    """Return the pattern of all listed actions; an empty list matches nothing."""
    parts = [re.escape(str(each)).replace(r"\*", ".*") for each in actions or ()]
    return re.compile("|".join(parts) or r"(?!)", re.IGNORECASE)
