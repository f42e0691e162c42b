"""Checks of a subscription for running jobs on Virtual Machines, for ``doctor`` and before a run. Read-only.

Invariants, each with a test:

1. A problem is reported as a finding with the command that fixes it, never as an exception.
2. Every request is a GET or a HEAD.
3. After a failed sign-in no further request is sent.
4. What may pass by itself, or cannot be read with these permissions, prevents no run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

from azure.core.rest import HttpRequest

from cloud_tasks.errors import CloudTasksError, NotFoundError, ProviderError
from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks_azure.compute.clients import Clients
from cloud_tasks_azure.compute.compute_errors import translate_errors
from cloud_tasks_azure.compute.regions import regions_of
from cloud_tasks_azure.compute.zones import location_of
from cloud_tasks_azure.credentials import LOGIN
from cloud_tasks_azure.permissions import compute_actions, missing
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["check_compute"]

_POLICY = "cloud-tasks doctor --provider azure --policy"
_COMPUTE = "Microsoft.Compute"
_NETWORK, _STORAGE = "Microsoft.Network", "Microsoft.Storage"
_QUOTAS: Mapping[str, tuple[str, str]] = {
    "on-demand quota": ("cores", "dedicated"),
    "spot quota": ("lowPriorityCores", "lowPriority"),
}
"""Quota of all cores of a region and its kind for `az quota` ("Quickstart: Request quota increase"), by subject."""
_PERMISSIONS_VERSION = "2022-04-01"
_API_VERSIONS: Mapping[str, str] = {"userassignedidentities": "2023-01-31"}
"""API version by kind of resource; `_NETWORK_VERSION` for the others."""
_NETWORK_VERSION = "2024-05-01"
_MAX_SHOWN = 4
_DENIED = 403
_LAUNCH = "Microsoft.Compute/virtualMachines/write"


def check_compute(settings: AzureSettings, context: CheckContext) -> Iterator[Finding]:
    """Yield one finding per check; a check whose prerequisite failed is skipped."""
    try:
        clients = Clients(settings)
    except CloudTasksError as error:
        remedy = error.hint or "run: az account list --output table"
        yield Finding(ok=False, subject="subscription", message=error.message, remedy=remedy, prevents_run=True)
        return
    with closing(clients):
        entry, provider = _access(clients)
        yield entry
        if provider is None:
            return
        yield _registered(clients, _COMPUTE, provider)
        yield _check(_NETWORK, _POLICY, lambda: _registration(clients, _NETWORK))
        if context.launch is None:
            yield _check(_STORAGE, _POLICY, lambda: _registration(clients, _STORAGE))
        zone = context.zone if context.launch is None else context.launch.offer.zone
        location = (context.region or location_of(zone or "")).lower()
        region = _check("region", "run: cloud-tasks list-regions --provider azure", lambda: _region(location, provider))
        yield region
        if region.ok and context.launch is None:
            yield _check("VM sizes", _POLICY, lambda: _sizes(clients, location))
            yield from _quotas(clients, location)
        if context.launch is None:
            yield _check("instances", _POLICY, lambda: _instances(clients))
        yield _permissions(clients, settings)
        yield _identity(clients, settings)
        yield from _configured_resources(clients, settings)


def _check(subject: str, remedy: str, check: Callable[[], str]) -> Finding:
    """Run one check and return its finding; the error's own hint takes precedence over ``remedy``."""
    try:
        return Finding(ok=True, subject=subject, message=check())
    except CloudTasksError as error:
        return _failed(subject, error, error.hint or remedy)


def _failed(subject: str, error: CloudTasksError, remedy: str) -> Finding:
    """Return the finding of an error. A run may work without the permission for the request, and after an outage."""
    is_transient = isinstance(error, ProviderError) and error.transient
    is_certain = not is_transient and getattr(error.__cause__, "status_code", None) != _DENIED
    return Finding(ok=False, subject=subject, message=error.message, remedy=remedy, prevents_run=is_certain)


def _access(clients: Clients) -> tuple[Finding, Any]:
    """Return the finding for sign-in, and the compute provider's description; None if no check can follow."""
    try:
        with translate_errors(f"use the subscription {clients.subscription}"):
            provider = clients.resources.providers.get(_COMPUTE)
    except NotFoundError as error:
        remedy = "run: az account list --output table, then set azure.subscription_id"
        return _failed("subscription", error, remedy), None
    except ProviderError as error:
        subject = "credentials" if error.hint == LOGIN else "subscription"
        return _failed(subject, error, error.hint or _POLICY), None
    message = f"accepted for the subscription {clients.subscription}"
    return Finding(ok=True, subject="credentials", message=message), provider


def _registered(clients: Clients, namespace: str, provider: Any) -> Finding:
    return _check(namespace, _POLICY, lambda: _registration(clients, namespace, provider))


def _registration(clients: Clients, namespace: str, provider: Any = None) -> str:
    if provider is None:
        with translate_errors(f"read the provider {namespace}"):
            provider = clients.resources.providers.get(namespace)
    state = str(provider.registration_state or "")
    if state.lower() != "registered":
        raise CloudTasksError(
            f"not registered for the subscription ({state or 'unknown state'})",
            hint=f"run: az provider register --namespace {namespace} --subscription {clients.subscription}",
        )
    return "registered"


def _region(location: str, provider: Any) -> str:
    if not location:
        raise CloudTasksError("not set", hint="set --region or run.region")
    found = {each.name: each for each in regions_of(provider)}
    if location not in found:
        raise CloudTasksError(f'region "{location}" not found')
    # The last zone is the region as a whole.
    zones = len(found[location].zones) - 1
    return f"{location}: {zones} {'zone' if zones == 1 else 'zones'}"


def _sizes(clients: Clients, location: str) -> str:
    with translate_errors(f"list the sizes of {location}"):
        skus = tuple(clients.compute.resource_skus.list(filter=f"location eq '{location}'"))
    sizes = [each for each in skus if str(each.resource_type).lower() == "virtualmachines"]
    available = [each for each in sizes if not _is_restricted(each)]
    if not available:
        raise CloudTasksError(
            f"0 of {len(sizes)} sizes are available to the subscription in {location}",
            hint=f"see the reasons with: az vm list-skus --location {location} --all --output table;"
            " or choose another region",
        )
    return f"{len(available)} of {len(sizes)} sizes are available in {location}"


def _is_restricted(sku: Any) -> bool:
    return any(str(getattr(each.type, "value", each.type)) == "Location" for each in sku.restrictions or ())


def _quotas(clients: Clients, location: str) -> Iterator[Finding]:
    limits: dict[str, Any] = {}

    def read() -> str:
        with translate_errors("read the subscription's quotas"):
            limits.update({str(each.name.value).lower(): each for each in clients.compute.usage.list(location)})
        return f"{len(limits)} quotas readable"

    quotas = _check("quotas", _POLICY, read)
    if not quotas.ok:
        yield quotas
        return
    for subject, (name, kind) in _QUOTAS.items():
        remedy = (
            f"run: az quota update --resource-name {name} --resource-type {kind} --limit-object value=64 --scope"
            f" /subscriptions/{clients.subscription}/providers/{_COMPUTE}/locations/{location}"
        )
        quota = limits.get(name.lower())
        yield _check(subject, remedy, lambda quota=quota, name=name: _quota(quota, name, location))  # type: ignore[misc]


def _quota(quota: Any, name: str, location: str) -> str:
    if quota is None:
        raise CloudTasksError(f"no quota {name} reported in {location}")
    usage = f"{quota.current_value} of {quota.limit} cores used in {location}"
    if quota.limit - quota.current_value < 1:
        raise CloudTasksError(usage)
    return usage


def _instances(clients: Clients) -> str:
    with translate_errors("list instances"):
        found = next(iter(clients.compute.virtual_machines.list_all()), None)
    return "can be listed" + ("" if found is not None else "; none found")


def _permissions(clients: Clients, settings: AzureSettings) -> Finding:
    """Compare the caller's permissions where instances are created with the controller's role."""
    subject = "permissions"
    scope = f"/subscriptions/{clients.subscription}"
    if settings.resource_group is not None:
        scope += f"/resourcegroups/{settings.resource_group}"
    try:
        given = _given(clients, scope)
    except CloudTasksError as error:
        # Unreadable permissions may still be sufficient.
        message = f"cannot be checked: {error.message}"
        return Finding(ok=True, subject=subject, message=message, remedy=_POLICY)
    lacking = missing(compute_actions(settings), given)
    if not lacking:
        return Finding(ok=True, subject=subject, message=f"all permissions of the controller's role, in {scope}")
    more = f" and {len(lacking) - _MAX_SHOWN} more" if len(lacking) > _MAX_SHOWN else ""
    return Finding(
        ok=False,
        subject=subject,
        message=f"missing in {scope}: {', '.join(lacking[:_MAX_SHOWN])}{more}",
        remedy=f'run: az role assignment create --assignee YOU --role "cloud-tasks controller" --scope {scope}'
        f" (role definition: {_POLICY})",
        prevents_run=_LAUNCH in lacking,
    )


def _given(clients: Clients, scope: str) -> list[Mapping[str, Any]]:
    """Return the caller's permissions in a scope: "Permissions - List For Resource Group" in the authorization API."""
    address = f"{scope}/providers/Microsoft.Authorization/permissions?api-version={_PERMISSIONS_VERSION}"
    found: list[Mapping[str, Any]] = []
    while address:
        with translate_errors("list permissions"):
            answer = clients.resources.send_request(HttpRequest("GET", address))
            answer.raise_for_status()
        try:
            page = answer.json()
            found += [each for each in page["value"] if isinstance(each, Mapping)]
            address = str(page.get("nextLink") or "")
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ProviderError("invalid response from Azure") from error
    return found


def _identity(clients: Clients, settings: AzureSettings) -> Finding:
    subject, identity = "managed identity", settings.managed_identity
    if identity is None:
        return Finding(
            ok=False,
            subject=subject,
            message="not set: workers cannot access queues, and instances cannot delete themselves",
            remedy="run: az identity create --name cloud-tasks-worker --resource-group GROUP; assign it the worker's"
            " role (doctor --policy), then set azure.managed_identity to its id",
        )
    if identity == "system":
        return Finding(
            ok=True,
            subject=subject,
            message="system: each instance gets its own identity, which has no role when it is created",
            remedy="a user-assigned identity can be assigned the worker's role in advance: az identity create",
        )
    return _check(subject, _create_command(identity), lambda: _resource(clients, identity))


def _configured_resources(clients: Clients, settings: AzureSettings) -> Iterator[Finding]:
    """Yield the findings for the resources that the settings name."""
    group = settings.resource_group
    if group is not None:
        remedy = f"run: az group create --name {group} --location LOCATION"

        def check() -> str:
            with translate_errors(f"read the resource group {group}"):
                return f"{clients.resources.resource_groups.get(group).name} exists"

        yield _check("resource group", remedy, check)
    for subject, resource_id in (("subnet", settings.subnet), ("security group", settings.security_group)):
        if resource_id is not None:
            yield _check(
                subject,
                _create_command(resource_id),
                lambda resource_id=resource_id: _resource(clients, resource_id),  # type: ignore[misc]
            )


def _resource(clients: Clients, resource_id: str) -> str:
    kind, name = resource_id.split("/")[-2].lower(), resource_id.rpartition("/")[2]
    version = _API_VERSIONS.get(kind, _NETWORK_VERSION)
    with translate_errors(f"read {name}"):
        clients.resources.resources.get_by_id(resource_id.lstrip("/"), api_version=version)
    return f"{name} exists"


def _create_command(resource_id: str) -> str:
    """Return the command that creates the resource."""
    parts = resource_id.split("/")
    known = dict(zip(parts[1::2], parts[2::2], strict=False))
    group, name = f"--resource-group {known.get('resourceGroups', 'GROUP')}", f"--name {parts[-1]}"
    match parts[-2].lower():
        case "userassignedidentities":
            return f"run: az identity create {group} {name}"
        case "subnets":
            network = known.get("virtualNetworks", "NETWORK")
            command = f"run: az network vnet subnet create {group} --vnet-name {network} {name}"
            return f"{command} --address-prefixes 10.0.0.0/16"
        case _:
            return f"run: az network nsg create {group} {name}"
