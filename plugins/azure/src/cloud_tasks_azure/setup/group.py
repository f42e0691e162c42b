"""Resource providers, the resource group of everything else, and the identity of the instances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloud_tasks.errors import ProviderError
from cloud_tasks.escape import shell_word
from cloud_tasks.plugin import SetupItem, TerraformBlock, TerraformExpression
from cloud_tasks_azure.compute.arm import RESOURCES
from cloud_tasks_azure.compute.compute_errors import translate_errors
from cloud_tasks_azure.compute.listing import list_vms
from cloud_tasks_azure.setup.calls import Calls, Principal, code_of
from cloud_tasks_azure.setup.names import Names, is_ours

__all__ = [
    "GROUP_NAME",
    "IDENTITIES",
    "group_item",
    "identity_item",
    "principal_of",
    "providers_item",
    "tag_words",
]

_NAMESPACES = tuple(f"Microsoft.{each}" for each in ("Compute", "Network", "Storage", "ManagedIdentity"))
IDENTITIES = "2023-01-31"
"""API version of managed identities."""
GROUP_NAME = TerraformExpression("azurerm_resource_group.cloud_tasks.name")
_NOT_OURS = "setup did not make it"
_REGISTRATION_POLLS = 400
"""Polls of a registration: 20 minutes."""


def providers_item(calls: Calls, names: Names) -> SetupItem:
    """Return the item of the resource providers, whose registration takes some minutes. Others may use them later."""

    def unregistered() -> list[str]:
        found = {each: calls.find(f"/providers/{each}", RESOURCES) or {} for each in _NAMESPACES}
        return [name for name, each in found.items() if str(each.get("registrationState")).lower() != "registered"]

    def look() -> str:
        found = unregistered()
        return f"{', '.join(found)} not registered" if found else ""

    def make() -> None:
        for name in unregistered():
            calls.post(f"/providers/{name}/register", RESOURCES)
        for _ in range(_REGISTRATION_POLLS):
            if not unregistered():
                return
            calls.wait()
        raise ProviderError(f"{look()} after 20 minutes", hint="see its state with: az provider list", transient=True)

    # Else Terraform asks the account itself, to which the person has no access yet.
    storage = TerraformBlock(kind="storage", arguments={"data_plane_available": False})
    return SetupItem(
        subject="resource providers",
        purpose=f"{', '.join(_NAMESPACES)}, for the subscription",
        look=look,
        make=make,
        commands=tuple(
            f"az provider register --namespace {each} --wait --subscription {names.subscription}"
            for each in _NAMESPACES
        ),
        terraform=(
            TerraformBlock(
                kind="provider",
                labels=("azurerm",),
                arguments={
                    "subscription_id": names.subscription,
                    "resource_provider_registrations": "none",
                    "resource_providers_to_register": list(_NAMESPACES),
                    "storage_use_azuread": True,
                },
                blocks=(TerraformBlock(kind="features", blocks=(storage,)),),
            ),
        ),
    )


def group_item(calls: Calls, names: Names) -> SetupItem:
    """Return the item of the group."""

    def look() -> str:
        found = calls.find(names.group_id, RESOURCES)
        if found is None:
            return "missing"
        is_ending = str((found.get("properties") or {}).get("provisioningState")).lower() == "deleting"
        return "it is being deleted" if is_ending else ""

    def make() -> None:
        if not look():
            return
        try:
            calls.put(names.group_id, RESOURCES, {"location": names.region, "tags": dict(names.tags)})
        except ProviderError as error:
            # Another user made it meanwhile; its location decides nothing.
            if code_of(error) != "InvalidResourceGroupLocation":
                raise

    def remove() -> str:
        found = calls.find(names.group_id, RESOURCES)
        if found is None:
            return ""
        if not is_ours(found):
            return _NOT_OURS
        content = calls.entries(f"{names.group_id}/resources", RESOURCES)
        if content:
            return f"it contains {', '.join(sorted(str(each['name']) for each in content)[:3])}"
        calls.delete(names.group_id, RESOURCES)
        return ""

    name = shell_word(names.group)
    return SetupItem(
        subject=f"resource group {names.group}",
        purpose="everything else, and the instances of jobs",
        look=look,
        make=make,
        remove=remove,
        commands=(
            f"az group create --name {name} --location {names.region} {tag_words(names)}"
            f" --subscription {names.subscription}",
        ),
        terraform=(
            TerraformBlock(
                kind="resource",
                labels=("azurerm_resource_group", "cloud_tasks"),
                arguments={"name": names.group, "location": names.region, "tags": dict(names.tags)},
            ),
        ),
    )


def identity_item(calls: Calls, names: Names) -> SetupItem:
    """Return the item of the instances' identity."""

    def make() -> None:
        if calls.find(names.identity_id, IDENTITIES) is None:
            calls.put(names.identity_id, IDENTITIES, {"location": names.region, "tags": dict(names.tags)})

    def remove() -> str:
        found = calls.find(names.identity_id, IDENTITIES)
        if found is None:
            return ""
        if not is_ours(found):
            return _NOT_OURS
        with translate_errors("list instances"):
            users = [str(each["name"]) for each in list_vms(calls.arm, None, foreign=True) if _has(each, names)]
        if users:
            return f"{', '.join(users[:3])} {'uses' if len(users) == 1 else 'use'} it"
        calls.delete(names.identity_id, IDENTITIES)
        return ""

    return SetupItem(
        subject=f"managed identity {names.identity}",
        purpose="the identity of instances",
        look=lambda: "missing" if calls.find(names.identity_id, IDENTITIES) is None else "",
        make=make,
        remove=remove,
        commands=(
            f"az identity create --name {names.identity} --resource-group {shell_word(names.group)}"
            f" --location {names.region} {tag_words(names)} --subscription {names.subscription}",
        ),
        terraform=(
            TerraformBlock(
                kind="resource",
                labels=("azurerm_user_assigned_identity", "worker"),
                arguments={
                    "name": names.identity,
                    "resource_group_name": GROUP_NAME,
                    "location": names.region,
                    "tags": dict(names.tags),
                },
            ),
        ),
    )


def principal_of(calls: Calls, names: Names) -> Principal | None:
    """Return the identity as a principal; None if it does not exist."""
    found = calls.find(names.identity_id, IDENTITIES)
    principal = ((found or {}).get("properties") or {}).get("principalId")
    return None if principal is None else Principal(id=str(principal), kind="ServicePrincipal")


def tag_words(names: Names) -> str:
    """Return the tags as an option of ``az``."""
    return f"--tags {' '.join(shell_word(f'{key}={value}') for key, value in names.tags.items())}"


def _has(vm: Mapping[str, Any], names: Names) -> bool:
    assigned = (vm.get("identity") or {}).get("userAssignedIdentities") or {}
    return names.identity_id.lower() in {str(each).lower() for each in assigned}
