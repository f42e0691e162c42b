"""A new subscription: resource providers, groups, identities and storage accounts, and the signed-in person.

`serve_setup` puts this before the other routes of the fake, which answer for a subscription that is in use. Sources:
"Resources Providers", "Storage Accounts", "Blob Containers" and "Management Policies" in the REST reference, "Resolve
errors for storage account names", and for the refusals "Troubleshoot common Azure deployment errors".
"""

from __future__ import annotations

import functools
import itertools
import re
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs
from arm_models import problems_of
from arm_records import ArmError
from arm_roles import PERSON, Roles
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import BlobServiceClient
from fake_server import Answer, Request

if TYPE_CHECKING:
    from arm_fake import ArmFake

__all__ = ["Subscription", "body_of_kind", "serve_setup"]

_NAMESPACES = ("Microsoft.Compute", "Microsoft.Network", "Microsoft.Storage", "Microsoft.ManagedIdentity")
_ROOT = r"(?i)(?P<root>/subscriptions/(?P<subscription>[^/]+))"
_GROUP = rf"{_ROOT}/resourceGroups/(?P<group>[^/]+)"
_IDENTITY = rf"{_GROUP}/providers/Microsoft\.ManagedIdentity/userAssignedIdentities/(?P<name>[^/]+)"
_ACCOUNT = rf"{_GROUP}/providers/Microsoft\.Storage/storageAccounts/(?P<account>[^/]+)"
_CONTAINER = rf"{_ACCOUNT}/blobServices/default/containers/(?P<name>[^/]+)"
_POLICY = rf"{_ACCOUNT}/managementPolicies/default"
_CONTENT = rf"{_ACCOUNT}/(?P<service>\w+Services)/default/(?P<kind>queues|containers|shares|tables)"
_STORAGE, _MSI = "Microsoft.Storage/storageAccounts", "Microsoft.ManagedIdentity/userAssignedIdentities"
_VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}


@attrs.define(kw_only=True)
class Subscription:
    """State that only a setup changes; tests read and change it."""

    roles: Roles
    states: dict[str, str] = attrs.field(factory=lambda: dict.fromkeys(_NAMESPACES, "NotRegistered"))
    """Registration states of the resource providers."""
    polls: int = 1
    """Answers "Registering" or "Creating" before each end."""
    taken: set[str] = attrs.field(factory=set)
    """Names of storage accounts of other subscriptions."""
    denied: set[str] = attrs.field(factory=set)
    """Actions that the signed-in person may not do."""
    conflicts: int = 0
    """Number of next changes that are refused because of another request."""
    containers: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    """By resource id in lower case."""
    policies: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    """Lifecycle policies by the id of their account in lower case."""
    content: dict[str, list[str]] = attrs.field(factory=dict)
    """Names of queues, shares and tables in the accounts."""
    changes: list[tuple[str, str]] = attrs.field(factory=list)
    """Method and path of each request that changes something."""
    running: dict[str, int] = attrs.field(factory=dict)
    """Polls until the end of a registration or creation, by its name."""


def body_of_kind(request: Request, kind: str) -> dict[str, Any]:
    """Return the body of a request. Raises `ArmError` if it does not fit Microsoft's model."""
    body: dict[str, Any] = request.json()
    problems = problems_of(kind, body)
    if problems:
        message = f"The request content was invalid and could not be deserialized: {'; '.join(problems)}"
        raise ArmError(400, "InvalidRequestContent", message)
    return body


def serve_setup(fake: ArmFake, storage: str) -> Subscription:
    """Add the endpoints of a new subscription.

    Args:
        storage: Connection string of the account behind every storage account.
    """
    state = Subscription(roles=Roles(fake.cloud.subscription))
    serving = _Serving(fake, state, BlobServiceClient.from_connection_string(storage))

    def route(method: str, path: str, handler: Callable[[Request], Any]) -> None:
        fake.server.route(method, path, functools.partial(fake.answer, functools.partial(serving.checked, handler)))

    names = "|".join(re.escape(each) for each in _NAMESPACES)
    route("GET", rf"{_ROOT}/providers/(?P<name>{names})", serving.provider)
    route("POST", rf"{_ROOT}/providers/(?P<name>{names})/register", serving.register)
    route("POST", rf"{_ROOT}/providers/Microsoft\.Storage/checkNameAvailability", serving.check_name)
    route("PUT", _GROUP, serving.put_group)
    route("DELETE", _GROUP, serving.delete_group)
    route("PUT", _IDENTITY, serving.put_identity)
    route("GET", _IDENTITY, serving.get)
    route("DELETE", _IDENTITY, serving.delete)
    route("PUT", _ACCOUNT, serving.put_account)
    route("PATCH", _ACCOUNT, serving.patch_account)
    route("GET", _ACCOUNT, serving.get)
    route("DELETE", _ACCOUNT, serving.delete)
    route("GET", rf"{_ROOT}/providers/Microsoft\.Storage/locations/\w+/asyncoperations/(?P<name>\w+)", serving.poll)
    route("GET", _CONTENT, serving.listing)
    route("PUT", _CONTAINER, serving.put_container)
    route("PATCH", _CONTAINER, serving.put_container)
    route("GET", _CONTAINER, serving.get_container)
    route("DELETE", _CONTAINER, serving.delete_container)
    route("GET", _POLICY, serving.get_policy)
    route("PUT", _POLICY, serving.put_policy)
    route("DELETE", _POLICY, serving.delete_policy)
    for method, path, handler in state.roles.routes():
        route(method, path, handler)
    return state


class _Serving:
    def __init__(self, fake: ArmFake, state: Subscription, blobs: BlobServiceClient) -> None:
        self._cloud = fake.cloud
        self._fake = fake
        self._state = state
        self._blobs = blobs
        self._numbers = itertools.count(1)
        self._creations: dict[str, str] = {}
        """Paths of accounts by the name of the operation that makes them."""

    def checked(self, handler: Callable[[Request], Any], request: Request) -> Any:
        """Answer a request that is allowed, and does not collide with another one."""
        with self._cloud.lock:
            action = _action(request)
            if action.lower() in {each.lower() for each in self._state.denied}:
                message = (
                    f"The client 'ada@example.org' with object id '{PERSON}' does not have authorization to perform"
                    f" action '{action}' over scope '{request.path}' or the scope is invalid. If access was recently"
                    " granted, please refresh your credentials."
                )
                raise ArmError(403, "AuthorizationFailed", message)
            if request.method != "GET":
                self._state.changes.append((request.method, request.path))
                if self._state.conflicts and request.method != "POST":
                    self._state.conflicts -= 1
                    message = "Another operation on this or dependent resource is in progress."
                    raise ArmError(409, "AnotherOperationInProgress", message)
            return handler(request)

    # resource providers

    def provider(self, request: Request) -> Any:
        name = _canonical(request.groups["name"])
        if self._state.states[name] == "Registering" and self._is_over(name):
            self._state.states[name] = "Registered"
        found = self._fake.provider(request) if name == "Microsoft.Compute" else {"resourceTypes": []}
        state = self._state.states[name]
        return {**found, "id": request.path, "namespace": name, "registrationState": state}

    def register(self, request: Request) -> Any:
        name = _canonical(request.groups["name"])
        if self._state.states[name] != "Registered":
            self._state.states[name] = "Registering"
            self._state.running[name] = self._state.polls
        return {"id": request.path, "namespace": name, "registrationState": self._state.states[name]}

    def _is_over(self, name: str) -> bool:
        self._state.running[name] -= 1
        return self._state.running[name] < 0

    def _require(self, namespace: str) -> None:
        if self._state.states[namespace] != "Registered":
            message = f"The subscription is not registered to use namespace '{namespace}'."
            raise ArmError(409, "MissingSubscriptionRegistration", message)

    # groups, identities and other resources

    def put_group(self, request: Request) -> Any:
        body = body_of_kind(request, "Microsoft.Resources/resourceGroups")
        return self._cloud.put_group(request.groups["group"], body)

    def delete_group(self, request: Request) -> Any:
        within = f"{request.path.lower()}/"
        self._forget(within)
        return self._fake.delete_group(request)

    def put_identity(self, request: Request) -> Any:
        self._require("Microsoft.ManagedIdentity")
        known = self._cloud.resources.get(request.path.lower())
        resource = self._put(request, _MSI, body_of_kind(request, _MSI))
        given = {"principalId": str(uuid.uuid4()), "clientId": str(uuid.uuid4())}
        resource["properties"] = known["properties"] if known is not None else given
        self._state.roles.principals.add(resource["properties"]["principalId"])
        return Answer(status=200 if known is not None else 201, body=resource)

    def _put(self, request: Request, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        group = self._cloud.group(request.groups["group"])
        if group["properties"]["provisioningState"] == "Deleting":
            raise ArmError(409, "ResourceGroupBeingDeleted", f"The group '{group['name']}' is being deleted.")
        resource = {**body, "id": request.path, "name": request.path.rpartition("/")[2], "type": kind}
        self._cloud.resources[request.path.lower()] = resource
        return resource

    def get(self, request: Request) -> Any:
        self._cloud.group(request.groups["group"])
        return self._found(request.path)

    def _found(self, path: str) -> dict[str, Any]:
        found = self._cloud.resources.get(path.lower())
        if found is None:
            raise ArmError(404, "ResourceNotFound", f"The Resource '{path.rpartition('/')[2]}' was not found.")
        return found

    def delete(self, request: Request) -> Answer:
        found = self._cloud.resources.pop(request.path.lower(), None)
        self._forget(f"{request.path.lower()}/")
        self._state.policies.pop(request.path.lower(), None)
        if found is not None and "principalId" in found["properties"]:
            self._state.roles.principals.discard(found["properties"]["principalId"])
        return Answer(status=200 if found is not None else 204)

    def _forget(self, within: str) -> None:
        for path in [path for path in self._state.containers if path.startswith(within)]:
            self._drop(path)
        for path in [path for path in self._state.policies if path.startswith(within)]:
            del self._state.policies[path]

    # storage accounts

    def check_name(self, request: Request) -> Any:
        self._require("Microsoft.Storage")
        name = body_of_kind(request, "checkNameAvailability")["name"]
        if not self._owners(name):
            return {"nameAvailable": True}
        message = f"The storage account named {name} is already taken."
        return {"nameAvailable": False, "reason": "AlreadyExists", "message": message}

    def _owners(self, name: str) -> list[str]:
        own = [path for path in self._cloud.resources if path.endswith(f"/storageaccounts/{name}")]
        return [*own, *({name} & self._state.taken)]

    def put_account(self, request: Request) -> Any:
        self._require("Microsoft.Storage")
        name, body = request.groups["account"], body_of_kind(request, _STORAGE)
        if not re.fullmatch(r"[a-z0-9]{3,24}", name):
            raise ArmError(400, "AccountNameInvalid", f"{name} is not a valid storage account name.")
        if name in self._state.taken:
            raise ArmError(409, "StorageAccountAlreadyTaken", f"The storage account named {name} is already taken.")
        known = self._cloud.resources.get(request.path.lower())
        if known is None and self._owners(name):
            message = f"The account {name} is already in another resource group in this subscription."
            raise ArmError(409, "StorageAccountInAnotherResourceGroup", message)
        if known is not None:
            self._provisioned(known)
        resource = self._put(request, _STORAGE, body)
        resource["properties"] = {
            # Properties of an account are those of its creation.
            "supportsHttpsTrafficOnly": True,
            "minimumTlsVersion": "TLS1_0",
            **body.get("properties", {}),
            "provisioningState": "Creating",
        }
        operation = f"op{next(self._numbers)}"
        self._state.running[operation] = self._state.polls
        self._creations[operation] = request.path
        url = f"{self._fake.url}{request.groups['root']}/providers/Microsoft.Storage/locations/eastus/asyncoperations"
        return Answer(status=202, headers={"Location": f"{url}/{operation}?monitor=true&api-version=2023-05-01"})

    def poll(self, request: Request) -> Any:
        name = request.groups["name"]
        if not self._is_over(name):
            return Answer(status=202, headers={"Location": f"{self._fake.url}{request.path}?api-version=2023-05-01"})
        account = self._found(self._creations[name])
        account["properties"]["provisioningState"] = "Succeeded"
        return account

    @staticmethod
    def _provisioned(account: dict[str, Any]) -> None:
        if account["properties"]["provisioningState"] != "Succeeded":
            message = "The storage account provisioning state must be 'Succeeded' before executing the operation."
            raise ArmError(409, "StorageAccountIsNotProvisioned", message)

    def patch_account(self, request: Request) -> Any:
        account = self._found(request.path)
        self._provisioned(account)
        body = body_of_kind(request, f"change of {_STORAGE}")
        account["properties"] |= body.get("properties", {})
        return account

    # content of accounts

    def _account(self, request: Request) -> dict[str, Any]:
        groups = request.groups
        of_group = f"{groups['root']}/resourceGroups/{groups['group']}"
        return self._found(f"{of_group}/providers/{_STORAGE}/{groups['account']}")

    def listing(self, request: Request) -> Any:
        account, kind = self._account(request), request.groups["kind"]
        if kind == "containers":
            within = f"{account['id'].lower()}/"
            return {"value": [each for path, each in self._state.containers.items() if path.startswith(within)]}
        return {"value": [{"id": f"{request.path}/{each}", "name": each} for each in self._state.content.get(kind, [])]}

    def put_container(self, request: Request) -> Any:
        self._provisioned(self._account(request))
        name, body = request.groups["name"], body_of_kind(request, "blobServices/containers")
        known = self._state.containers.get(request.path.lower())
        if request.method == "PATCH" and known is None:
            raise ArmError(404, "ContainerNotFound", "The specified container does not exist.")
        properties = {**(known["properties"] if known is not None else {}), **body.get("properties", {})}
        found = {"id": request.path, "name": name, "type": f"{_STORAGE}/blobServices/containers"}
        self._state.containers[request.path.lower()] = {**found, "etag": str(uuid.uuid4()), "properties": properties}
        with suppress(ResourceExistsError):
            self._blobs.create_container(name)
        return Answer(status=200 if known is not None else 201, body=self._state.containers[request.path.lower()])

    def get_container(self, request: Request) -> Any:
        self._account(request)
        found = self._state.containers.get(request.path.lower())
        if found is None:
            raise ArmError(404, "ContainerNotFound", "The specified container does not exist.")
        return found

    def delete_container(self, request: Request) -> Answer:
        if request.path.lower() not in self._state.containers:
            return Answer(status=204)
        self._drop(request.path.lower())
        return Answer(status=200)

    def _drop(self, path: str) -> None:
        with suppress(ResourceNotFoundError):
            self._blobs.delete_container(self._state.containers.pop(path)["name"])

    def get_policy(self, request: Request) -> Any:
        account = self._account(request)
        policy = self._state.policies.get(account["id"].lower())
        if policy is None:
            message = f"No ManagementPolicy found for account {account['name']}"
            raise ArmError(404, "ManagementPolicyNotFound", message)
        return {"id": request.path, "name": "DefaultManagementPolicy", "properties": policy}

    def put_policy(self, request: Request) -> Any:
        account = self._account(request)
        self._provisioned(account)
        self._state.policies[account["id"].lower()] = body_of_kind(request, "managementPolicies")["properties"]
        return self.get_policy(request)

    def delete_policy(self, request: Request) -> Answer:
        found = self._state.policies.pop(self._account(request)["id"].lower(), None)
        return Answer(status=200 if found is not None else 204)


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
