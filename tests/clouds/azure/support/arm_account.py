"""What a subscription tells of itself, for the doctor: providers, permissions, and single resources by id.

Shapes of "Providers - Get", "Permissions - List For Resource Group" and "Resources - Get By Id" in the REST reference.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import attrs
from cloud_wire import Answer, Request

if TYPE_CHECKING:
    from arm_fake import ArmFake

__all__ = ["Account", "serve_account"]

_OWNER = {"actions": ["*"], "notActions": []}


@attrs.define(kw_only=True)
class Account:
    """What there is; tests change it."""

    registered: set[str] = attrs.field(factory=lambda: {"Microsoft.Network", "Microsoft.Storage"})
    permissions: list[dict[str, Any]] | None = attrs.field(factory=lambda: [_OWNER])
    """None: they may not be listed."""
    resources: set[str] = attrs.field(factory=set)
    """Ids."""


def serve_account(fake: ArmFake) -> Account:
    """Add the account's own paths to a stand-in."""
    account = Account()
    root = rf"(?i)/subscriptions/{re.escape(fake.cloud.subscription)}"

    def provider(request: Request) -> Any:
        name = request.groups["name"]
        state = "Registered" if name in account.registered else "NotRegistered"
        return {"namespace": name, "registrationState": state, "resourceTypes": []}

    def permissions(request: Request) -> Any:
        if account.permissions is None:
            told = {"code": "AuthorizationFailed", "message": "The client does not have authorization."}
            return Answer(status=403, body={"error": told})
        half = len(account.permissions) // 2
        if "$skiptoken" in request.query:
            return {"value": account.permissions[half:]}
        link = f"{fake.url}{request.path}?api-version=2022-04-01&$skiptoken=1"
        return {"value": account.permissions[:half], "nextLink": link}

    def resource(request: Request) -> Any:
        if request.path.lower() not in {each.lower() for each in account.resources}:
            name = request.path.rpartition("/")[2]
            told = {"code": "ResourceNotFound", "message": f"The Resource '{name}' was not found."}
            return Answer(status=404, body={"error": told})
        return {"id": request.path, "name": request.path.rpartition("/")[2]}

    fake.wire.route("GET", rf"{root}/providers/(?P<name>Microsoft\.(?:Network|Storage))", provider)
    fake.wire.route(
        "GET", rf"{root}(?:/resourceGroups/[^/]+)?/providers/Microsoft\.Authorization/permissions", permissions
    )
    single = r"userAssignedIdentities/[^/]+|virtualNetworks/[^/]+/subnets/[^/]+"
    fake.wire.route("GET", rf"{root}/resourceGroups/[^/]+/providers/Microsoft\.\w+/(?:{single})", resource)
    return account
