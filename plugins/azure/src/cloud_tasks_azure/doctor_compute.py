"""Checks of a subscription for running jobs on Virtual Machines, for ``doctor`` and before a run. Read-only.

Invariants, each with a test:

1. A problem is reported as a finding with the command that fixes it, never as an exception.
2. Every request is a GET or a HEAD, except that of `cloud_tasks_azure.doctor_staging`.
3. After a failed sign-in no further request is sent.
4. What may pass by itself, or cannot be read with these permissions, prevents no run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Any

from cloud_tasks.errors import CloudTasksError, NotFoundError, ProviderError
from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.plugin.kit import DoubtError, Probe, is_certain, run_probes
from cloud_tasks_azure.compute.arm import COMPUTE, NETWORK, RESOURCES, Arm
from cloud_tasks_azure.compute.compute_errors import translate_errors
from cloud_tasks_azure.compute.image_resolver import has_gpu_driver
from cloud_tasks_azure.compute.listing import leftovers, list_parts, list_skus, list_usages, list_vms
from cloud_tasks_azure.compute.tags import JOB_TAG
from cloud_tasks_azure.compute.to_model import group_of
from cloud_tasks_azure.compute.zones import location_of, regions_of
from cloud_tasks_azure.credentials import LOGIN
from cloud_tasks_azure.doctor_access import (
    MAX_SHOWN,
    POLICY,
    check_access,
    check_identity,
    check_permissions,
    check_worker_role,
)
from cloud_tasks_azure.doctor_staging import check_staging
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["check_compute"]

_COMPUTE, _NETWORK, _STORAGE = "Microsoft.Compute", "Microsoft.Network", "Microsoft.Storage"
_QUOTAS: Mapping[str, tuple[str, str]] = {
    "on-demand quota": ("cores", "dedicated"),
    "spot quota": ("lowPriorityCores", "lowPriority"),
}
"""Quota of all cores of a region and its kind for `az quota` ("Quickstart: Request quota increase"), by subject."""
_DENIED = 403


def check_compute(settings: AzureSettings, context: CheckContext) -> Iterator[Finding]:
    """Yield one finding per check; a check whose prerequisite failed is skipped."""
    try:
        arm = Arm(settings)
    except CloudTasksError as error:
        remedy = error.hint or "run: az account list --output table"
        yield Finding(ok=False, subject="subscription", message=error.message, remedy=remedy, prevents_run=True)
        return
    with closing(arm):
        try:
            with translate_errors(f"use the subscription {arm.subscription}"):
                provider = arm.get(f"/providers/{_COMPUTE}", RESOURCES)
        except (NotFoundError, ProviderError) as error:
            subject = "credentials" if error.hint == LOGIN else "subscription"
            unknown = isinstance(error, NotFoundError)
            remedy = error.hint or (
                "run: az account list --output table, then set azure.subscription_id" if unknown else POLICY
            )
            yield Finding(
                ok=False, subject=subject, message=error.message, remedy=remedy, prevents_run=_prevents(error)
            )
            return
        message = f"accepted for the subscription {arm.subscription}"
        yield Finding(ok=True, subject="credentials", message=message)
        yield from run_probes(_probes(arm, provider, settings, context))


def _probes(arm: Arm, provider: Mapping[str, Any], settings: AzureSettings, context: CheckContext) -> Iterator[Probe]:
    """Yield the probes; before a run only those that are quick and can prevent it."""
    is_complete = context.launch is None
    zone = context.zone if context.launch is None else context.launch.offer.zone
    location = (context.region or location_of(zone or "")).lower()

    def probe(subject: str, look: Any, remedy: str = POLICY, *needs: str) -> Probe:
        return Probe(subject=subject, look=look, remedy=remedy, needs=needs, prevents_run=_prevents)

    yield probe(_COMPUTE, lambda: _registration(arm, _COMPUTE, provider))
    yield probe(_NETWORK, lambda: _registration(arm, _NETWORK))
    if is_complete:
        yield probe(_STORAGE, lambda: _registration(arm, _STORAGE))
    regions = "run: cloud-tasks list-regions --provider azure"
    yield probe("region", lambda: _region(location, provider), regions)
    if is_complete:
        yield probe("VM sizes", lambda: _sizes(arm, location), POLICY, "region")
        limits: dict[str, Mapping[str, Any]] = {}
        yield probe("quotas", lambda: _read_quotas(arm, location, limits), POLICY, "region")
        for subject, (name, kind) in _QUOTAS.items():
            remedy = (
                f"run: az quota update --resource-name {name} --resource-type {kind} --limit-object value=64 --scope"
                f" /subscriptions/{arm.subscription}/providers/{_COMPUTE}/locations/{location}"
            )
            yield probe(subject, partial(_quota, limits, name, location), remedy, "quotas")
        yield probe("instances", lambda: _instances(arm))
        yield probe("leftovers", lambda: _leftovers(arm), POLICY, "instances")
    elif context.launch is not None:
        launch = context.launch
        if launch.offer.instance_type.gpu_count:
            yield probe("image", lambda: _gpu_image(launch.image))
        if context.queue == "azure":
            yield probe("workers' access", lambda: check_access(settings, launch.startup_script))
    yield probe("permissions", lambda: check_permissions(arm, settings))
    identity = settings.managed_identity or ""
    yield probe("managed identity", lambda: check_identity(arm, settings, context), _create_command(identity))
    if is_complete and settings.managed_identity not in (None, "system"):
        yield probe(
            "worker's role", lambda: check_worker_role(arm, settings, context.queue), POLICY, "managed identity"
        )
    if context.staging:
        # Unlike other checks, it makes the request that a run makes: without the permission, it fails, too.
        yield Probe(
            subject="staging", look=lambda: check_staging(settings, context), remedy=POLICY, prevents_run=is_certain
        )
    if settings.resource_group is not None:
        group = settings.resource_group
        remedy = f"run: az group create --name {group} --location LOCATION"
        yield probe("resource group", lambda: _resource(arm, f"/resourceGroups/{group}", RESOURCES), remedy)
    named = {
        "subnet": settings.subnet,
        "security group": settings.security_group,
        "NAT gateway": settings.nat_gateway,
    }
    for subject, resource_id in named.items():
        if resource_id is not None:
            yield probe(subject, partial(_resource, arm, resource_id, NETWORK), _create_command(resource_id))


def _prevents(error: CloudTasksError) -> bool:
    """Return whether a run would certainly fail; it may work without the permission for a check."""
    is_denied = getattr(error.__cause__, "status_code", None) == _DENIED
    return is_certain(error) and not is_denied


def _registration(arm: Arm, namespace: str, provider: Mapping[str, Any] | None = None) -> str:
    if provider is None:
        with translate_errors(f"read the provider {namespace}"):
            provider = arm.get(f"/providers/{namespace}", RESOURCES)
    state = str(provider.get("registrationState") or "")
    if state.lower() != "registered":
        raise CloudTasksError(
            f"not registered for the subscription ({state or 'unknown state'})",
            hint=f"run: az provider register --namespace {namespace} --subscription {arm.subscription}",
        )
    return "registered"


def _region(location: str, provider: Mapping[str, Any]) -> str:
    if not location:
        raise CloudTasksError("not set", hint="set --region or run.region")
    found = {each.name: each for each in regions_of(provider)}
    if location not in found:
        raise CloudTasksError(f'region "{location}" not found')
    # The last zone is the region as a whole.
    zones = len(found[location].zones) - 1
    return f"{location}: {zones} {'zone' if zones == 1 else 'zones'}"


def _sizes(arm: Arm, location: str) -> str:
    sizes = [each for each in list_skus(arm, location) if str(each.get("resourceType")).lower() == "virtualmachines"]
    available = [
        each for each in sizes if not any(found.get("type") == "Location" for found in each.get("restrictions") or ())
    ]
    if not available:
        raise CloudTasksError(
            f"0 of {len(sizes)} sizes are available to the subscription in {location}",
            hint=f"see the reasons with: az vm list-skus --location {location} --all --output table;"
            " or choose another region",
        )
    return f"{len(available)} of {len(sizes)} sizes are available in {location}"


def _read_quotas(arm: Arm, location: str, limits: dict[str, Mapping[str, Any]]) -> str:
    limits.update({str(each["name"]["value"]).lower(): each for each in list_usages(arm, location)})
    return f"{len(limits)} quotas readable"


def _quota(limits: Mapping[str, Mapping[str, Any]], name: str, location: str) -> str:
    quota = limits.get(name.lower())
    if quota is None:
        raise CloudTasksError(f"no quota {name} reported in {location}")
    usage = f"{quota['currentValue']} of {quota['limit']} cores used in {location}"
    if quota["limit"] - quota["currentValue"] < 1:
        raise CloudTasksError(usage)
    return usage


def _instances(arm: Arm) -> str:
    with translate_errors("list instances"):
        vms = arm.compute().virtual_machines.list_all(api_version=COMPUTE)
        found = next(iter(vms), None)
    return "can be listed" + ("" if found is not None else "; none found")


def _leftovers(arm: Arm) -> str:
    """Look for disks, interfaces and addresses of jobs whose VM does not exist, which are billed, and for groups."""
    parts = [each for found in list_parts(arm) for each in found]
    vms = list_vms(arm, None)
    left = sorted(str(each["id"]) for some in leftovers(arm, parts, vms).values() for each in some)
    if left:
        names = ", ".join(each.rpartition("/")[2] for each in left[:MAX_SHOWN])
        raise DoubtError(f"{len(left)} without a VM: {names}", hint=f"run: az resource delete --ids {' '.join(left)}")
    with translate_errors("list resource groups"):
        groups = arm.entries("/resourceGroups", RESOURCES, **{"$filter": f"tagName eq '{JOB_TAG}'"})
    used = {group_of(each["id"]).lower() for each in vms}
    unused = [str(each["name"]) for each in groups if str(each["name"]).lower() not in used]
    more = f"; groups without a VM, which cost nothing: {', '.join(unused[:MAX_SHOWN])}" if unused else ""
    return f"no disk, interface or address without its VM{more}"


def _gpu_image(image: str | None) -> str:
    if not has_gpu_driver(image):
        raise DoubtError(
            "it has no GPU driver",
            hint="set run.image to an image with a driver, such as microsoft-dsvm:ubuntu-hpc:2204:latest, or let the"
            " startup script install one",
        )
    return "may have a GPU driver"


def _resource(arm: Arm, path: str, version: str) -> str:
    name = path.rpartition("/")[2]
    with translate_errors(f"read {name}"):
        arm.get(path, version)
    return f"{name} exists"


def _create_command(resource_id: str) -> str:
    """Return the command that creates the resource."""
    parts = resource_id.split("/")
    known = dict(zip(parts[1::2], parts[2::2], strict=False))
    group, name = f"--resource-group {known.get('resourceGroups', 'GROUP')}", f"--name {parts[-1]}"
    match parts[-2:-1] and parts[-2].lower():
        case "userassignedidentities":
            return f"run: az identity create {group} {name}"
        case "subnets":
            network = known.get("virtualNetworks", "NETWORK")
            command = f"run: az network vnet subnet create {group} --vnet-name {network} {name}"
            return f"{command} --address-prefixes 10.0.0.0/16"
        case "natgateways":
            return f"run: az network nat gateway create {group} {name}"
        case _:
            return f"run: az network nsg create {group} {name}"
