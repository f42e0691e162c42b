"""Account endpoints for doctor checks: providers, permissions, and single resources by id.

Shapes of "Providers - Get", "Permissions - List For Resource Group" and "Resources - Get By Id" in the REST reference.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import attrs
from fake_server import Answer, Request

if TYPE_CHECKING:
    from arm_fake import ArmFake

__all__ = ["Account", "serve_account"]

_OWNER = {"actions": ["*"], "notActions": []}


@attrs.define(kw_only=True)
class Account:
    """State of the account, changed by tests."""

    registered: set[str] = attrs.field(factory=lambda: {"Microsoft.Network", "Microsoft.Storage"})
    permissions: list[dict[str, Any]] | None = attrs.field(factory=lambda: [_OWNER])
    """None: listing them is denied."""
    worker_role: list[str] | None = attrs.field(factory=lambda: ["Microsoft.Compute/virtualMachines/delete"])
    """Actions of the role of every identity; None: it has none."""
    worker_data: list[str] = attrs.field(factory=lambda: ["*"])
    """Data actions of that role."""
    resources: set[str] = attrs.field(factory=set)
    """Ids of existing resources."""


def serve_account(fake: ArmFake) -> Account:
    """Add the account endpoints to a fake."""
    account = Account()
    root = rf"(?i)/subscriptions/{re.escape(fake.cloud.subscription)}"

    def provider(request: Request) -> Any:
        name = request.groups["name"]
        state = "Registered" if name in account.registered else "NotRegistered"
        return {"namespace": name, "registrationState": state, "resourceTypes": []}

    def permissions(request: Request) -> Any:
        if account.permissions is None:
            error = {"code": "AuthorizationFailed", "message": "The client does not have authorization."}
            return Answer(status=403, body={"error": error})
        half = len(account.permissions) // 2
        if "$skiptoken" in request.query:
            return {"value": account.permissions[half:]}
        link = f"{fake.url}{request.path}?api-version=2022-04-01&$skiptoken=1"
        return {"value": account.permissions[:half], "nextLink": link}

    def resource(request: Request) -> Any:
        if request.path.lower() not in {each.lower() for each in account.resources}:
            name = request.path.rpartition("/")[2]
            error = {"code": "ResourceNotFound", "message": f"The Resource '{name}' was not found."}
            return Answer(status=404, body={"error": error})
        found = {"id": request.path, "name": request.path.rpartition("/")[2]}
        return {**found, "properties": {"principalId": "principal-1"}}

    role_id = f"/subscriptions/{fake.cloud.subscription}/providers/Microsoft.Authorization/roleDefinitions/worker"

    def assignments(request: Request) -> Any:
        if request.query.get("$filter") != "assignedTo('principal-1')":
            error = {"code": "UnsupportedQuery", "message": "The filter is not supported."}
            return Answer(status=400, body={"error": error})
        entry = {"properties": {"roleDefinitionId": role_id, "principalId": "principal-1"}}
        return {"value": [entry] if account.worker_role is not None else []}

    def role(request: Request) -> Any:
        permission = {"actions": account.worker_role, "notActions": [], "dataActions": account.worker_data}
        return {"id": role_id, "properties": {"permissions": [permission]}}

    fake.server.route("GET", rf"{root}/providers/(?P<name>Microsoft\.(?:Network|Storage))", provider)
    fake.server.route(
        "GET", rf"{root}(?:/resourceGroups/[^/]+)?/providers/Microsoft\.Authorization/permissions", permissions
    )
    authorization = rf"{root}/providers/Microsoft\.Authorization"
    fake.server.route("GET", rf"{authorization}/roleAssignments", assignments)
    fake.server.route("GET", rf"{authorization}/roleDefinitions/worker", role)
    single = r"userAssignedIdentities/[^/]+|virtualNetworks/[^/]+/subnets/[^/]+"
    fake.server.route("GET", rf"{root}/resourceGroups/[^/]+/providers/Microsoft\.\w+/(?:{single})", resource)
    return account
