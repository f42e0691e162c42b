"""Checks for instances: service, quotas, region, network, permissions, service account."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cloud_tasks.errors import InputError, NotFoundError
from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.plugin.kit import DoubtError, Probe
from cloud_tasks_gcp.doctor.checks import Answer, Checks
from cloud_tasks_gcp.doctor.staging_check import check_staging
from cloud_tasks_gcp.permissions import COMPUTE
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["check_compute"]

_SCARCE = ("CPUS_ALL_REGIONS", "CPUS", "INSTANCES", "IN_USE_ADDRESSES", "DISKS_TOTAL_GB", "SSD_TOTAL_GB")
"""Quota metrics that every kind of instance uses."""
_ESSENTIAL = ("compute.disks.create", "compute.instances.create")
_ACT_AS = "iam.serviceAccounts.actAs"


def check_compute(settings: GcpSettings, context: CheckContext) -> Iterable[Finding]:
    """Check whether instances can be launched in the region of the context."""
    return _ComputeChecks(settings, context, settings.compute_endpoint).findings()


class _ComputeChecks(Checks):
    def __init__(self, settings: GcpSettings, context: CheckContext, endpoint: str) -> None:
        super().__init__(settings, context, endpoint)
        zone = context.launch.offer.zone if context.launch is not None else context.zone or ""
        self._region = context.region or zone.rpartition("-")[0]
        self._found: dict[str, Answer] = {}
        """Resources that were read, by path."""

    def probes(self) -> Iterator[Probe]:
        yield self.probe("Compute Engine API", self._check_service)
        if self.failed:
            return
        yield self.probe("quotas of the project", lambda: self._check_quotas("", "project-info describe"))
        yield self.probe("region", self._check_region)
        if "region" not in self.failed:
            path, describe = f"/regions/{self._region}", f"regions describe {self._region}"
            yield self.probe(f"quotas of {self._region}", lambda: self._check_quotas(path, describe))
        is_managed = self.has(self.settings.resource_manager_endpoint)
        if is_managed:
            yield from self._networks()
            yield self.optional(
                "permissions for instances", lambda: self.check_permissions(COMPUTE, essential=_ESSENTIAL)
            )
        if self.context.staging and self.has(self.settings.storage_endpoint):
            yield self.probe("staging", lambda: check_staging(self))
        if self.has(self.settings.iam_endpoint):
            yield self.optional("service account of instances", self._check_account)
            if is_managed and "service account of instances" not in self.failed:
                yield self.optional("roles of the service account", self._check_roles)

    @property
    def _email(self) -> str:
        """Address of the instances' service account; empty if there is none."""
        return self.settings.service_account or str(self._found[""].get("defaultServiceAccount") or "")

    def _read(self, path: str) -> Answer:
        where = f"compute/v1/projects/{self.project}{path}"
        self._found[path] = self.request(self.endpoint, "compute.googleapis.com", lambda rest: rest.get(where))
        return self._found[path]

    def _check_service(self) -> str:
        self._read("")
        return f"enabled for project {self.project}"

    def _check_region(self) -> str:
        region, zone = self._region, self.context.zone
        choose = f"run: gcloud compute regions list --project {self.project}, and add --region REGION"
        if not region:
            raise InputError("no region set", hint=choose)
        try:
            answer = self._read(f"/regions/{region}")
        except NotFoundError as error:
            raise InputError(f"region {region} not found", hint=choose) from error
        zones = tuple(str(each).rpartition("/")[2] for each in answer.get("zones") or ())
        if zone and zones and zone not in zones:
            raise InputError(f"region {region} has no zone {zone}", hint=f"choose one of {', '.join(zones)}")
        return f"{region}, {len(zones)} zone{'' if len(zones) == 1 else 's'}"

    def _check_quotas(self, path: str, describe: str) -> str:
        """Check the quotas of a resource that was read, as far as every instance uses them."""
        quotas = [each for each in self._found[path].get("quotas") or () if each.get("metric") in _SCARCE]
        exhausted = [
            f"{each['metric']} ({float(each.get('usage', 0)):g} of {float(each.get('limit', 0)):g} used)"
            for each in quotas
            if float(each.get("usage", 0)) >= float(each.get("limit", 0))
        ]
        if not exhausted:
            return "none exhausted"
        raise DoubtError(
            f"exhausted: {', '.join(exhausted)}",
            hint=f"run: gcloud compute {describe} --project {self.project}; "
            "request higher quotas at IAM & Admin > Quotas in the console",
        )

    def _networks(self) -> Iterator[Probe]:
        """Yield the check of network or subnetwork; paths, possibly of other projects, are not checked."""
        network, subnetwork = self.settings.network or "default", self.settings.subnetwork
        if subnetwork and "/" not in subnetwork and self._region:
            yield self.probe("network", lambda: self._check_subnetwork(subnetwork))
        elif not subnetwork and "/" not in network:
            yield self.probe("network", lambda: self._check_network(network))

    def _check_network(self, name: str) -> str:
        try:
            self._read(f"/global/networks/{name}")
        except NotFoundError as error:
            raise InputError(
                f"network {name} not found",
                hint=f"run: gcloud compute networks create {name} --subnet-mode auto --project {self.project}, "
                "or set gcp.network to another one",
            ) from error
        return f"{name} found"

    def _check_subnetwork(self, name: str) -> str:
        region, command = self._region, "run: gcloud compute networks subnets"
        try:
            answer = self._read(f"/regions/{region}/subnetworks/{name}")
        except NotFoundError as error:
            raise InputError(
                f"subnetwork {name} not found in {region}",
                hint=f"{command} list --project {self.project} --filter region:{region}",
            ) from error
        if self.settings.external_address or answer.get("privateIpGoogleAccess"):
            return f"{name} found"
        raise DoubtError(
            f"instances without an external address cannot reach Google's services from {name}",
            hint=f"{command} update {name} --region {region} --project {self.project} "
            "--enable-private-ip-google-access (and add Cloud NAT for pip)",
        )

    def _check_account(self) -> str:
        email, project, command = self._email, self.project, "run: gcloud iam service-accounts"
        if not email:
            raise InputError(
                f"project {project} has no default service account",
                hint="create a service account for instances, and add --service-account EMAIL",
            )
        if not self.settings.service_account:
            return (
                f"the project's default, {email}; add --service-account EMAIL for one with the permissions of a worker"
            )
        path, body = f"v1/projects/-/serviceAccounts/{email}:testIamPermissions", {"permissions": [_ACT_AS]}
        try:
            answer = self.request(self.settings.iam_endpoint, "iam.googleapis.com", lambda rest: rest.post(path, body))
        except NotFoundError as error:
            raise InputError(
                f"service account {email} not found",
                hint=f"{command} create {email.partition('@')[0]} --project {project}",
            ) from error
        if _ACT_AS in (answer.get("permissions") or ()):
            return f"{email}, usable by instances"
        raise InputError(
            f"these credentials cannot launch instances with the service account {email}",
            hint=f"{command} add-iam-policy-binding {email} --project {project} "
            "--member user:YOU --role roles/iam.serviceAccountUser",
        )

    def _check_roles(self) -> str:
        """Check whether the instances' account has a role: without one, no worker can use the queue.

        In organizations made since May 2024, default accounts have none ("Compute Engine default service account"). A
        named account may have roles of a group or a folder, which the project's policy does not show.
        """
        email = self._email
        bindings = self.manage("getIamPolicy", {}).get("bindings") or ()
        roles = sorted(each["role"] for each in bindings if f"serviceAccount:{email}" in (each.get("members") or ()))
        if roles:
            return ", ".join(roles)
        raise (DoubtError if self.settings.service_account else InputError)(
            f"{email} has no role in project {self.project}, so workers cannot receive tasks",
            hint="run: cloud-tasks doctor --provider gcp --policy, and grant the role of the worker",
        )
