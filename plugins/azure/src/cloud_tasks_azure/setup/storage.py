"""The storage account, with the queues of jobs, and its containers.

The name of an account is global. The account is used only if Resource Manager finds it in our resource group: a name of
another subscription is refused. Source of all properties: "Storage Accounts", "Blob Containers" and "Management
Policies" in the REST reference of the storage resource provider.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

import attrs

from cloud_tasks.errors import InputError, NotFoundError, ProviderError
from cloud_tasks.escape import shell_word
from cloud_tasks.plugin import SetupItem, TerraformBlock, TerraformExpression
from cloud_tasks_azure.credentials import is_emulator
from cloud_tasks_azure.queue.account import blob_container
from cloud_tasks_azure.queue.queue_errors import code_of as queue_code_of
from cloud_tasks_azure.queue.queue_errors import translate_errors
from cloud_tasks_azure.settings import AzureSettings
from cloud_tasks_azure.setup.calls import Calls, code_of
from cloud_tasks_azure.setup.group import GROUP_NAME, tag_words
from cloud_tasks_azure.setup.names import LABEL, Names, is_ours

__all__ = ["ACCOUNT_ID", "STORAGE", "account_item", "container_item", "signed_in_to_account"]

STORAGE = "2023-05-01"
"""API version of storage accounts."""
ACCOUNT_ID = TerraformExpression("azurerm_storage_account.cloud_tasks.id")
_KIND, _SKU = "StorageV2", "Standard_LRS"
_NEEDED: Mapping[str, tuple[Any, str]] = {
    "supportsHttpsTrafficOnly": (True, "plain HTTP is possible"),
    "minimumTlsVersion": ("TLS1_2", "TLS before 1.2 is possible"),
    "allowBlobPublicAccess": (False, "public access is possible"),
}
"""Properties with the needed value, and the problem with another one."""
_CONTENT = {
    "queueServices": "queues",
    "blobServices": "containers",
    "fileServices": "shares",
    "tableServices": "tables",
}
_DAYS = 14
_RULE = "cloudTasksStaging"
_METADATA = LABEL.replace("-", "_")
"""Names of metadata are identifiers."""
_ATTEMPTS = 3
_MAX_COUNT = 1000
_NOT_OURS = "setup did not make it"


def account_item(calls: Calls, names: Names) -> SetupItem:
    """Return the item of the account."""

    def wrong() -> dict[str, Any] | None:
        """Return the properties to be corrected; None if the account does not exist."""
        found = calls.find(names.account_id, STORAGE)
        if found is None:
            return None
        if found.get("kind") != _KIND:
            raise InputError(
                f"the storage account {names.account} is of the kind {found.get('kind')}, which is not {_KIND}",
                hint="set azure.storage_account to another name",
            )
        given = found.get("properties") or {}
        return {key: value for key, (value, _) in _NEEDED.items() if not _is_enough(given.get(key), value)}

    def look() -> str:
        properties = wrong()
        if properties is None:
            _check_name(calls, names)
            return "missing"
        return ", ".join(_NEEDED[key][1] for key in properties)

    def make() -> None:
        properties = wrong()
        if properties is None:
            # The keys of the account are not needed: signed-in users have roles.
            needed = {**{key: value for key, (value, _) in _NEEDED.items()}, "allowSharedKeyAccess": False}
            body = {"location": names.region, "kind": _KIND, "sku": {"name": _SKU}, "tags": dict(names.tags)}
            try:
                calls.put(names.account_id, STORAGE, {**body, "properties": needed})
            except ProviderError as error:
                if code_of(error) in ("StorageAccountAlreadyTaken", "StorageAccountInAnotherResourceGroup"):
                    raise _taken(names) from error
                raise
        elif properties:
            calls.patch(names.account_id, STORAGE, {"properties": properties})

    def remove() -> str:
        found = calls.find(names.account_id, STORAGE)
        if found is None:
            return ""
        if not is_ours(found):
            return _NOT_OURS
        for service, kind in _CONTENT.items():
            content = calls.entries(f"{names.account_id}/{service}/default/{kind}", STORAGE)
            if content:
                return f"it has {kind}: {', '.join(str(each['name']) for each in content[:3])}"
        calls.delete(names.account_id, STORAGE)
        return ""

    return SetupItem(
        subject=f"storage account {names.account}",
        purpose="queues of jobs, and files for instances",
        look=look,
        make=make,
        remove=remove,
        commands=(
            f"az storage account create --name {names.account} --resource-group {shell_word(names.group)}"
            f" --location {names.region} --kind {_KIND} --sku {_SKU} --https-only true --min-tls-version TLS1_2"
            f" --allow-blob-public-access false --allow-shared-key-access false {tag_words(names)}"
            f" --subscription {names.subscription}",
        ),
        terraform=(
            TerraformBlock(
                kind="resource",
                labels=("azurerm_storage_account", "cloud_tasks"),
                arguments={
                    "name": names.account,
                    "resource_group_name": GROUP_NAME,
                    "location": names.region,
                    "account_kind": _KIND,
                    "account_tier": _SKU.partition("_")[0],
                    "account_replication_type": _SKU.partition("_")[2],
                    "https_traffic_only_enabled": True,
                    "min_tls_version": "TLS1_2",
                    "allow_nested_items_to_be_public": False,
                    "shared_access_key_enabled": False,
                    "tags": dict(names.tags),
                },
            ),
        ),
    )


def _is_enough(given: Any, needed: Any) -> bool:
    return bool(given == needed or (needed == "TLS1_2" and given == "TLS1_3"))


def _check_name(calls: Calls, names: Names) -> None:
    """Raise `InputError` if the account's name belongs to another account."""
    body = {"name": names.account, "type": "Microsoft.Storage/storageAccounts"}
    try:
        answer = calls.post("/providers/Microsoft.Storage/checkNameAvailability", STORAGE, body)
    except ProviderError as error:
        # Before the registration; the creation finds it, too.
        if code_of(error) == "MissingSubscriptionRegistration":
            return
        raise
    is_taken = answer.get("nameAvailable") is False and answer.get("reason") == "AlreadyExists"
    # Another user may have made ours meanwhile.
    if is_taken and calls.find(names.account_id, STORAGE) is None:
        raise _taken(names)


def _taken(names: Names) -> InputError:
    return InputError(
        f"the name {names.account} belongs to a storage account outside of the resource group {names.group}",
        hint="unset azure.storage_account and AZURE_STORAGE_ACCOUNT, or set azure.storage_account to a free name",
    )


def container_item(calls: Calls, names: Names, container: str, purpose: str, *, expires: bool) -> SetupItem:
    """Return the item of a container.

    Args:
        expires: Whether its objects are deleted after two weeks.
    """
    path, policy = names.container_id(container), _Expiry(calls, names, container) if expires else None

    def look() -> str:
        found = calls.find(path, STORAGE)
        if found is None:
            return "missing"
        problems = ["public access is possible"] if _is_public(found) else []
        return ", ".join([*problems, *([policy.look()] if policy is not None and policy.look() else [])])

    def make() -> None:
        found = calls.find(path, STORAGE)
        if found is None:
            calls.put(path, STORAGE, {"properties": {"publicAccess": "None", "metadata": {_METADATA: "1"}}})
        elif _is_public(found):
            calls.patch(path, STORAGE, {"properties": {"publicAccess": "None"}})
        if policy is not None:
            policy.make()

    def remove() -> str:
        found = calls.find(path, STORAGE)
        if found is not None:
            if _METADATA not in (found["properties"].get("metadata") or {}):
                return _NOT_OURS
            content = _content_of(calls, names, container)
            if content:
                return content
            calls.delete(path, STORAGE)
        if policy is not None:
            policy.remove()
        return ""

    of_account = f"{names.account} --resource-group {shell_word(names.group)} --subscription {names.subscription}"
    create = (
        f"az storage container-rm create --name {container} --public-access off --metadata {_METADATA}=1"
        f" --storage-account {of_account}"
    )
    block = TerraformBlock(
        kind="resource",
        labels=("azurerm_storage_container", container.replace("-", "_")),
        arguments={
            "name": container,
            "storage_account_id": ACCOUNT_ID,
            "container_access_type": "private",
            "metadata": {_METADATA: "1"},
        },
    )
    return SetupItem(
        subject=f"container {container}",
        purpose=purpose,
        look=look,
        make=make,
        remove=remove,
        commands=(create, *(policy.commands(of_account) if policy is not None else ())),
        terraform=(block, *(policy.terraform() if policy is not None else ())),
    )


def _is_public(container: Mapping[str, Any]) -> bool:
    return (container["properties"].get("publicAccess") or "None") != "None"


def _content_of(calls: Calls, names: Names, container: str) -> str:
    """Return why a container is kept: its objects, of which setup deletes none; empty for nothing."""
    try:
        with (
            blob_container(signed_in_to_account(calls, names), container, connections=1) as client,
            translate_errors(f"listing the objects of {container}"),
        ):
            found = client.list_blob_names(results_per_page=_MAX_COUNT)
            count = sum(1 for _ in itertools.islice(found, _MAX_COUNT))
    except NotFoundError:
        return ""
    except ProviderError as error:
        if error.transient:
            raise
        return f"its objects cannot be listed: {queue_code_of(error.__cause__)}"
    more = " or more" if count == _MAX_COUNT else ""
    return f"it has {count}{more} {'object' if count == 1 else 'objects'}" if count else ""


def signed_in_to_account(calls: Calls, names: Names) -> AzureSettings:
    """Return settings for calls to the account itself: a connection string may be that of another one."""
    settings = attrs.evolve(calls.settings, storage_account=names.account)
    if is_emulator(settings.management_endpoint):
        return settings
    return attrs.evolve(settings, connection_string=None, connection_string_file=None)


def _has_all(given: Any, needed: Any) -> bool:
    """Return whether a value has all keys and values of another one."""
    if isinstance(needed, Mapping):
        return isinstance(given, Mapping) and all(_has_all(given.get(key), each) for key, each in needed.items())
    return bool(given == needed)


class _Expiry:
    """A rule of the account's lifecycle policy. Rules of others stay."""

    def __init__(self, calls: Calls, names: Names, container: str) -> None:
        self._calls = calls
        self._path = f"{names.account_id}/managementPolicies/default"
        self._rule = {
            "name": _RULE,
            "enabled": True,
            "type": "Lifecycle",
            "definition": {
                "filters": {"blobTypes": ["blockBlob"], "prefixMatch": [f"{container}/"]},
                "actions": {"baseBlob": {"delete": {"daysAfterModificationGreaterThan": _DAYS}}},
            },
        }

    def look(self) -> str:
        found = next((each for each in self._rules() if each.get("name") == _RULE), None)
        if found is None:
            return "objects are kept"
        # Answers may have properties that were not written.
        return "" if _has_all(found, self._rule) else f"objects are not deleted after {_DAYS} days"

    def make(self) -> None:
        """Write the rule, and look again: a policy has no version with which a change by others is refused."""

        def write() -> None:
            others = [each for each in self._rules() if each.get("name") != _RULE]
            self._put([*others, self._rule])

        for _ in range(_ATTEMPTS):
            if self.look():
                self._calls.repeat(write)

    def remove(self) -> None:
        rules = self._rules()
        others = [each for each in rules if each.get("name") != _RULE]
        if others and len(others) < len(rules):
            self._put(others)
        elif rules and not others:
            self._calls.delete(self._path, STORAGE)

    def commands(self, of_account: str) -> tuple[str, ...]:
        """Return the command for an account without other rules; the rules of a policy are written together."""
        of_account = f"--account-name {of_account}"
        policy = json.dumps({"rules": [self._rule]})
        show = f"az storage account management-policy show {of_account} --output none 2>/dev/null"
        return (f"{show} || az storage account management-policy create --policy {shell_word(policy)} {of_account}",)

    def terraform(self) -> tuple[TerraformBlock, ...]:
        filters = self._rule["definition"]["filters"]  # type: ignore[index]
        rule = TerraformBlock(
            kind="rule",
            arguments={"name": _RULE, "enabled": True},
            blocks=(
                TerraformBlock(
                    kind="filters",
                    arguments={"prefix_match": filters["prefixMatch"], "blob_types": filters["blobTypes"]},
                ),
                TerraformBlock(
                    kind="actions",
                    blocks=(
                        TerraformBlock(
                            kind="base_blob", arguments={"delete_after_days_since_modification_greater_than": _DAYS}
                        ),
                    ),
                ),
            ),
        )
        return (
            TerraformBlock(
                kind="resource",
                labels=("azurerm_storage_management_policy", "cloud_tasks"),
                arguments={"storage_account_id": ACCOUNT_ID},
                blocks=(rule,),
            ),
        )

    def _rules(self) -> list[dict[str, Any]]:
        found = self._calls.find(self._path, STORAGE)
        return list((found or {}).get("properties", {}).get("policy", {}).get("rules", []))

    def _put(self, rules: list[dict[str, Any]]) -> None:
        self._calls.put(self._path, STORAGE, {"properties": {"policy": {"rules": rules}}})
