"""A new subscription: resource providers, groups and identities, with what else a setup changes, and what it may not.

`serve_setup` puts this before the other routes of the fake, which answer for a subscription that is in use. Sources:
"Resource providers and types" and "Troubleshoot common Azure deployment errors" in the documentation of Resource
Manager, and "User Assigned Identities" in the REST reference.
"""

from __future__ import annotations

import functools
import re
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
from arm_models import body_of_kind
from arm_records import ArmError
from arm_roles import PERSON, Roles
from arm_storage import StorageAccounts
from azure.storage.blob import BlobServiceClient
from fake_server import Answer, Request

if TYPE_CHECKING:
    from arm_fake import ArmFake

__all__ = ["Subscription", "serve_setup"]

_NAMESPACES = ("Microsoft.Compute", "Microsoft.Network", "Microsoft.Storage", "Microsoft.ManagedIdentity")
_ROOT = r"(?i)/subscriptions/(?P<subscription>[^/]+)"
_GROUP = rf"{_ROOT}/resourceGroups/(?P<group>[^/]+)"
_IDENTITY = rf"{_GROUP}/providers/Microsoft\.ManagedIdentity/userAssignedIdentities/(?P<name>[^/]+)"
_MSI = "Microsoft.ManagedIdentity/userAssignedIdentities"
_VERBS = {"GET": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}


@attrs.define(kw_only=True)
class Subscription:
    """The fake's further state; tests read and change the fields."""

    fake: ArmFake
    roles: Roles
    storage: StorageAccounts
    states: dict[str, str] = attrs.field(factory=lambda: dict.fromkeys(_NAMESPACES, "NotRegistered"))
    """Registration states of the resource providers."""
    polls: int = 1
    """Answers "Registering" before a provider is registered."""
    denied: set[str] = attrs.field(factory=set)
    """Actions that the signed-in person may not do."""
    conflicts: int = 0
    """Number of next changes that are refused because of another request."""
    changes: list[tuple[str, str]] = attrs.field(factory=list)
    """Method and path of each request that changes something."""
    _left: dict[str, int] = attrs.field(factory=dict)
    """Answers until the end of a registration."""

    def serve(self) -> None:
        """Add the routes."""
        names = "|".join(re.escape(each) for each in _NAMESPACES)
        self._route("GET", rf"{_ROOT}/providers/(?P<name>{names})", self._provider)
        self._route("POST", rf"{_ROOT}/providers/(?P<name>{names})/register", self._register)
        self._route("PUT", _GROUP, self._put_group)
        self._route("DELETE", _GROUP, self._delete_group)
        self._route("PUT", _IDENTITY, self._put_identity)
        self._route("GET", _IDENTITY, self._get_identity)
        self._route("DELETE", _IDENTITY, self._delete_identity)
        for method, path, handler in (*self.storage.routes(), *self.roles.routes()):
            self._route(method, path, handler)

    def _route(self, method: str, path: str, handler: Callable[[Request], Any]) -> None:
        answer = functools.partial(self.fake.answer, functools.partial(self._checked, handler))
        self.fake.server.route(method, path, answer)

    def _checked(self, handler: Callable[[Request], Any], request: Request) -> Any:
        """Answer a request that is allowed, and does not collide with another one."""
        with self.fake.cloud.lock:
            action = _action(request)
            if action.lower() in {each.lower() for each in self.denied}:
                message = (
                    f"The client 'ada@example.org' with object id '{PERSON}' does not have authorization to perform"
                    f" action '{action}' over scope '{request.path}' or the scope is invalid. If access was recently"
                    " granted, please refresh your credentials."
                )
                raise ArmError(403, "AuthorizationFailed", message)
            if request.method != "GET":
                self.changes.append((request.method, request.path))
                if self.conflicts and request.method != "POST":
                    self.conflicts -= 1
                    message = "Another operation on this or dependent resource is in progress."
                    raise ArmError(409, "AnotherOperationInProgress", message)
            return handler(request)

    def _provider(self, request: Request) -> Any:
        name = _canonical(request.groups["name"])
        if self.states[name] == "Registering" and self._is_over(name):
            self.states[name] = "Registered"
        found = self.fake.provider(request) if name == "Microsoft.Compute" else {"resourceTypes": []}
        state = self.states[name]
        return {**found, "id": request.path, "namespace": name, "registrationState": state}

    def _register(self, request: Request) -> Any:
        name = _canonical(request.groups["name"])
        if self.states[name] != "Registered":
            self.states[name] = "Registering"
            self._left[name] = self.polls
        return {"id": request.path, "namespace": name, "registrationState": self.states[name]}

    def _is_over(self, name: str) -> bool:
        self._left[name] -= 1
        return self._left[name] < 0

    def require(self, namespace: str) -> None:
        """Raise `ArmError` unless a resource provider is registered."""
        if self.states[namespace] != "Registered":
            message = f"The subscription is not registered to use namespace '{namespace}'."
            raise ArmError(409, "MissingSubscriptionRegistration", message)

    # groups and identities

    def _put_group(self, request: Request) -> Any:
        body = body_of_kind(request, "Microsoft.Resources/resourceGroups")
        return self.fake.cloud.put_group(request.groups["group"], body)

    def _delete_group(self, request: Request) -> Any:
        self.storage.forget(f"{request.path.lower()}/")
        return self.fake.delete_group(request)

    def _put_identity(self, request: Request) -> Any:
        self.require("Microsoft.ManagedIdentity")
        known = self.fake.cloud.resources.get(request.path.lower())
        resource = self.fake.cloud.put_plain(request.path, _MSI, body_of_kind(request, _MSI))
        given = {"principalId": str(uuid.uuid4()), "clientId": str(uuid.uuid4())}
        resource["properties"] = known["properties"] if known is not None else given
        self.roles.principals.add(resource["properties"]["principalId"])
        return Answer(status=200 if known is not None else 201, body=resource)

    def _get_identity(self, request: Request) -> Any:
        self.fake.cloud.group(request.groups["group"])
        found = self.fake.cloud.resources.get(request.path.lower())
        if found is None:
            raise ArmError(404, "ResourceNotFound", f"The Resource '{request.groups['name']}' was not found.")
        return found

    def _delete_identity(self, request: Request) -> Answer:
        found = self.fake.cloud.resources.pop(request.path.lower(), None)
        if found is not None:
            self.roles.principals.discard(found["properties"]["principalId"])
        return Answer(status=200 if found is not None else 204)


def serve_setup(fake: ArmFake, storage: str) -> Subscription:
    """Add the endpoints of a new subscription.

    Args:
        storage: Connection string of the account behind every storage account.
    """
    blobs = BlobServiceClient.from_connection_string(storage)
    accounts = StorageAccounts(cloud=fake.cloud, url=fake.url, blobs=blobs)
    state = Subscription(fake=fake, roles=Roles(fake.cloud.subscription), storage=accounts)
    accounts.require_provider = functools.partial(state.require, "Microsoft.Storage")
    state.serve()
    return state


def _canonical(name: str) -> str:
    return next(each for each in _NAMESPACES if each.lower() == name.lower())


def _action(request: Request) -> str:
    """Return the permission for a request: the types of its path, and what it does."""
    parts = request.path.strip("/").split("/")
    start = max(number for number, part in enumerate(["", *parts]) if part.lower() == "providers" or not part)
    types = parts[start:]
    if request.method == "POST":
        return f"{'/'.join(types)}/action"
    if "providers" not in [part.lower() for part in parts]:
        types = ["Microsoft.Resources", "subscriptions", "s", "resourceGroups", "g"]
    if len(types) == 1:
        return f"Microsoft.Resources/subscriptions/providers/{_VERBS[request.method]}"
    return "/".join([types[0], *types[1::2], _VERBS[request.method]]).replace("/default", "")
