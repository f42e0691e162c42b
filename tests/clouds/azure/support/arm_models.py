"""Bodies of requests, compared with Microsoft's models of them.

`arm_models.json` has field names, types and enumerations of the models of azure-mgmt-compute 39.0.0,
azure-mgmt-network 33.1.0 and azure-mgmt-storage 25.3.0, as far as VMs, networks and storage accounts need them. With
these packages installed, ``python arm_models.py`` writes it again. Those of roles and identities are written here, by
azure-mgmt-authorization 4.0.0 (2022-04-01) and azure-mgmt-msi 7.1.0, whose models have another form.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from arm_records import ArmError
from fake_server import Request

__all__ = ["body_of_kind", "problems_of"]

_FILE = Path(__file__).with_name("arm_models.json")
_ROOTS = {
    "Microsoft.Compute/galleries": ("azure.mgmt.compute.models", "Gallery"),
    "Microsoft.Compute/galleries/images": ("azure.mgmt.compute.models", "GalleryImage"),
    "Microsoft.Compute/galleries/images/versions": ("azure.mgmt.compute.models", "GalleryImageVersion"),
    "Microsoft.Compute/virtualMachines": ("azure.mgmt.compute.models", "VirtualMachine"),
    "Microsoft.Network/networkSecurityGroups": ("azure.mgmt.network.models", "NetworkSecurityGroup"),
    "Microsoft.Network/virtualNetworks": ("azure.mgmt.network.models", "VirtualNetwork"),
}
_STORAGE_ROOTS = {
    "Microsoft.Storage/storageAccounts": ("azure.mgmt.storage.models", "StorageAccountCreateParameters"),
    "change of Microsoft.Storage/storageAccounts": ("azure.mgmt.storage.models", "StorageAccountUpdateParameters"),
    "blobServices/containers": ("azure.mgmt.storage.models", "BlobContainer"),
    "managementPolicies": ("azure.mgmt.storage.models", "ManagementPolicy"),
    "checkNameAvailability": ("azure.mgmt.storage.models", "StorageAccountCheckNameAvailabilityParameters"),
}
_ROOTS |= _STORAGE_ROOTS
_WRITTEN_ROOTS = {
    "Microsoft.ManagedIdentity/userAssignedIdentities": "UserAssignedIdentity",
    "Microsoft.Authorization/roleAssignments": "RoleAssignmentCreateParameters",
    "Microsoft.Authorization/roleDefinitions": "RoleDefinition",
    "Microsoft.Resources/resourceGroups": "ResourceGroup",
}
_PERMISSION_LISTS = ("actions", "notActions", "dataActions", "notDataActions")
_WRITTEN: dict[str, dict[str, Any]] = {
    "UserAssignedIdentity": {"location": "str", "tags": {"": "str"}, "properties": "any"},
    "ResourceGroup": {"location": "str", "tags": {"": "str"}, "managedBy": "str", "properties": "any"},
    "RoleAssignmentCreateParameters": {"properties": "RoleAssignmentProperties"},
    "RoleAssignmentProperties": {
        **dict.fromkeys(("roleDefinitionId", "principalId", "description", "condition", "conditionVersion"), "str"),
        "principalType": {"enum": ["User", "Group", "ServicePrincipal", "ForeignGroup", "Device"]},
        "delegatedManagedIdentityResourceId": "str",
    },
    "RoleDefinition": {"properties": "RoleDefinitionProperties"},
    "RoleDefinitionProperties": {
        **dict.fromkeys(("roleName", "description", "type"), "str"),
        "permissions": ["RolePermission"],
        "assignableScopes": ["str"],
    },
    "RolePermission": {
        **{name: ["str"] for name in _PERMISSION_LISTS},
        **dict.fromkeys(("condition", "conditionVersion"), "str"),
    },
}
_PLAIN: dict[str, tuple[type, ...]] = {"str": (str,), "bool": (bool,), "int": (int,), "float": (int, float)}


def problems_of(kind: str, body: Any) -> list[str]:
    """Return unknown fields and values of wrong types in the body of a creation; none for a kind without a model."""
    if kind in _WRITTEN_ROOTS:
        return list(_problems(body, _WRITTEN_ROOTS[kind], ""))
    if kind not in _ROOTS:
        return []
    return list(_problems(body, _ROOTS[kind][1], ""))


def body_of_kind(request: Request, kind: str) -> dict[str, Any]:
    """Return the body of a request. Raises `ArmError` if it does not fit Microsoft's model."""
    body: dict[str, Any] = request.json()
    problems = problems_of(kind, body)
    if problems:
        message = f"The request content was invalid and could not be deserialized: {'; '.join(problems)}"
        raise ArmError(400, "InvalidRequestContent", message)
    return body


@cache
def _models() -> dict[str, Any]:
    return {**json.loads(_FILE.read_text()), **_WRITTEN}


def _problems(value: Any, kind: Any, path: str) -> list[str]:
    """``kind``: the name of a plain type or model, ``[kind]``, ``{"": kind}``, or values as ``{"enum": [...]}``."""
    if isinstance(kind, list):
        if not isinstance(value, list):
            return [f"{path}: expected a list"]
        return [each for number, item in enumerate(value) for each in _problems(item, kind[0], f"{path}[{number}]")]
    if isinstance(kind, dict):
        if "enum" in kind:
            return [] if value in kind["enum"] else [f"{path}: {value!r} is not one of {', '.join(kind['enum'])}"]
        if not isinstance(value, dict):
            return [f"{path}: expected an object"]
        return [each for name, item in value.items() for each in _problems(item, kind[""], f"{path}.{name}")]
    if kind in _PLAIN:
        fits = isinstance(value, _PLAIN[kind]) and (kind == "bool" or not isinstance(value, bool))
        return [] if fits else [f"{path}: {value!r} is no {kind}"]
    fields = _models().get(kind)
    if fields is None:
        return []
    if not isinstance(value, dict):
        return [f"{path}: expected an object"]
    found = [f"{path}.{name}: unknown field of {kind}" for name in value if name not in fields]
    return found + [
        each
        for name, item in value.items()
        if name in fields
        for each in _problems(item, fields[name], f"{path}.{name}")
    ]


def _extract() -> dict[str, Any]:
    """Return the models that the bodies can have, with the names of the API."""
    import enum
    import importlib
    import types
    import typing

    models: dict[str, Any] = {}

    def kind_of(hint: Any) -> Any:
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            known = [each for each in arguments if each is not type(None)]
            enums = [each for each in known if isinstance(each, type) and issubclass(each, enum.Enum)]
            return kind_of(enums[0] if enums else known[0])
        if origin is list:
            return [kind_of(arguments[0])]
        if origin is dict:
            return {"": kind_of(arguments[1])}
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            # The names of sizes are not all of them.
            return "str" if hint.__name__ == "VirtualMachineSizeTypes" else {"enum": [each.value for each in hint]}
        if hint in (str, bool, int, float):
            return hint.__name__
        if isinstance(hint, type) and any(base.__name__ == "Model" for base in hint.__mro__):
            visit(hint)
            return hint.__name__
        return "any"

    def visit(model: Any) -> None:
        if model.__name__ in models:
            return
        fields = models[model.__name__] = {}
        package = importlib.import_module(model.__module__)
        names = {**vars(package), "_models": importlib.import_module(model.__module__.rpartition(".")[0])}
        model()
        hints: dict[str, Any] = {}
        for base in reversed(model.__mro__):
            space = {**names, **vars(importlib.import_module(base.__module__))}
            for name, text in vars(base).get("__annotations__", {}).items():
                hints[name] = eval(text, space) if isinstance(text, str) else text
        for name, field in model._attr_to_rest_field.items():
            fields[field._rest_name] = kind_of(resolve(hints.get(name), names))

    def resolve(hint: Any, names: dict[str, Any]) -> Any:
        if isinstance(hint, typing.ForwardRef):
            return eval(hint.__forward_arg__, names)
        arguments = typing.get_args(hint)
        origin = typing.get_origin(hint)
        if not arguments or origin is typing.Literal:
            return hint
        resolved = tuple(eval(each, names) if isinstance(each, str) else resolve(each, names) for each in arguments)
        return typing.Union[resolved] if origin in (typing.Union, types.UnionType) else origin[resolved]  # noqa: UP007

    for module, name in _ROOTS.values():
        visit(getattr(importlib.import_module(module), name))
    return models


if __name__ == "__main__":
    _FILE.write_text(json.dumps(_extract(), indent=0, sort_keys=True) + "\n")
