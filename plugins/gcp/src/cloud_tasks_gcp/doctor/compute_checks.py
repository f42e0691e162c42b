"""Checks for instances: service, quotas, region, network, permissions, service account."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks_gcp.doctor.account import Account, Answer, check_permissions, failed, finding, open_account, skipped
from cloud_tasks_gcp.permissions import COMPUTE
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["check_compute"]

_SCARCE = ("CPUS_ALL_REGIONS", "CPUS", "INSTANCES", "IN_USE_ADDRESSES", "DISKS_TOTAL_GB", "SSD_TOTAL_GB")
"""Quota metrics that every kind of instance uses."""
_ESSENTIAL = ("compute.disks.create", "compute.instances.create")


def check_compute(settings: GcpSettings, context: CheckContext) -> Iterable[Finding]:
    """Check whether instances can be launched in the region of the context."""
    account, findings = open_account(settings, settings.compute_endpoint)
    if account is None:
        return findings
    found: list[Answer] = []
    findings.append(
        finding(
            "Compute Engine API",
            lambda: account.compute(""),
            lambda _: f"enabled for project {account.project}",
            keep=found,
        )
    )
    if not found:
        return findings
    findings += _quotas(
        "quotas of the project", found[0], f"gcloud compute project-info describe --project {account.project}"
    )
    findings += _region(account, context)
    if not account.skips(settings.compute_endpoint, settings.resource_manager_endpoint):
        findings += _network(account, context)
        findings.append(check_permissions(account, "permissions for instances", COMPUTE, essential=_ESSENTIAL))
    if not account.skips(settings.compute_endpoint, settings.iam_endpoint):
        email = settings.service_account or str(found[0].get("defaultServiceAccount") or "")
        findings.append(_service_account(account, email))
        if findings[-1].ok and not account.skips(settings.compute_endpoint, settings.resource_manager_endpoint):
            findings.append(_roles(account, email))
    return findings


def _region_of(context: CheckContext) -> str:
    zone = context.launch.offer.zone if context.launch is not None else context.zone or ""
    return context.region or zone.rpartition("-")[0]


def _region(account: Account, context: CheckContext) -> Iterator[Finding]:
    region = _region_of(context)
    choose = f"run: gcloud compute regions list --project {account.project}, and add --region REGION"
    if not region:
        yield Finding(ok=False, subject="region", message="no region set", remedy=choose, prevents_run=True)
        return
    try:
        answer = account.compute(f"/regions/{region}")
    except NotFoundError:
        message = f"region {region} not found"
        yield Finding(ok=False, subject="region", message=message, remedy=choose, prevents_run=True)
        return
    except ProviderError as error:
        yield failed("region", error)
        return
    zones = tuple(str(zone).rpartition("/")[2] for zone in answer.get("zones") or ())
    if context.zone and zones and context.zone not in zones:
        message = f"region {region} has no zone {context.zone}"
        remedy = f"choose one of {', '.join(zones)}"
        yield Finding(ok=False, subject="region", message=message, remedy=remedy, prevents_run=True)
    else:
        yield Finding(ok=True, subject="region", message=f"{region}, {len(zones)} zone{'' if len(zones) == 1 else 's'}")
    describe = f"gcloud compute regions describe {region} --project {account.project}"
    yield from _quotas(f"quotas of {region}", answer, describe)


def _quotas(subject: str, answer: Answer, describe: str) -> Iterator[Finding]:
    """Return one finding: the exhausted ones among the quotas that every instance uses."""
    exhausted = []
    for quota in answer.get("quotas") or ():
        limit, usage = float(quota.get("limit", 0)), float(quota.get("usage", 0))
        if quota.get("metric") in _SCARCE and usage >= limit:
            exhausted.append(f"{quota['metric']} ({usage:g} of {limit:g} used)")
    if exhausted:
        yield Finding(
            ok=False,
            subject=subject,
            message=f"exhausted: {', '.join(exhausted)}",
            remedy=f"run: {describe}; request higher quotas at IAM & Admin > Quotas in the console",
        )
    else:
        yield Finding(ok=True, subject=subject, message="none exhausted")


def _network(account: Account, context: CheckContext) -> Iterator[Finding]:
    settings = account.settings
    region = _region_of(context)
    if settings.subnetwork and "/" not in settings.subnetwork and region:
        yield from _subnetwork(account, region, settings.subnetwork)
        return
    network = settings.network or "default"
    if settings.subnetwork or "/" in network:
        return
    try:
        account.compute(f"/global/networks/{network}")
    except NotFoundError:
        yield Finding(
            ok=False,
            subject="network",
            message=f"network {network} not found",
            remedy=f"run: gcloud compute networks create {network} --subnet-mode auto --project {account.project}, "
            "or set gcp.network to another one",
            prevents_run=True,
        )
    except ProviderError as error:
        yield failed("network", error)
    else:
        yield Finding(ok=True, subject="network", message=f"{network} found")


def _subnetwork(account: Account, region: str, name: str) -> Iterator[Finding]:
    try:
        answer = account.compute(f"/regions/{region}/subnetworks/{name}")
    except NotFoundError:
        yield Finding(
            ok=False,
            subject="network",
            message=f"subnetwork {name} not found in {region}",
            remedy=f"run: gcloud compute networks subnets list --project {account.project} --filter region:{region}",
            prevents_run=True,
        )
        return
    except ProviderError as error:
        yield failed("network", error)
        return
    if account.settings.external_address or answer.get("privateIpGoogleAccess"):
        yield Finding(ok=True, subject="network", message=f"{name} found")
        return
    yield Finding(
        ok=False,
        subject="network",
        message=f"instances without an external address cannot reach Google's services from {name}",
        remedy=f"run: gcloud compute networks subnets update {name} --region {region} --project {account.project} "
        "--enable-private-ip-google-access (and add Cloud NAT for pip)",
    )


def _service_account(account: Account, email: str) -> Finding:
    subject = "service account of instances"
    project = account.project
    if not email:
        message = f"project {project} has no default service account"
        remedy = "create a service account for instances, and add --service-account EMAIL"
        return Finding(ok=False, subject=subject, message=message, remedy=remedy, prevents_run=True)
    if not account.settings.service_account:
        message = (
            f"the project's default, {email}; add --service-account EMAIL for one with the permissions of a worker"
        )
        return Finding(ok=True, subject=subject, message=message)
    path = f"v1/projects/-/serviceAccounts/{email}:testIamPermissions"
    body = {"permissions": ["iam.serviceAccounts.actAs"]}
    try:
        answer = account.request(
            account.settings.iam_endpoint, "iam.googleapis.com", lambda rest: rest.post(path, body)
        )
    except NotFoundError:
        return Finding(
            ok=False,
            subject=subject,
            message=f"service account {email} not found",
            remedy=f"run: gcloud iam service-accounts create {email.partition('@')[0]} --project {project}",
            prevents_run=True,
        )
    except ProviderError as error:
        return skipped(subject, error)
    if "iam.serviceAccounts.actAs" in (answer.get("permissions") or ()):
        return Finding(ok=True, subject=subject, message=f"{email}, usable by instances")
    return Finding(
        ok=False,
        subject=subject,
        message=f"these credentials cannot launch instances with the service account {email}",
        remedy=f"run: gcloud iam service-accounts add-iam-policy-binding {email} --project {project} "
        "--member user:YOU --role roles/iam.serviceAccountUser",
        prevents_run=True,
    )


def _roles(account: Account, email: str) -> Finding:
    """Check whether the instances' account has a role: without one, no worker can use the queue.

    In organizations made since May 2024, default accounts have none ("Compute Engine default service account"). A named
    account may have roles of a group or a folder, which the project's policy does not show.
    """
    subject, service = "roles of the service account", "cloudresourcemanager.googleapis.com"
    path = f"v1/projects/{account.project}:getIamPolicy"
    try:
        policy = account.request(account.settings.resource_manager_endpoint, service, lambda rest: rest.post(path, {}))
    except ProviderError as error:
        return skipped(subject, error)
    bindings = policy.get("bindings") or ()
    roles = sorted(each["role"] for each in bindings if f"serviceAccount:{email}" in (each.get("members") or ()))
    if roles:
        return Finding(ok=True, subject=subject, message=", ".join(roles))
    return Finding(
        ok=False,
        subject=subject,
        message=f"{email} has no role in project {account.project}, so workers cannot receive tasks",
        remedy="run: cloud-tasks doctor --provider gcp --policy, and grant the role of the worker",
        prevents_run=not account.settings.service_account,
    )
