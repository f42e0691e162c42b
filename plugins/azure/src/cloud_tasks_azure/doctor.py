"""Whether a subscription has what jobs on Virtual Machines need. Looks only; makes and changes nothing.

Invariants, each with a test:

1. What is wrong is a finding with the command that mends it, never an exception.
2. Every request is a GET or a HEAD.
3. Once it is known that nobody lets us in, nothing more is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

from azure.core.rest import HttpRequest

from cloud_tasks.errors import CloudTasksError, NotFoundError, ProviderError
from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks_azure.compute.clients import Clients
from cloud_tasks_azure.compute.failures import mapped
from cloud_tasks_azure.compute.regions import regions_of
from cloud_tasks_azure.compute.zones import location_of
from cloud_tasks_azure.credentials import LOGIN
from cloud_tasks_azure.permissions import compute_actions, missing
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["check_compute"]

_POLICY = "cloud-tasks doctor --provider azure --policy"
_COMPUTE = "Microsoft.Compute"
_BESIDES = ("Microsoft.Network", "Microsoft.Storage")
_QUOTAS: Mapping[str, tuple[str, str]] = {
    "on-demand quota": ("cores", "dedicated"),
    "spot quota": ("lowPriorityCores", "lowPriority"),
}
"""Subject: the quota of all cores of a region, and its kind for `az quota` ("Quickstart: Request quota increase")."""
_PERMISSIONS_VERSION = "2022-04-01"
_API_VERSIONS: Mapping[str, str] = {"userassignedidentities": "2023-01-31"}
"""By kind of resource; that of the others is `_NETWORK_VERSION`."""
_NETWORK_VERSION = "2024-05-01"
_SHOWN = 4


def check_compute(settings: AzureSettings, context: CheckContext) -> Iterator[Finding]:
    """What was looked at, one finding each; what depends on something that is missing is left out."""
    try:
        clients = Clients(settings)
    except CloudTasksError as error:
        remedy = error.hint or "az account list --output table"
        yield Finding(ok=False, subject="subscription", message=error.message, remedy=remedy)
        return
    with closing(clients):
        entry, provider = _entry(clients)
        yield entry
        if provider is None:
            return
        yield _registered(clients, _COMPUTE, provider)
        for namespace in _BESIDES:
            yield _look(namespace, _POLICY, lambda name=namespace: _registration(clients, name))  # type: ignore[misc]
        location = (context.region or location_of(context.zone or "")).lower()
        region = _look("region", "cloud-tasks list-regions --provider azure", lambda: _region(location, provider))
        yield region
        if region.ok:
            yield _look("machine sizes", _POLICY, lambda: _sizes(clients, location))
            yield from _quotas(clients, location)
        yield _look("machines", _POLICY, lambda: _machines(clients))
        yield _permissions(clients, settings)
        yield _identity(clients, settings)
        yield from _named(clients, settings)


def _look(subject: str, remedy: str, look: Callable[[], str]) -> Finding:
    """The finding of one look; where it failed, what the error itself advises comes before ``remedy``."""
    try:
        return Finding(ok=True, subject=subject, message=look())
    except CloudTasksError as error:
        return Finding(ok=False, subject=subject, message=error.message, remedy=error.hint or remedy)


def _entry(clients: Clients) -> tuple[Finding, Any]:
    """Whether we are let in, and the compute provider's description; None where nothing more can be asked."""
    try:
        with mapped(f"use the subscription {clients.subscription}"):
            provider = clients.resources.providers.get(_COMPUTE)
    except NotFoundError as error:
        remedy = "az account list --output table, then set azure.subscription_id"
        return Finding(ok=False, subject="subscription", message=error.message, remedy=remedy), None
    except ProviderError as error:
        subject = "credentials" if error.hint == LOGIN else "subscription"
        return Finding(ok=False, subject=subject, message=error.message, remedy=error.hint or _POLICY), None
    message = f"they are accepted for the subscription {clients.subscription}"
    return Finding(ok=True, subject="credentials", message=message), provider


def _registered(clients: Clients, namespace: str, provider: Any) -> Finding:
    return _look(namespace, _POLICY, lambda: _registration(clients, namespace, provider))


def _registration(clients: Clients, namespace: str, provider: Any = None) -> str:
    if provider is None:
        with mapped(f"look for the provider {namespace}"):
            provider = clients.resources.providers.get(namespace)
    state = str(provider.registration_state or "")
    if state.lower() != "registered":
        raise CloudTasksError(
            f"the subscription does not use this provider yet ({state or 'unknown state'})",
            hint=f"az provider register --namespace {namespace} --subscription {clients.subscription}",
        )
    return "it is registered"


def _region(location: str, provider: Any) -> str:
    if not location:
        raise CloudTasksError("none is given", hint="give --region, or run.region")
    found = {each.name: each for each in regions_of(provider)}
    if location not in found:
        raise CloudTasksError(f'there is no region "{location}"')
    # The last place is the region as a whole.
    return f"{location} has {len(found[location].zones) - 1} zones"


def _sizes(clients: Clients, location: str) -> str:
    with mapped(f"list the sizes of {location}"):
        skus = tuple(clients.compute.resource_skus.list(filter=f"location eq '{location}'"))
    machines = [each for each in skus if str(each.resource_type).lower() == "virtualmachines"]
    open_ones = [each for each in machines if not _closed(each)]
    if not open_ones:
        raise CloudTasksError(
            f"the subscription may have none of {len(machines)} sizes in {location}",
            hint=f"az vm list-skus --location {location} --all --output table shows why; choose another region",
        )
    return f"{len(open_ones)} of {len(machines)} sizes can be had in {location}"


def _closed(sku: Any) -> bool:
    return any(str(getattr(each.type, "value", each.type)) == "Location" for each in sku.restrictions or ())


def _quotas(clients: Clients, location: str) -> Iterator[Finding]:
    limits: dict[str, Any] = {}

    def read() -> str:
        with mapped("read the subscription's quotas"):
            limits.update({str(each.name.value).lower(): each for each in clients.compute.usage.list(location)})
        return f"{len(limits)} can be read"

    quotas = _look("quotas", _POLICY, read)
    if not quotas.ok:
        yield quotas
        return
    for subject, (name, kind) in _QUOTAS.items():
        remedy = (
            f"az quota update --resource-name {name} --resource-type {kind} --limit-object value=64 --scope"
            f" /subscriptions/{clients.subscription}/providers/{_COMPUTE}/locations/{location}"
        )
        quota = limits.get(name.lower())
        yield _look(subject, remedy, lambda quota=quota, name=name: _quota(quota, name, location))  # type: ignore[misc]


def _quota(quota: Any, name: str, location: str) -> str:
    if quota is None:
        raise CloudTasksError(f"{location} tells none of the name {name}")
    free = quota.limit - quota.current_value
    told = f"{quota.current_value} of {quota.limit} cores are used in {location}"
    if free < 1:
        raise CloudTasksError(told)
    return told


def _machines(clients: Clients) -> str:
    with mapped("list machines"):
        found = next(iter(clients.compute.virtual_machines.list_all()), None)
    return "they can be listed" + ("" if found is not None else "; there are none")


def _permissions(clients: Clients, settings: AzureSettings) -> Finding:
    """What we may do where machines are made, compared with the controller's role."""
    subject = "permissions"
    scope = f"/subscriptions/{clients.subscription}"
    if settings.resource_group is not None:
        scope += f"/resourcegroups/{settings.resource_group}"
    try:
        given = _given(clients, scope)
    except CloudTasksError as error:
        # Not to be told is no proof of not having them.
        message = f"whether machines may be made cannot be told beforehand: {error.message}"
        return Finding(ok=True, subject=subject, message=message, remedy=_POLICY)
    lacking = missing(compute_actions(settings), given)
    if not lacking:
        return Finding(ok=True, subject=subject, message=f"everything that the controller's role has, in {scope}")
    more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
    return Finding(
        ok=False,
        subject=subject,
        message=f"these are missing in {scope}: {', '.join(lacking[:_SHOWN])}{more}",
        remedy=f'az role assignment create --assignee YOU --role "cloud-tasks controller" --scope {scope}'
        f" (the role: {_POLICY})",
    )


def _given(clients: Clients, scope: str) -> list[Mapping[str, Any]]:
    """Our permissions in a scope: "Permissions - List For Resource Group" in the authorization API."""
    address = f"{scope}/providers/Microsoft.Authorization/permissions?api-version={_PERMISSIONS_VERSION}"
    found: list[Mapping[str, Any]] = []
    while address:
        with mapped("list our permissions"):
            answer = clients.resources.send_request(HttpRequest("GET", address))
            answer.raise_for_status()
        try:
            page = answer.json()
            found += [each for each in page["value"] if isinstance(each, Mapping)]
            address = str(page.get("nextLink") or "")
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ProviderError("the answer is none of Azure's") from error
    return found


def _identity(clients: Clients, settings: AzureSettings) -> Finding:
    subject, identity = "managed identity", settings.managed_identity
    if identity is None:
        return Finding(
            ok=False,
            subject=subject,
            message="none is set: workers have no access to queues, and a machine cannot delete itself",
            remedy="az identity create --name cloud-tasks-worker --resource-group GROUP; give it the worker's role"
            " (doctor --policy), then set azure.managed_identity to its id",
        )
    if identity == "system":
        return Finding(
            ok=True,
            subject=subject,
            message="each machine gets one of its own, which has no role when it is made",
            remedy="an identity that is made once can be given the worker's role: az identity create",
        )
    return _look(subject, _create_command(identity), lambda: _resource(clients, identity))


def _named(clients: Clients, settings: AzureSettings) -> Iterator[Finding]:
    """What the settings name, where they name something."""
    group = settings.resource_group
    if group is not None:
        remedy = f"az group create --name {group} --location LOCATION"

        def look() -> str:
            with mapped(f"read the resource group {group}"):
                return f"{clients.resources.resource_groups.get(group).name} is there"

        yield _look("resource group", remedy, look)
    for subject, resource_id in (("subnet", settings.subnet), ("security group", settings.security_group)):
        if resource_id is not None:
            yield _look(
                subject,
                _create_command(resource_id),
                lambda resource_id=resource_id: _resource(clients, resource_id),  # type: ignore[misc]
            )


def _resource(clients: Clients, resource_id: str) -> str:
    kind, name = resource_id.split("/")[-2].lower(), resource_id.rpartition("/")[2]
    version = _API_VERSIONS.get(kind, _NETWORK_VERSION)
    with mapped(f"read {name}"):
        clients.resources.resources.get_by_id(resource_id.lstrip("/"), api_version=version)
    return f"{name} is there"


def _create_command(resource_id: str) -> str:
    """The command that makes such a thing."""
    parts = resource_id.split("/")
    known = dict(zip(parts[1::2], parts[2::2], strict=False))
    group, name = f"--resource-group {known.get('resourceGroups', 'GROUP')}", f"--name {parts[-1]}"
    match parts[-2].lower():
        case "userassignedidentities":
            return f"az identity create {group} {name}"
        case "subnets":
            network = known.get("virtualNetworks", "NETWORK")
            return f"az network vnet subnet create {group} --vnet-name {network} {name} --address-prefixes 10.0.0.0/16"
        case _:
            return f"az network nsg create {group} {name}"
