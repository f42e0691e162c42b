"""Minimum permissions of controller and worker, checked by the doctor and printed as roles, in the format of ``az role
definition create --role-definition @file``. Pure.

Sources: "Azure permissions for Compute", "… for Networking", "… for Management and governance", "… for Identity",
"… for Storage" and "… for Integration" in the reference of Azure role-based access control; for each call of the queue
and blob services "Permissions for calling data operations" in "Authorize with Microsoft Entra ID"; for the resources
created with a VM the built-in role "Virtual Machine Contributor".

Invariants, each with a test:

1. Every call of the plugin is allowed; permissions that the settings make unnecessary are left out.
2. Permissions are evaluated as by Azure: patterns with ``*``, ignoring case, minus the excluded actions.
3. A role is assignable in the configured subscription only.
4. A worker can delete instances but do nothing else to them, and use queues but not create or delete them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from cloud_tasks.plugin import CheckContext
from cloud_tasks_azure.settings import AzureSettings
from cloud_tasks_azure.traits import STAGING_SCHEMES

__all__ = [
    "CONTROLLER_ROLE",
    "OWN_QUEUES",
    "WORKER_ROLE",
    "compute_actions",
    "missing",
    "policies",
    "worker_actions",
    "worker_queue_allowed",
]


OWN_QUEUES = ("azure", "azure-servicebus")
"""Queues of this distribution: Storage Queue and Service Bus."""
_STORAGE, _BUS = OWN_QUEUES
CONTROLLER_ROLE = "cloud-tasks controller"
WORKER_ROLE = "cloud-tasks worker"


@attrs.frozen(kw_only=True)
class _Allowed:
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

_IMAGES = (
    "Microsoft.Compute/galleries/images/delete",
    "Microsoft.Compute/galleries/images/versions/delete",
    "Microsoft.Compute/galleries/images/versions/write",
    "Microsoft.Compute/galleries/images/write",
    "Microsoft.Compute/galleries/read",
    "Microsoft.Compute/galleries/write",
    "Microsoft.Compute/virtualMachines/deallocate/action",
    "Microsoft.Compute/virtualMachines/generalize/action",
)
"""For ``cloud-tasks image build`` only."""

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


def _queue_allowed(settings: AzureSettings, queue: str) -> _Allowed:
    """Return the permissions for creating, filling, purging and deleting queues.

    Args:
        queue: Name of the queue backend, as in `CheckContext`.
    """
    if queue == _BUS:
        # Creating and deleting queues requires "Manage", which only the full data permission of a namespace includes.
        return _Allowed(actions=("Microsoft.ServiceBus/*",), data_actions=("Microsoft.ServiceBus/*",))
    used = worker_queue_allowed(settings, queue)
    if not used.data_actions:
        return used
    more = {f"{_QUEUES}/{each}" for each in ("delete", "read", "write")}
    if settings.oversize_container:
        more.add(f"{_CONTAINERS}/read")
    return _Allowed(actions=tuple(sorted({*used.actions, *more})), data_actions=used.data_actions)


def worker_queue_allowed(settings: AzureSettings, queue: str) -> _Allowed:
    """Return the permissions for receiving tasks, and for sending events and retried tasks."""
    if queue == _BUS:
        return _Allowed(data_actions=_BUS_USE)
    if queue not in ("", _STORAGE):
        return _Allowed()
    if not settings.oversize_container:
        return _Allowed(data_actions=_MESSAGES)
    # The sender of the first large message creates the container.
    return _Allowed(actions=(f"{_CONTAINERS}/write",), data_actions=tuple(sorted((*_MESSAGES, *_BLOBS))))


def _url_allowed(urls: Iterable[str], *, write: bool) -> _Allowed:
    """Return the permissions for URLs of Blob Storage; none for others."""
    if not any(url.partition("://")[0] in STAGING_SCHEMES for url in urls):
        return _Allowed()
    # The file library reads the container before it writes.
    return _Allowed(actions=(f"{_CONTAINERS}/read",), data_actions=_BLOBS if write else (f"{_CONTAINERS}/blobs/read",))


def worker_actions() -> tuple[str, ...]:
    """Return the actions for an instance that deletes itself."""
    return ("Microsoft.Compute/virtualMachines/delete",)


def policies(settings: AzureSettings, context: CheckContext) -> Mapping[str, str]:
    """Return the role definitions by name; text in angle brackets is a placeholder for the user to replace."""
    downloads = (*context.downloads, context.staging)
    stores, code = _url_allowed(context.stores, write=True), _url_allowed(downloads, write=True)
    return {
        "controller": _document(
            settings,
            CONTROLLER_ROLE,
            "Launches, lists and terminates the instances of jobs, makes images, and manages queues",
            (
                _Allowed(actions=(*compute_actions(settings), *_IMAGES)),
                _queue_allowed(settings, context.queue),
                stores,
                code,
            ),
        ),
        "worker": _document(
            settings,
            WORKER_ROLE,
            "Runs the tasks of a job, and deletes its own instance at the end",
            (
                _Allowed(actions=worker_actions()),
                worker_queue_allowed(settings, context.queue),
                stores,
                _url_allowed(downloads, write=False),
            ),
        ),
    }


def _document(settings: AzureSettings, name: str, description: str, parts: Sequence[_Allowed]) -> str:
    role: dict[str, Any] = {
        "Name": name,
        "IsCustom": True,
        "Description": description,
        "Actions": sorted({action for each in parts for action in each.actions}),
        "NotActions": [],
        "DataActions": sorted({action for each in parts for action in each.data_actions}),
        "NotDataActions": [],
        "AssignableScopes": [f"/subscriptions/{settings.subscription_id or '<SUBSCRIPTION>'}"],
    }
    return json.dumps(role, indent=2)


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
