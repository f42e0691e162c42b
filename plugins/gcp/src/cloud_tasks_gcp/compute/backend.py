"""`GceCompute`: the instances of one project in one region.

Invariants, each with a test:

1. One client token makes one instance, for any launcher and number of calls: the instance's name and the request
   id are derived from the token.
2. Launches from several threads run in parallel: no lock is held while a launch waits.
3. A launch returns when the instance exists, or raises the error of the failed operation.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import structlog
from google.api_core.exceptions import Conflict
from google.cloud import compute_v1 as sdk

from cloud_tasks.errors import InputError, LaunchRefusedError, NotFoundError, ProviderError, RefusalScope
from cloud_tasks.model import (
    Architecture,
    Headroom,
    Image,
    Instance,
    InstanceType,
    LaunchRequest,
    Offer,
    Region,
)
from cloud_tasks.plugin import ComputeContext
from cloud_tasks.plugin.kit import CONSOLE_BYTES, FanOut, ended_instance
from cloud_tasks_gcp.compute.build import instance_resource
from cloud_tasks_gcp.compute.clients import ANSWER_TIMEOUT, Clients, read_retry
from cloud_tasks_gcp.compute.compute_errors import (
    after_launch_request,
    launch_error,
    problem_of,
    translate_errors,
)
from cloud_tasks_gcp.compute.image_resolver import ImageResolver
from cloud_tasks_gcp.compute.labels import instance_name, job_filter
from cloud_tasks_gcp.compute.listing import all_instances
from cloud_tasks_gcp.compute.operations import operation_problem, wait_for_operation
from cloud_tasks_gcp.compute.own_images import find_own_image, make_image
from cloud_tasks_gcp.compute.quotas import headroom
from cloud_tasks_gcp.compute.terminate import terminate_instances
from cloud_tasks_gcp.compute.to_model import last_part, to_instance, to_instance_types
from cloud_tasks_gcp.credentials import project_id
from cloud_tasks_gcp.disks import disk_problem
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["GceCompute", "open_compute"]

log = structlog.get_logger()

_LAUNCH_TIMEOUT = timedelta(minutes=10)
_QUOTA_AGE = timedelta(seconds=30)
_AI_ZONE = re.compile(r"-ai[0-9]+[a-z]$")
"""Zones for accelerators, such as ``us-central1-ai1a``, which lack other services and are far from the region's zones
("AI zones"): used only if a run names one."""
_NAMESPACE = uuid.UUID("6b4b7a3e-7d5c-5e0f-9b1a-5a0c3f6f2a51")


@contextmanager
def open_compute(settings: GcpSettings, context: ComputeContext) -> Iterator[GceCompute]:
    """Open Compute Engine. Raise `ProviderError` without credentials or project."""
    project = project_id(settings)
    compute = GceCompute(Clients(settings, project), project, settings, context)
    try:
        yield compute
    finally:
        compute.close()


class GceCompute:
    """The `Compute` of one project. Thread-safe.

    Args:
        clients: Client pool, closed with this object.
    """

    def __init__(self, clients: Clients, project: str, settings: GcpSettings, context: ComputeContext) -> None:
        self._clients = clients
        self._project = project
        self._settings = settings
        self._region = context.region or (context.zone or "").rpartition("-")[0]
        self._zone_asked_for = context.zone
        self._images = ImageResolver(clients, project)
        self._lock = threading.Lock()
        self._zone_of: dict[str, str] = {}
        self._job_zones: set[str] = set()
        """Zones in which the job has launched instances."""
        self._silent: frozenset[str] = frozenset()
        """Zones that the last listing left out."""
        self._quota_lock = threading.Lock()
        self._quotas: dict[str, tuple[datetime, Mapping[str, float], Mapping[str, float]]] = {}

    # -- catalog and quotas --

    def regions(self) -> Sequence[Region]:
        with self._clients.acquire() as clients, translate_errors("list regions"):
            request = sdk.ListRegionsRequest(project=self._project, max_results=500)
            found = list(clients.regions.list(request=request, retry=read_retry(), timeout=ANSWER_TIMEOUT))
        return tuple(
            Region(name=each.name, zones=tuple(sorted(map(last_part, each.zones))), description=each.description)
            for each in found
            if each.status == "UP"
        )

    def images(self) -> Sequence[Image]:
        return self._images.list_images()

    def find_image(self, name: str | None, architecture: Architecture) -> Image | None:
        return self._images.describe(name, architecture)

    def instance_types(self) -> Sequence[InstanceType]:
        zones = self._zones()
        with closing(FanOut(len(zones), "gcp-types")) as fan_out:
            found = dict(zip(zones, fan_out.outcomes(self._types_of_zone, zones), strict=True))
        failed = {zone: types for zone, types in found.items() if isinstance(types, ProviderError)}
        if len(failed) == len(zones) or self._zone_asked_for in failed:
            raise failed.get(self._zone_asked_for or "") or next(iter(failed.values()))
        for error in failed.values():
            log.warning(f"{error}; continuing without this zone")
        return to_instance_types(
            (zone, each) for zone, types in found.items() if not isinstance(types, ProviderError) for each in types
        )

    def _types_of_zone(self, zone: str) -> list[sdk.MachineType]:
        with self._clients.acquire() as clients, translate_errors(f"list the machine types of {zone}"):
            request = sdk.ListMachineTypesRequest(project=self._project, zone=zone, max_results=500)
            return list(clients.machine_types.list(request=request, retry=read_retry(), timeout=ANSWER_TIMEOUT))

    def _zones(self) -> tuple[str, ...]:
        if not self._region:
            raise InputError(
                "no region set", hint="add --region or --zone; run: cloud-tasks list-regions --provider gcp"
            )
        region = self._get_region(self._region)
        found = map(last_part, region.zones)
        zones = tuple(sorted(each for each in found if each == self._zone_asked_for or not _AI_ZONE.search(each)))
        if not zones:
            raise ProviderError(f"region {self._region} has no zones")
        return zones

    def _get_region(self, name: str) -> sdk.Region:
        try:
            with self._clients.acquire() as clients, translate_errors(f"read the region {name}"):
                return clients.regions.get(
                    project=self._project, region=name, retry=read_retry(), timeout=ANSWER_TIMEOUT
                )
        except NotFoundError as error:
            raise InputError(
                f'region "{name}" not found', hint="run: cloud-tasks list-regions --provider gcp"
            ) from error

    def headroom(self, offer: Offer) -> Headroom | None:
        name = offer.zone.rpartition("-")[0]
        with self._quota_lock:
            known = self._quotas.get(name)
            if known is None or datetime.now(UTC) - known[0] > _QUOTA_AGE:
                known = self._quotas[name] = (datetime.now(UTC), *self._read_quotas(name))
        _, region, project = known
        return headroom(offer, region=region, project=project, external_address=self._settings.external_address)

    def _read_quotas(self, region: str) -> tuple[dict[str, float], dict[str, float]]:
        regional = self._get_region(region).quotas
        with self._clients.acquire() as clients, translate_errors("read the project's quotas"):
            project = clients.projects.get(project=self._project, retry=read_retry(), timeout=ANSWER_TIMEOUT)
        return tuple(  # type: ignore[return-value]  # two dictionaries
            {quota.metric: quota.limit - quota.usage for quota in quotas} for quotas in (regional, project.quotas)
        )

    # -- launching --

    def launch(self, request: LaunchRequest) -> Instance:
        zone, name = request.offer.zone, instance_name(request)
        problem = disk_problem(request.offer.boot_disk)
        if problem:
            raise LaunchRefusedError(
                problem, scope=RefusalScope.INSTANCE_TYPE, retry_after=timedelta(days=1), reason="INVALID_DISK"
            )
        image = self._images.resolve(request.image, request.offer.instance_type.architecture)
        body = instance_resource(request, self._settings, image=image, region=zone.rpartition("-")[0])
        insert = sdk.InsertInstanceRequest(
            project=self._project,
            zone=zone,
            instance_resource=body,
            request_id=str(uuid.uuid5(_NAMESPACE, request.client_token)),
        )
        with self._clients.acquire() as clients:
            what = f"start {name}"
            with translate_errors(what, launching=True):
                operation = self._insert(clients.instances, insert)
            if operation is not None:
                with after_launch_request():
                    done = wait_for_operation(
                        clients, operation, project=self._project, zone=zone, what=what, timeout=_LAUNCH_TIMEOUT
                    )
                failure = operation_problem(done)
                if failure is not None:
                    raise launch_error(what, failure)
            self.note_zones({name: zone})
            try:
                with after_launch_request(), translate_errors(f"read {name}"):
                    found = clients.instances.get(
                        project=self._project, zone=zone, instance=name, retry=read_retry(), timeout=ANSWER_TIMEOUT
                    )
            except NotFoundError:
                return ended_instance(request, name)
        return to_instance(found)

    def _insert(self, instances: sdk.InstancesClient, insert: sdk.InsertInstanceRequest) -> sdk.Operation | None:
        """Start the insertion; return None when an earlier call with this token created the instance."""
        try:
            return instances.insert_unary(request=insert, timeout=ANSWER_TIMEOUT)
        except Conflict as error:
            if problem_of(error).code in ("alreadyExists", "ALREADY_EXISTS", "HTTP_409"):
                return None
            raise

    # -- images --

    def find_own_image(self, name: str) -> str | None:
        return find_own_image(self._clients, self._project, name)

    def make_image(self, instance_id: str, name: str) -> str:
        zone = self._zone(instance_id)
        if zone is None:
            raise ProviderError(f"cannot make an image of {instance_id}: it does not exist")
        return make_image(self._clients, self._project, zone, instance_id, name)

    # -- listing --

    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        unmanaged = foreign and job_id is None
        filter = "" if unmanaged else job_filter(job_id)
        # The zones of a job are those of its region; without a region, it may have instances in any zone.
        required = self._is_required if self._region or job_id is None else lambda place: True
        found, silent = all_instances(self._clients, self._project, filter, required)
        instances = tuple(to_instance(each) for each in found)
        with self._lock:
            self._zone_of.update((each.instance_id, each.zone) for each in instances if each.job_id)
            self._job_zones |= {each.zone for each in instances if job_id is not None}
            is_new, self._silent = silent - self._silent, silent
        if is_new:
            log.warning(f"No answer from {', '.join(sorted(is_new))}: instances there are not listed")
        return instances

    def _is_required(self, place: str) -> bool:
        """Return whether a zone or region may hold instances of the job."""
        with self._lock:
            places = {self._region, *self._job_zones}
        return any(
            each == place or each.startswith(f"{place}-") or place.startswith(f"{each}-") for each in places if each
        )

    def note_zones(self, zones: Mapping[str, str]) -> None:
        with self._lock:
            self._zone_of.update(zones)
            self._job_zones.update(zones.values())

    # -- termination and console --

    def terminate(self, instance_ids: Sequence[str]) -> None:
        with self._lock:
            zone_of = dict(self._zone_of)
        terminate_instances(self._clients, self._project, instance_ids, zone_of, self._is_required)

    def console_log(self, instance_id: str) -> str:
        zone = self._zone(instance_id)
        if zone is None:
            return ""
        try:
            with self._clients.acquire() as clients, translate_errors(f"read the console of {instance_id}"):
                return _console(clients.instances, self._project, zone, instance_id)
        except NotFoundError:
            return ""

    def _zone(self, instance_id: str) -> str | None:
        with self._lock:
            known = self._zone_of.get(instance_id)
        if known is not None:
            return known
        found = {each.instance_id: each.zone for each in self.instances(None)}
        return found.get(instance_id)

    def close(self) -> None:
        self._clients.close()


def _console(instances: sdk.InstancesClient, project: str, zone: str, name: str) -> str:
    """Return the end of the first serial port's output; the API returns it in pieces by position."""
    text, start = "", 0
    while True:
        request = sdk.GetSerialPortOutputInstanceRequest(project=project, zone=zone, instance=name, port=1, start=start)
        piece = instances.get_serial_port_output(request=request, retry=read_retry(), timeout=ANSWER_TIMEOUT)
        text = (text + piece.contents)[-CONSOLE_BYTES:]
        if not piece.contents or piece.next_ <= start:
            return text
        start = piece.next_
