"""The worker's role, and roles that the instances and the signed-in person have.

Ids of definitions and assignments are computed from what they stand for, so that two people who make the same
assignment make one. Roles are known some time after they were made, and so is a new identity: refusals for that reason
are repeated ("Troubleshoot Azure RBAC").
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from cloud_tasks.errors import ProviderError
from cloud_tasks.escape import shell_word
from cloud_tasks.plugin import SetupItem, TerraformBlock, TerraformExpression
from cloud_tasks_azure.permissions import missing, worker_actions
from cloud_tasks_azure.setup.calls import Calls, Principal, code_of
from cloud_tasks_azure.setup.names import Names

__all__ = [
    "BLOB_CONTRIBUTOR",
    "BLOB_READER",
    "QUEUE_CONTRIBUTOR",
    "Grant",
    "Role",
    "grants_item",
    "role_item",
    "worker_role",
]

AUTHORIZATION = "2022-04-01"
"""API version of roles."""
_DESCRIPTION = "cloud-tasks setup"
"""Description of our assignments, and the beginning of that of our role."""
_ROLES, _ASSIGNMENTS = (
    "/providers/Microsoft.Authorization/roleDefinitions",
    "/providers/Microsoft.Authorization/roleAssignments",
)
_UNKNOWN = ("PrincipalNotFound", "RoleDefinitionDoesNotExist")
_KINDS = ("actions", "dataActions")


@attrs.frozen(kw_only=True)
class Role:
    """A role by its display name."""

    name: str
    number: str = ""
    """Name of the definition of a built-in role, which is the same everywhere; empty: a role of the subscription."""


# "Azure built-in roles for Storage".
BLOB_CONTRIBUTOR = Role(name="Storage Blob Data Contributor", number="ba92f5b4-2d11-453d-a403-e96b0029c9fe")
BLOB_READER = Role(name="Storage Blob Data Reader", number="2a2b9908-6ea1-4ae2-8e65-a410df84e7d1")
QUEUE_CONTRIBUTOR = Role(name="Storage Queue Data Contributor", number="974c5e8b-45b9-4653-ba55-5f855dd0fb88")


@attrs.frozen(kw_only=True)
class Grant:
    """A role at a scope."""

    role: Role
    scope: str
    place: str
    """The scope in a few words."""
    terraform_scope: TerraformExpression
    terraform_name: str


def worker_role(names: Names) -> Role:
    """Return the worker's role, which `role_item` makes."""
    return Role(name=names.role)


def role_item(calls: Calls, names: Names, data_actions: Sequence[str]) -> SetupItem:
    """Return the item of the worker's role."""
    needed = {"actions": list(worker_actions()), "dataActions": list(data_actions)}
    description = f"{_DESCRIPTION}: what instances do besides reading and writing blobs"

    def lacking(role: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        return {kind: missing(needed[kind], _permissions(role, kind)) for kind in _KINDS}

    def look() -> str:
        role = _find_role(calls, names)
        if role is None:
            return "missing"
        found = [action for each in lacking(role).values() for action in each]
        return f"it lacks {', '.join(found)}" if found else ""

    def make() -> None:
        role = _find_role(calls, names)
        if role is None:
            path = f"{_ROLES}/{uuid.uuid5(uuid.NAMESPACE_URL, f'{names.scope}/{names.role}'.lower())}"
            calls.put(path, AUTHORIZATION, _role_body(names, description, [_permission(needed)]))
        elif any(lacking(role).values()):
            given = role["properties"]
            kept = [*given["permissions"], _permission(lacking(role))]
            calls.put(f"{_ROLES}/{role['name']}", AUTHORIZATION, {"properties": {**given, "permissions": kept}})

    def remove() -> str:
        role = _find_role(calls, names)
        if role is None:
            return ""
        if not str(role["properties"].get("description") or "").startswith(_DESCRIPTION):
            return "setup did not make it"
        others = [each for each in calls.entries(_ASSIGNMENTS, AUTHORIZATION) if _is_of(each, str(role["name"]))]
        if any(not _is_labelled(each) for each in others):
            return f"{len(others)} {'assignment uses' if len(others) == 1 else 'assignments use'} it"
        try:
            # A deleted assignment counts for some time.
            calls.delete(f"{_ROLES}/{role['name']}", AUTHORIZATION, unknown=(_IN_USE,))
        except ProviderError as error:
            if code_of(error) != _IN_USE:
                raise
            return "assignments use it"
        return ""

    document = {
        "Name": names.role,
        "IsCustom": True,
        "Description": description,
        "Actions": needed["actions"],
        "DataActions": needed["dataActions"],
        "AssignableScopes": [names.scope],
    }
    known = f"az role definition list --name {shell_word(names.role)} --query '[].name' --output tsv"
    create = f"az role definition create --role-definition {shell_word(json.dumps(document))}"
    of_subscription = f"--subscription {names.subscription}"
    return SetupItem(
        subject=f"role {names.role}",
        purpose="deletes instances, and uses queues" if data_actions else "deletes instances",
        look=look,
        make=make,
        remove=remove,
        commands=(f'[ -n "$({known} {of_subscription})" ] || {create} {of_subscription}',),
        terraform=(
            TerraformBlock(
                kind="resource",
                labels=("azurerm_role_definition", "worker"),
                arguments={
                    "name": names.role,
                    "description": description,
                    "scope": names.scope,
                    "assignable_scopes": [names.scope],
                },
                blocks=(
                    TerraformBlock(
                        kind="permissions",
                        arguments={"actions": needed["actions"], "data_actions": needed["dataActions"]},
                    ),
                ),
            ),
        ),
    )


_IN_USE = "RoleDefinitionHasAssignments"


def grants_item(
    calls: Calls,
    names: Names,
    grants: Sequence[Grant],
    principal: Callable[[], Principal | None],
    *,
    subject: str,
    purpose: str,
    shell_principal: str,
    terraform_principal: Mapping[str, Any],
) -> SetupItem:
    """Return the item of the roles of a principal.

    Args:
        principal: Who has them; None if they do not exist.
        shell_principal: Options of ``az`` that name them.
        terraform_principal: Arguments that name them.
    """

    def absent(who: Principal | None) -> list[Grant]:
        return [each for each in grants if who is None or not _assignments(calls, names, each, who)]

    def look() -> str:
        found = absent(principal())
        return f"not assigned: {', '.join(f'{each.role.name} for {each.place}' for each in found)}" if found else ""

    def make() -> None:
        who = principal()
        if who is None:
            raise ProviderError(f"{names.identity_id} does not exist", hint="check azure.managed_identity")
        for each in absent(who):
            _assign(calls, names, each, who)

    def remove() -> str:
        who = principal()
        if who is None:
            return ""
        kept = []
        for grant in grants:
            for each in _assignments(calls, names, grant, who):
                scope = str(each["properties"]["scope"])
                if _is_labelled(each) and scope.lower() == grant.scope.lower():
                    calls.delete(str(each["id"]), AUTHORIZATION)
                else:
                    kept.append(grant.role.name)
        return f"others assigned {', '.join(kept)}" if kept else ""

    return SetupItem(
        subject=subject,
        purpose=purpose,
        look=look,
        make=make,
        remove=remove,
        commands=tuple(
            f"az role assignment create --role {shell_word(each.role.name)} --scope {shell_word(each.scope)}"
            f" {shell_principal} --description {shell_word(_DESCRIPTION)} --subscription {names.subscription}"
            for each in grants
        ),
        terraform=tuple(
            TerraformBlock(
                kind="resource",
                labels=("azurerm_role_assignment", each.terraform_name),
                arguments={
                    "scope": each.terraform_scope,
                    **(
                        {"role_definition_name": each.role.name}
                        if each.role.number
                        else {
                            "role_definition_id": TerraformExpression(
                                "azurerm_role_definition.worker.role_definition_resource_id"
                            )
                        }
                    ),
                    **terraform_principal,
                    "description": _DESCRIPTION,
                },
            )
            for each in grants
        ),
    )


def _assign(calls: Calls, names: Names, grant: Grant, who: Principal) -> None:
    number = grant.role.number or str((_find_role(calls, names) or {}).get("name", ""))
    if not number:
        raise ProviderError(f"the role {grant.role.name} does not exist")
    name = uuid.uuid5(uuid.NAMESPACE_URL, f"{grant.scope}/{number}/{who.id}".lower())
    properties = {
        "roleDefinitionId": f"{names.scope}{_ROLES}/{number}",
        "principalId": who.id,
        # With its kind, a new identity need not be in the directory yet.
        "principalType": who.kind,
        "description": _DESCRIPTION,
    }
    try:
        path = f"{grant.scope}{_ASSIGNMENTS}/{name}"
        calls.put(path, AUTHORIZATION, {"properties": properties}, unknown=_UNKNOWN)
    except ProviderError as error:
        if code_of(error) != "RoleAssignmentExists":
            raise


def _assignments(calls: Calls, names: Names, grant: Grant, who: Principal) -> list[dict[str, Any]]:
    """Return the assignments of a role to a principal, or to its groups, at a scope or above."""
    number = grant.role.number or str((_find_role(calls, names) or {}).get("name", ""))
    query = {"$filter": f"atScope() and assignedTo('{who.id}')"}
    found = calls.entries(f"{grant.scope}{_ASSIGNMENTS}", AUTHORIZATION, **query)
    return [each for each in found if number and _is_of(each, number)]


def _find_role(calls: Calls, names: Names) -> dict[str, Any] | None:
    """Return the definition of the worker's role, also if it was made with another id."""
    found = calls.entries(_ROLES, AUTHORIZATION, **{"$filter": f"roleName eq '{names.role}'"})
    return next((each for each in found if each["properties"].get("roleName") == names.role), None)


def _role_body(names: Names, description: str, permissions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "properties": {
            "roleName": names.role,
            "type": "CustomRole",
            "description": description,
            "permissions": list(permissions),
            "assignableScopes": [names.scope],
        }
    }


def _permission(given: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {**{kind: list(given[kind]) for kind in _KINDS}, "notActions": [], "notDataActions": []}


def _permissions(role: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    """Return the actions of a kind, in the form of `missing`."""
    excluded = f"not{kind[0].upper()}{kind[1:]}"
    found = role["properties"].get("permissions") or []
    return [{"actions": each.get(kind), "notActions": each.get(excluded)} for each in found]


def _is_of(assignment: Mapping[str, Any], number: str) -> bool:
    return str(assignment["properties"].get("roleDefinitionId")).lower().endswith(f"/{number.lower()}")


def _is_labelled(assignment: Mapping[str, Any]) -> bool:
    return str(assignment["properties"].get("description") or "").startswith(_DESCRIPTION)
