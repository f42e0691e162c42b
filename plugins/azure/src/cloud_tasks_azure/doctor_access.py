"""Checks of who may do what: permissions of the controller, identity and role of the workers, access to queues."""

from __future__ import annotations

import re

from cloud_tasks.errors import CloudTasksError, ProviderError
from cloud_tasks.plugin import CheckContext
from cloud_tasks.plugin.kit import DoubtError
from cloud_tasks_azure.compute.arm import Arm
from cloud_tasks_azure.compute.compute_errors import translate_errors
from cloud_tasks_azure.doctor_queue import worker_access
from cloud_tasks_azure.permissions import OWN_QUEUES, compute_actions, missing, worker_actions, worker_queue_allowed
from cloud_tasks_azure.settings import AzureSettings

__all__ = [
    "MAX_SHOWN",
    "POLICY",
    "check_access",
    "check_identity",
    "check_permissions",
    "check_worker_role",
]

POLICY = "cloud-tasks doctor --provider azure --policy"
MAX_SHOWN = 4
_AUTHORIZATION, _IDENTITIES = "2022-04-01", "2023-01-31"
"""API versions of permissions and role assignments, and of managed identities."""
_LAUNCH = "Microsoft.Compute/virtualMachines/write"
_KEYS = re.compile(
    r"(?:CLOUD_TASKS_AZURE|AZURE_STORAGE|AZURE_SERVICEBUS)\w*CONNECTION_STRING\w*=|AZURE_CLIENT_\w+=|AZURE_FEDERATED_TOKEN_FILE="
)
"""Credentials that a startup script sets."""


def check_permissions(arm: Arm, settings: AzureSettings) -> str:
    """Compare the caller's permissions where instances are created with the controller's role."""
    scope = f"/subscriptions/{arm.subscription}"
    if settings.resource_group is not None:
        scope += f"/resourcegroups/{settings.resource_group}"
    try:
        with translate_errors("list permissions"):
            given = arm.entries(f"{scope}/providers/Microsoft.Authorization/permissions", _AUTHORIZATION)
    except CloudTasksError as error:
        # Unreadable permissions may still be sufficient.
        return f"cannot be checked: {error.message}"
    lacking = missing(compute_actions(settings), given)
    if not lacking:
        return f"all permissions of the controller's role, in {scope}"
    more = f" and {len(lacking) - MAX_SHOWN} more" if len(lacking) > MAX_SHOWN else ""
    kind = CloudTasksError if _LAUNCH in lacking else DoubtError
    raise kind(
        f"missing in {scope}: {', '.join(lacking[:MAX_SHOWN])}{more}",
        hint=f'run: az role assignment create --assignee YOU --role "cloud-tasks controller" --scope {scope}'
        f" (role definition: {POLICY})",
    )


def check_identity(arm: Arm, settings: AzureSettings, context: CheckContext) -> str:
    """Look for the identity of the instances; without one, a run is prevented only if its workers can do nothing."""
    identity = settings.managed_identity
    if identity is None:
        script = context.launch.startup_script if context.launch is not None else None
        # Without credentials, the instances would cost until the startup timeout, and do nothing.
        is_hopeless = script is not None and context.queue in OWN_QUEUES and not _KEYS.search(script)
        raise (CloudTasksError if is_hopeless else DoubtError)(
            "not set: workers cannot access queues, and instances cannot delete themselves",
            hint="run: az identity create --name cloud-tasks-worker --resource-group GROUP; assign it the worker's"
            " role (doctor --policy), then set azure.managed_identity to its id",
        )
    if identity == "system":
        raise DoubtError(
            "system: each instance gets an identity of its own, which has no role unless a policy assigns one",
            hint="set azure.managed_identity to the id of an identity with the worker's role",
        )
    with translate_errors(f"read {identity.rpartition('/')[2]}"):
        arm.get(identity, _IDENTITIES)
    return f"{identity.rpartition('/')[2]} exists"


def check_access(settings: AzureSettings, script: str) -> str:
    """Look for what names the queue service on the instances."""
    access = worker_access(settings)
    if access.remedy and settings.managed_identity is not None and not _KEYS.search(script):
        raise DoubtError(access.message, hint=access.remedy)
    return access.message


def check_worker_role(arm: Arm, settings: AzureSettings, queue: str) -> str:
    """Look for roles of the identity that have the worker's permissions."""
    name = str(settings.managed_identity).rpartition("/")[2]
    try:
        with translate_errors("list role assignments"):
            principal = arm.get(str(settings.managed_identity), _IDENTITIES)["properties"]["principalId"]
            path = "/providers/Microsoft.Authorization/roleAssignments"
            roles = arm.entries(path, _AUTHORIZATION, **{"$filter": f"assignedTo('{principal}')"})
            found = [arm.get(str(each["properties"]["roleDefinitionId"]), _AUTHORIZATION) for each in roles]
    except (ProviderError, KeyError, TypeError) as error:
        return f"cannot be checked: {getattr(error, 'message', 'invalid response from Azure')}"
    permissions = [each for role in found for each in (role.get("properties") or {}).get("permissions") or ()]
    lacking = list(missing(worker_actions(), permissions))
    if queue:
        data = [{"actions": each.get("dataActions"), "notActions": each.get("notDataActions")} for each in permissions]
        lacking += missing(worker_queue_allowed(settings, queue).data_actions, data)
    if lacking:
        raise DoubtError(
            f"{name} has no role with {', '.join(lacking[:MAX_SHOWN])}",
            hint=f'run: az role assignment create --role "cloud-tasks worker" --scope /subscriptions/{arm.subscription}'
            f" --assignee-principal-type ServicePrincipal --assignee-object-id {principal}"
            f" (role definition: {POLICY})",
        )
    return f"{name} has the worker's permissions"
