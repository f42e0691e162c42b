"""Role definitions and assignments of a subscription.

Sources: "Role Definitions" and "Role Assignments" in the REST reference (2022-04-01), "List Azure role assignments
using the REST API" for the filters, and "Troubleshoot Azure RBAC" for the refusals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import attrs
from arm_models import body_of_kind
from arm_records import ArmError
from fake_server import Answer, Request

__all__ = ["PERSON", "Roles"]

PERSON = "11111111-2222-3333-4444-555555555555"
"""Object id of the signed-in person."""
_ROOT = r"(?i)/subscriptions/(?P<subscription>[^/]+)"
_DEFINITIONS = rf"{_ROOT}/providers/Microsoft\.Authorization/roleDefinitions"
_ASSIGNMENTS = (
    r"(?i)(?P<scope>/subscriptions/(?P<subscription>[^/]+).*)/providers/Microsoft\.Authorization/roleAssignments"
)
_BLOBS = "Microsoft.Storage/storageAccounts/blobServices"
_QUEUES = "Microsoft.Storage/storageAccounts/queueServices"
_BUILT_IN = {
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": (
        "Storage Blob Data Contributor",
        [f"{_BLOBS}/containers/{each}" for each in ("delete", "read", "write")],
        [f"{_BLOBS}/containers/blobs/{each}" for each in ("delete", "read", "write", "move/action", "add/action")],
    ),
    "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1": (
        "Storage Blob Data Reader",
        [f"{_BLOBS}/containers/read"],
        [f"{_BLOBS}/containers/blobs/read"],
    ),
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": (
        "Storage Queue Data Contributor",
        [f"{_QUEUES}/queues/{each}" for each in ("delete", "read", "write")],
        [f"{_QUEUES}/queues/messages/{each}" for each in ("delete", "read", "write", "process/action")],
    ),
}
"""Names, actions and data actions of "Azure built-in roles for Storage"."""


@attrs.define
class Roles:
    """All roles."""

    subscription: str
    principals: set[str] = attrs.field(factory=lambda: {PERSON})
    """Object ids in the directory."""
    unknown_principals: int = 0
    """Number of next assignments to an identity that is not in the directory yet."""
    unknown_roles: int = 0
    """Number of next assignments of a custom role that is not known yet."""
    definitions: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    """Custom roles by name of the definition."""
    assignments: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    """By name of the assignment."""

    def routes(self) -> Iterator[tuple[str, str, Callable[[Request], Any]]]:
        """Yield methods, paths and handlers."""
        yield "GET", _DEFINITIONS, self._list_definitions
        yield "GET", rf"{_DEFINITIONS}/(?P<name>[^/]+)", self._get_definition
        yield "PUT", rf"{_DEFINITIONS}/(?P<name>[^/]+)", self._put_definition
        yield "DELETE", rf"{_DEFINITIONS}/(?P<name>[^/]+)", self._delete_definition
        yield "GET", _ASSIGNMENTS, self._list_assignments
        yield "PUT", rf"{_ASSIGNMENTS}/(?P<name>[^/]+)", self._put_assignment
        yield "DELETE", rf"{_ASSIGNMENTS}/(?P<name>[^/]+)", self._delete_assignment

    def name_of(self, role_id: str) -> str:
        """Return the display name of a role."""
        number = role_id.rpartition("/")[2]
        if number in _BUILT_IN:
            return _BUILT_IN[number][0]
        return str(self.definitions[number]["properties"]["roleName"])

    # -- definitions --

    def _built_in(self, number: str) -> dict[str, Any]:
        name, actions, data_actions = _BUILT_IN[number]
        permission = {"actions": actions, "notActions": [], "dataActions": data_actions, "notDataActions": []}
        properties = {"roleName": name, "type": "BuiltInRole", "permissions": [permission], "assignableScopes": ["/"]}
        return self._definition(number, properties)

    def _definition(self, number: str, properties: dict[str, Any]) -> dict[str, Any]:
        path = f"/subscriptions/{self.subscription}/providers/Microsoft.Authorization/roleDefinitions/{number}"
        return {"id": path, "name": number, "type": "Microsoft.Authorization/roleDefinitions", "properties": properties}

    def _list_definitions(self, request: Request) -> Any:
        text = request.query.get("$filter", "")
        match = re.fullmatch(r"roleName eq '([^']*)'", text)
        if text and match is None:
            raise ArmError(400, "UnsupportedQuery", f"The filter '{text}' is not supported.")
        found = [*map(self._built_in, _BUILT_IN), *self.definitions.values()]
        return {"value": [each for each in found if match is None or each["properties"]["roleName"] == match[1]]}

    def _get_definition(self, request: Request) -> Any:
        number = request.groups["name"]
        if number in _BUILT_IN:
            return self._built_in(number)
        if number not in self.definitions:
            raise ArmError(404, "RoleDefinitionDoesNotExist", f"The role definition '{number}' does not exist.")
        return self.definitions[number]

    def _put_definition(self, request: Request) -> Answer:
        number = request.groups["name"]
        properties = body_of_kind(request, "Microsoft.Authorization/roleDefinitions")["properties"]
        others = [each for name, each in self.definitions.items() if name != number]
        if any(each["properties"]["roleName"] == properties["roleName"] for each in others):
            message = "A custom role with the same name already exists in this directory. Use a different name."
            raise ArmError(409, "RoleDefinitionWithSameNameExists", message)
        if not properties.get("assignableScopes") or properties.get("type") != "CustomRole":
            raise ArmError(400, "InvalidRoleDefinition", "The role definition is not valid.")
        self.definitions[number] = self._definition(number, properties)
        return Answer(status=201, body=self.definitions[number])

    def _delete_definition(self, request: Request) -> Answer:
        number = request.groups["name"]
        if any(each["properties"]["roleDefinitionId"].endswith(number) for each in self.assignments.values()):
            message = f"There are existing role assignments referencing role '{number}'."
            raise ArmError(400, "RoleDefinitionHasAssignments", message)
        found = self.definitions.pop(number, None)
        return Answer(status=204) if found is None else Answer(status=200, body=found)

    # -- assignments --

    def _list_assignments(self, request: Request) -> Any:
        scope, text = request.groups["scope"].lower(), request.query.get("$filter", "")
        match = re.fullmatch(r"(atScope\(\))?(?: and )?(?:(?:assignedTo\('|principalId eq ')([^']*)'\)?)?", text)
        if match is None:
            raise ArmError(400, "UnsupportedQuery", f"The filter '{text}' is not supported.")
        return {"value": [each for each in self.assignments.values() if _fits(each["properties"], scope, match)]}

    def _put_assignment(self, request: Request) -> Answer:
        name, scope = request.groups["name"], request.groups["scope"]
        given = body_of_kind(request, "Microsoft.Authorization/roleAssignments")["properties"]
        number, principal = given["roleDefinitionId"].rpartition("/")[2], given["principalId"]
        if number not in _BUILT_IN and (number not in self.definitions or self._counts_down("unknown_roles")):
            message = f"The specified role definition with ID '{number}' does not exist."
            raise ArmError(400, "RoleDefinitionDoesNotExist", message)
        is_new = given.get("principalType") == "ServicePrincipal" and self._counts_down("unknown_principals")
        if principal not in self.principals or is_new:
            message = f"Principal {principal.replace('-', '')} does not exist in the directory 0000."
            raise ArmError(400, "PrincipalNotFound", message)
        known = [
            each
            for each in self.assignments.values()
            if (each["properties"]["scope"].lower(), each["properties"]["principalId"]) == (scope.lower(), principal)
            and each["properties"]["roleDefinitionId"].rpartition("/")[2] == number
        ]
        if known:
            raise ArmError(409, "RoleAssignmentExists", "The role assignment already exists.")
        if name in self.assignments:
            message = "Tenant ID, application ID, principal ID, and scope are not allowed to be updated."
            raise ArmError(409, "RoleAssignmentUpdateNotPermitted", message)
        kind = "Microsoft.Authorization/roleAssignments"
        resource = {"id": request.path, "name": name, "type": kind, "properties": {**given, "scope": scope}}
        self.assignments[name] = resource
        return Answer(status=201, body=resource)

    def _delete_assignment(self, request: Request) -> Answer:
        found = self.assignments.pop(request.groups["name"], None)
        return Answer(status=204) if found is None else Answer(status=200, body=found)

    def _counts_down(self, name: str) -> bool:
        left: int = getattr(self, name)
        setattr(self, name, max(0, left - 1))
        return left > 0


def _fits(given: dict[str, Any], scope: str, match: re.Match[str]) -> bool:
    own = f"{given['scope'].lower()}/"
    is_above = f"{scope}/".startswith(own)
    is_here = is_above or (match[1] is None and own.startswith(f"{scope}/"))
    return is_here and match[2] in (None, given["principalId"])
