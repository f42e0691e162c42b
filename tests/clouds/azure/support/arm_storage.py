"""Storage accounts of a subscription with their containers and lifecycle policies.

Sources: "Storage Accounts", "Blob Containers" and "Management Policies" in the REST reference (2023-05-01), and
"Resolve errors for storage account names" for the refusals. Containers exist in the emulator of Blob Storage, too.
"""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import attrs
from arm_cloud import Cloud
from arm_models import body_of_kind
from arm_records import ArmError
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import BlobServiceClient
from fake_server import Answer, Request

__all__ = ["StorageAccounts"]

_ROOT = r"(?i)(?P<root>/subscriptions/(?P<subscription>[^/]+))"
_ACCOUNT = rf"{_ROOT}/resourceGroups/(?P<group>[^/]+)/providers/Microsoft\.Storage/storageAccounts/(?P<account>[^/]+)"
_CONTAINER = rf"{_ACCOUNT}/blobServices/default/containers/(?P<name>[^/]+)"
_POLICY = rf"{_ACCOUNT}/managementPolicies/default"
_CONTENT = rf"{_ACCOUNT}/\w+Services/default/(?P<kind>queues|containers|shares|tables)"
_OPERATION = rf"{_ROOT}/providers/Microsoft\.Storage/locations/\w+/asyncoperations/(?P<name>\w+)"
_STORAGE = "Microsoft.Storage/storageAccounts"


@attrs.define(kw_only=True)
class StorageAccounts:
    """All accounts; tests read and change the fields."""

    cloud: Cloud
    url: str
    """Of Resource Manager."""
    blobs: BlobServiceClient
    """The account behind every account."""
    require_provider: Callable[[], None] = lambda: None
    """Raises `ArmError` unless the resource provider is registered."""
    taken: set[str] = attrs.field(factory=set)
    """Names of accounts of other subscriptions."""
    polls: int = 1
    """Answers "Creating" before an account exists."""
    containers: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    """By resource id in lower case."""
    policies: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    """Lifecycle policies by the id of their account in lower case."""
    content: dict[str, list[str]] = attrs.field(factory=dict)
    """Names of queues, shares and tables in the accounts, by kind."""
    _creations: dict[str, list[str]] = attrs.field(factory=dict)
    """Paths of accounts by the name of the operation that makes them, once for each answer before its end."""
    _numbers: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))

    def routes(self) -> Iterator[tuple[str, str, Callable[[Request], Any]]]:
        """Yield methods, paths and handlers."""
        yield "POST", rf"{_ROOT}/providers/Microsoft\.Storage/checkNameAvailability", self._check_name
        yield "GET", _OPERATION, self._poll
        yield "PUT", _ACCOUNT, self._put_account
        yield "PATCH", _ACCOUNT, self._patch_account
        yield "GET", _ACCOUNT, self._account
        yield "DELETE", _ACCOUNT, self._delete_account
        yield "GET", _CONTENT, self._list_content
        yield "PUT", _CONTAINER, self._put_container
        yield "PATCH", _CONTAINER, self._put_container
        yield "GET", _CONTAINER, self._get_container
        yield "DELETE", _CONTAINER, self._delete_container
        yield "GET", _POLICY, self._get_policy
        yield "PUT", _POLICY, self._put_policy
        yield "DELETE", _POLICY, self._delete_policy

    def forget(self, within: str) -> None:
        """Delete containers and policies of accounts below a path in lower case."""
        for path in [path for path in self.containers if path.startswith(within)]:
            self._drop(path)
        for path in [path for path in self.policies if f"{path}/".startswith(within)]:
            del self.policies[path]

    def _check_name(self, request: Request) -> Any:
        self.require_provider()
        name = body_of_kind(request, "checkNameAvailability")["name"]
        if not self._owners(name):
            return {"nameAvailable": True}
        message = f"The storage account named {name} is already taken."
        return {"nameAvailable": False, "reason": "AlreadyExists", "message": message}

    def _owners(self, name: str) -> list[str]:
        own = [path for path in self.cloud.resources if path.endswith(f"/storageaccounts/{name}")]
        return [*own, *({name} & self.taken)]

    def _put_account(self, request: Request) -> Any:
        self.require_provider()
        name, body = request.groups["account"], body_of_kind(request, _STORAGE)
        if not re.fullmatch(r"[a-z0-9]{3,24}", name):
            raise ArmError(400, "AccountNameInvalid", f"{name} is not a valid storage account name.")
        if name in self.taken:
            raise ArmError(409, "StorageAccountAlreadyTaken", f"The storage account named {name} is already taken.")
        known = self.cloud.resources.get(request.path.lower())
        if known is None and self._owners(name):
            message = f"The account {name} is already in another resource group in this subscription."
            raise ArmError(409, "StorageAccountInAnotherResourceGroup", message)
        if known is not None:
            self._provisioned(known)
        resource = self.cloud.put_plain(request.path, _STORAGE, body)
        resource["properties"] = {
            # Properties of an account are those of its creation.
            "supportsHttpsTrafficOnly": True,
            "minimumTlsVersion": "TLS1_0",
            **body.get("properties", {}),
            "provisioningState": "Creating",
        }
        operation = f"op{next(self._numbers)}"
        self._creations[operation] = [request.path] * (self.polls + 1)
        url = f"{self.url}{request.groups['root']}/providers/Microsoft.Storage/locations/eastus/asyncoperations"
        return Answer(status=202, headers={"Location": f"{url}/{operation}?monitor=true&api-version=2023-05-01"})

    def _poll(self, request: Request) -> Any:
        name = request.groups["name"]
        path = self._creations[name].pop()
        if self._creations[name]:
            return Answer(status=202, headers={"Location": f"{self.url}{request.path}?api-version=2023-05-01"})
        account = self._found(path)
        account["properties"]["provisioningState"] = "Succeeded"
        return account

    @staticmethod
    def _provisioned(account: dict[str, Any]) -> None:
        if account["properties"]["provisioningState"] != "Succeeded":
            message = "The storage account provisioning state must be 'Succeeded' before executing the operation."
            raise ArmError(409, "StorageAccountIsNotProvisioned", message)

    def _patch_account(self, request: Request) -> Any:
        account = self._found(request.path)
        self._provisioned(account)
        body = body_of_kind(request, f"change of {_STORAGE}")
        account["properties"] |= body.get("properties", {})
        return account

    def _account(self, request: Request) -> dict[str, Any]:
        groups = request.groups
        self.cloud.group(groups["group"])
        of_group = f"{groups['root']}/resourceGroups/{groups['group']}"
        return self._found(f"{of_group}/providers/{_STORAGE}/{groups['account']}")

    def _found(self, path: str) -> dict[str, Any]:
        found = self.cloud.resources.get(path.lower())
        if found is None:
            raise ArmError(404, "ResourceNotFound", f"The Resource '{path.rpartition('/')[2]}' was not found.")
        return found

    def _delete_account(self, request: Request) -> Answer:
        found = self.cloud.resources.pop(request.path.lower(), None)
        self.forget(f"{request.path.lower()}/")
        return Answer(status=200 if found is not None else 204)

    def _list_content(self, request: Request) -> Any:
        account, kind = self._account(request), request.groups["kind"]
        if kind == "containers":
            within = f"{account['id'].lower()}/"
            return {"value": [each for path, each in self.containers.items() if path.startswith(within)]}
        return {"value": [{"id": f"{request.path}/{each}", "name": each} for each in self.content.get(kind, [])]}

    def _put_container(self, request: Request) -> Any:
        self._provisioned(self._account(request))
        name, body = request.groups["name"], body_of_kind(request, "blobServices/containers")
        known = self.containers.get(request.path.lower())
        if request.method == "PATCH" and known is None:
            raise ArmError(404, "ContainerNotFound", "The specified container does not exist.")
        properties = {**(known["properties"] if known is not None else {}), **body.get("properties", {})}
        found = {"id": request.path, "name": name, "type": f"{_STORAGE}/blobServices/containers"}
        self.containers[request.path.lower()] = {**found, "etag": str(uuid.uuid4()), "properties": properties}
        with suppress(ResourceExistsError):
            self.blobs.create_container(name)
        return Answer(status=200 if known is not None else 201, body=self.containers[request.path.lower()])

    def _get_container(self, request: Request) -> Any:
        self._account(request)
        found = self.containers.get(request.path.lower())
        if found is None:
            raise ArmError(404, "ContainerNotFound", "The specified container does not exist.")
        return found

    def _delete_container(self, request: Request) -> Answer:
        if request.path.lower() not in self.containers:
            return Answer(status=204)
        self._drop(request.path.lower())
        return Answer(status=200)

    def _drop(self, path: str) -> None:
        with suppress(ResourceNotFoundError):
            self.blobs.delete_container(self.containers.pop(path)["name"])

    def _get_policy(self, request: Request) -> Any:
        account = self._account(request)
        policy = self.policies.get(account["id"].lower())
        if policy is None:
            message = f"No ManagementPolicy found for account {account['name']}"
            raise ArmError(404, "ManagementPolicyNotFound", message)
        return {"id": request.path, "name": "DefaultManagementPolicy", "properties": policy}

    def _put_policy(self, request: Request) -> Any:
        account = self._account(request)
        self._provisioned(account)
        self.policies[account["id"].lower()] = body_of_kind(request, "managementPolicies")["properties"]
        return self._get_policy(request)

    def _delete_policy(self, request: Request) -> Answer:
        found = self.policies.pop(self._account(request)["id"].lower(), None)
        return Answer(status=200 if found is not None else 204)
