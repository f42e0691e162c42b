"""What a setup of Azure makes, as the same plain facts from Resource Manager, from shell lines and from Terraform."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import hcl2
from arm_roles import PERSON
from arm_setup import Subscription
from terraform_facts import terraform_resources

from cloud_tasks.plugin import AccountSetup, terraform_text

__all__ = ["facts_of_cloud", "facts_of_shell", "facts_of_terraform"]


def facts_of_cloud(resources: Mapping[str, Any], groups: Mapping[str, Any], state: Subscription) -> dict[str, Any]:
    """Return what exists.

    Args:
        resources: `Cloud.resources`; groups: `Cloud.groups`.
    """
    by_kind = {each["type"].rpartition("/")[2]: each for each in resources.values()}
    identity, account, (group,) = by_kind["userAssignedIdentities"], by_kind["storageAccounts"], groups.values()
    properties, (policy,), (role,) = (
        account["properties"],
        state.storage.policies.values(),
        state.roles.definitions.values(),
    )
    (permission,) = role["properties"]["permissions"]
    members = {PERSON: "person", identity["properties"]["principalId"]: "worker"}
    return {
        "providers": sorted(name for name, each in state.states.items() if each == "Registered"),
        "group": {key: group[key] for key in ("name", "location", "tags")},
        "identity": {key: identity[key] for key in ("name", "location", "tags")},
        "account": {
            **{key: account[key] for key in ("name", "location", "tags", "kind")},
            "sku": account["sku"]["name"],
            "https": properties["supportsHttpsTrafficOnly"],
            "tls": properties["minimumTlsVersion"],
            "public": properties["allowBlobPublicAccess"],
            "keys": properties["allowSharedKeyAccess"],
        },
        "containers": {
            each["name"]: (each["properties"]["publicAccess"] != "None", each["properties"]["metadata"])
            for each in state.storage.containers.values()
        },
        "rules": [_rule(each) for each in policy["policy"]["rules"]],
        "role": {
            "name": role["properties"]["roleName"],
            "description": role["properties"]["description"],
            "actions": permission["actions"],
            "data": permission["dataActions"],
            "scopes": role["properties"]["assignableScopes"],
        },
        "assignments": sorted(
            (
                state.roles.name_of(each["properties"]["roleDefinitionId"]),
                each["properties"]["scope"],
                members[each["properties"]["principalId"]],
                each["properties"]["description"],
            )
            for each in state.roles.assignments.values()
        ),
    }


def _rule(rule: Mapping[str, Any]) -> tuple[Any, ...]:
    filters, actions = rule["definition"]["filters"], rule["definition"]["actions"]
    days = actions["baseBlob"]["delete"]["daysAfterModificationGreaterThan"]
    return rule["name"], rule["enabled"], filters["prefixMatch"], filters["blobTypes"], days


def facts_of_shell(plan: AccountSetup) -> dict[str, Any]:
    """Return what the lines make. Those of ``az`` without a counterpart here are an error."""
    facts: dict[str, Any] = {"providers": [], "containers": {}, "assignments": [], "rules": []}
    for words in _commands(plan):
        options = dict(_options(words))
        assert options.pop("--subscription") == plan.identity["azure.subscription_id"]
        match [word for word in words if not word.startswith("-")][1:5]:
            case ["provider", "register", *_]:
                assert "--wait" in options
                facts["providers"] = sorted([*facts["providers"], options["--namespace"]])
            case ["group", "create", *_]:
                facts["group"] = _named(options)
            case ["identity", "create", *_]:
                facts["identity"] = _named(options)
            case ["storage", "account", "create", *_]:
                flags = {"true": True, "false": False}
                facts["account"] = {
                    **_named(options),
                    "kind": options["--kind"],
                    "sku": options["--sku"],
                    "https": flags[options["--https-only"]],
                    "tls": options["--min-tls-version"],
                    "public": flags[options["--allow-blob-public-access"]],
                    "keys": flags[options["--allow-shared-key-access"]],
                }
            case ["storage", "container-rm", "create", *_]:
                public = options["--public-access"] != "off"
                facts["containers"][options["--name"]] = (public, _pairs(options["--metadata"]))
                assert options["--storage-account"] == plan.settings["azure.storage_account"]
            case ["storage", "account", "management-policy", "create"]:
                facts["rules"] += [_rule(each) for each in json.loads(options["--policy"])["rules"]]
                assert options["--account-name"] == plan.settings["azure.storage_account"]
            case ["role", "definition", "create", *_]:
                role = json.loads(options["--role-definition"])
                names = {"name": "Name", "description": "Description", "actions": "Actions", "data": "DataActions"}
                facts["role"] = {key: role[name] for key, name in {**names, "scopes": "AssignableScopes"}.items()}
                assert role["IsCustom"]
            case ["role", "assignment", "create", *_]:
                who, kind = options["--assignee-object-id"], options["--assignee-principal-type"]
                is_person = who == "$(az ad signed-in-user show --query id --output tsv)"
                shown = f"$(az identity show --ids {_identity_of(plan)} --query principalId --output tsv)"
                assert is_person or who == shown
                assert kind == ("User" if is_person else "ServicePrincipal")
                member = "person" if is_person else "worker"
                facts["assignments"].append((options["--role"], options["--scope"], member, options["--description"]))
            case other:
                raise AssertionError(f"unknown command: {other}")
    return {**facts, "assignments": sorted(facts["assignments"])}


def _identity_of(plan: AccountSetup) -> str:
    return str(plan.settings["azure.managed_identity"])


def _commands(plan: AccountSetup) -> Iterator[list[str]]:
    for line in (line for item in plan.items for line in item.commands):
        words = shlex.split(line)
        # What stands before is a look at what exists.
        yield words[words.index("||") + 1 :] if "||" in words else words


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    name: str = ""
    values: list[str] = []
    for word in [*words, "--"]:
        if word.startswith("--"):
            if name:
                yield name, "\0".join(values)
            name, values = word, []
        else:
            values.append(word)


def _named(options: Mapping[str, str]) -> dict[str, Any]:
    return {"name": options["--name"], "location": options["--location"], "tags": _pairs(options["--tags"])}


def _pairs(text: str) -> dict[str, str]:
    return dict(each.split("=", 1) for each in text.split("\0"))


def facts_of_terraform(plan: AccountSetup) -> dict[str, Any]:
    """Return what the blocks make."""
    text = terraform_text([*plan.terraform, *(block for item in plan.items for block in item.terraform)])
    resources = terraform_resources(text)
    (provider,) = [json.loads(json.dumps(each['"azurerm"'])) for each in hcl2.loads(text)["provider"]]
    assert (provider["resource_provider_registrations"], provider["storage_use_azuread"]) == ('"none"', True)
    subscription = json.loads(provider["subscription_id"])
    assert subscription == plan.identity["azure.subscription_id"]
    known = _expressions(resources, subscription)

    def value(given: Any) -> Any:
        match = re.fullmatch(r"\$\{(.*)\}", given) if isinstance(given, str) else None
        return known[match[1]] if match is not None else given

    group = resources["azurerm_resource_group.cloud_tasks"]
    identity = resources["azurerm_user_assigned_identity.worker"]
    account = resources["azurerm_storage_account.cloud_tasks"]
    role, policy = (
        resources["azurerm_role_definition.worker"],
        resources["azurerm_storage_management_policy.cloud_tasks"],
    )
    assert {value(each["resource_group_name"]) for each in (identity, account)} == {group["name"]}
    (permission,) = role["permissions"]
    of_kind = {
        kind: [each for name, each in resources.items() if name.startswith(f"azurerm_{kind}.")]
        for kind in ("storage_container", "role_assignment")
    }
    kinds = {value(each["principal_id"]): each.get("principal_type") for each in of_kind["role_assignment"]}
    assert kinds == {"person": None, "worker": "ServicePrincipal"}
    in_account = [*of_kind["storage_container"], policy]
    assert {value(each["storage_account_id"]) for each in in_account} == {
        known["azurerm_storage_account.cloud_tasks.id"]
    }
    return {
        "providers": sorted(json.loads(each) for each in provider["resource_providers_to_register"]),
        "group": {key: group[key] for key in ("name", "location", "tags")},
        "identity": {key: identity[key] for key in ("name", "location", "tags")},
        "account": {
            **{key: account[key] for key in ("name", "location", "tags")},
            "kind": account["account_kind"],
            "sku": f"{account['account_tier']}_{account['account_replication_type']}",
            "https": account["https_traffic_only_enabled"],
            "tls": account["min_tls_version"],
            "public": account["allow_nested_items_to_be_public"],
            "keys": account["shared_access_key_enabled"],
        },
        "containers": {
            each["name"]: (each["container_access_type"] != "private", each["metadata"])
            for each in of_kind["storage_container"]
        },
        "rules": [_terraform_rule(each) for each in policy["rule"]],
        "role": {
            **{key: role[key] for key in ("name", "description")},
            "actions": permission["actions"],
            "data": permission["data_actions"],
            "scopes": role["assignable_scopes"],
        },
        "assignments": sorted(
            (
                each.get("role_definition_name") or value(each["role_definition_id"]),
                value(each["scope"]),
                value(each["principal_id"]),
                each["description"],
            )
            for each in of_kind["role_assignment"]
        ),
    }


def _terraform_rule(rule: Mapping[str, Any]) -> tuple[Any, ...]:
    (filters,), (actions,) = rule["filters"], rule["actions"]
    (blob,) = actions["base_blob"]
    days = blob["delete_after_days_since_modification_greater_than"]
    return rule["name"], rule["enabled"], filters["prefix_match"], filters["blob_types"], days


def _expressions(resources: Mapping[str, Any], subscription: str) -> dict[str, str]:
    """Return the values of the expressions that refer to resources."""
    group = resources["azurerm_resource_group.cloud_tasks"]["name"]
    group_id = f"/subscriptions/{subscription}/resourceGroups/{group}"
    account = resources["azurerm_storage_account.cloud_tasks"]["name"]
    account_id = f"{group_id}/providers/Microsoft.Storage/storageAccounts/{account}"
    return {
        "azurerm_resource_group.cloud_tasks.name": group,
        "azurerm_resource_group.cloud_tasks.id": group_id,
        "azurerm_storage_account.cloud_tasks.id": account_id,
        "azurerm_role_definition.worker.role_definition_resource_id": resources["azurerm_role_definition.worker"][
            "name"
        ],
        "azurerm_user_assigned_identity.worker.principal_id": "worker",
        "data.azurerm_client_config.current.object_id": "person",
        **{
            f"{name}.id": f"{account_id}/blobServices/default/containers/{each['name']}"
            for name, each in resources.items()
            if name.startswith("azurerm_storage_container.")
        },
    }
