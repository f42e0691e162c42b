"""Azure VMs of one subscription in one region.

Invariants, each with a test:

1. A client token creates one VM, however often and by whichever process it is used: the VM's name contains the token,
   and creation is refused if the name is taken.
2. Launches from several threads run concurrently: one waits for another only if both need the same sizes or
   network.
3. A launch returns when the VM exists, or raises the error of its operation after deleting what was created.
4. Resources whose VM is gone are listed as a stopped instance until they are deleted.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError

from cloud_tasks.errors import InputError, LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import Architecture, Headroom, Image, Instance, InstanceType, LaunchRequest, Offer, Region
from cloud_tasks.plugin import ComputeContext
from cloud_tasks.plugin.kit import ended_instance
from cloud_tasks_azure.compute.arm import BEGIN, COMPUTE, RESOURCES, Arm
from cloud_tasks_azure.compute.build import vm_body
from cloud_tasks_azure.compute.compute_errors import after_launch_request, translate_errors
from cloud_tasks_azure.compute.console import read_console
from cloud_tasks_azure.compute.disks import disk_problem
from cloud_tasks_azure.compute.image_resolver import ImageResolver
from cloud_tasks_azure.compute.keys import throwaway_key
from cloud_tasks_azure.compute.listing import get_vm, leftovers, list_parts, list_vms, tag_of, vm_statuses
from cloud_tasks_azure.compute.locations import Locations
from cloud_tasks_azure.compute.network import Networks, Place, is_missing_placement
from cloud_tasks_azure.compute.own_images import OwnImages
from cloud_tasks_azure.compute.startup_script import custom_data
from cloud_tasks_azure.compute.tags import INSTANCE_TAG, JOB_TAG, instance_name
from cloud_tasks_azure.compute.terminate import delete_vm, terminate_instances
from cloud_tasks_azure.compute.to_model import (
    VmStatus,
    group_of,
    leftover_instance,
    provisioning_state,
    to_instance,
)
from cloud_tasks_azure.compute.zones import location_of, regions_of
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["AzureCompute", "open_compute"]

log = structlog.get_logger()

_LAUNCH_TIMEOUT = timedelta(minutes=10)
_NEVER = frozenset({""})
"""No VM has this name."""


class AzureCompute:
    """`Compute` of one Azure subscription. Thread-safe.

    Args:
        arm: Closed with this object.
    """

    def __init__(self, arm: Arm, settings: AzureSettings, context: ComputeContext) -> None:
        self._arm = arm
        self._settings = settings
        self._context = context
        self._region = (context.region or location_of(context.zone or "")).lower()
        self._images = ImageResolver(arm)
        self._own_images = OwnImages(arm, settings, self._region)
        self._networks = Networks(arm, settings)
        self._lock = threading.Lock()
        self._locations = Locations(arm, has_address=settings.public_address)
        self._listed: dict[str, tuple[str, str]] = {}
        """Resource group and job of instances, by name."""
        self._watched: dict[str | None, frozenset[str]] = {}
        """Names of a job's VMs; one that a listing does not have may have left something."""
        self._launched: dict[str, str] = {}
        """Resource ids of VMs by name, which a listing may not have yet."""
        self._key = settings.ssh_public_key or ""
        self._ended: set[str] = set()
        self._used_jobs: set[str] = set()
        """Jobs whose instances this object launched or terminated: `close` deletes their unused networks."""

    # -- catalog --

    def regions(self) -> Sequence[Region]:
        with translate_errors("list regions"):
            provider = self._arm.get("/providers/Microsoft.Compute", RESOURCES)
        return regions_of(provider)

    def images(self) -> Sequence[Image]:
        return self._images.list()

    def find_image(self, name: str | None, architecture: Architecture) -> Image | None:
        return self._images.find(name, architecture, self._region)

    def instance_types(self) -> Sequence[InstanceType]:
        if not self._region:
            raise InputError(
                "no region is set",
                hint="set --region or --zone; list regions with: cloud-tasks list-regions --provider azure",
            )
        sizes = self._locations.sizes(self._region)
        if not sizes:
            raise InputError(
                f'region "{self._region}" not found, or without sizes available to this subscription',
                hint="list regions with: cloud-tasks list-regions --provider azure",
            )
        return tuple(size.instance_type for size in sizes.values())

    def headroom(self, offer: Offer) -> Headroom | None:
        return self._locations.headroom(offer)

    # -- launching --

    def launch(self, request: LaunchRequest) -> Instance:
        problem = disk_problem(request.offer.boot_disk)
        if problem:
            raise LaunchRefusedError(
                problem, scope=RefusalScope.INSTANCE_TYPE, retry_after=timedelta(days=1), reason="InvalidDisk"
            )
        location, name = location_of(request.offer.zone), instance_name(request)
        with self._lock:
            # Nothing of a deleted VM is left at Azure, and its name is free again.
            if name in self._ended:
                return ended_instance(request, name)
            self._used_jobs.add(request.job_id)
        try:
            return self._launch(request, self._networks.place(request.job_id, location), name)
        except ProviderError as error:
            if not is_missing_placement(error):
                raise
        # The cached resource group or network was deleted.
        self._networks.forget(request.job_id)
        return self._launch(request, self._networks.place(request.job_id, location), name)

    def _launch(self, request: LaunchRequest, place: Place, name: str) -> Instance:
        vm_id = f"{self._path(place.group)}/providers/Microsoft.Compute/virtualMachines/{name}"
        found = self._get(vm_id)
        if found is None:
            found = self._create(request, place, vm_id)
        elif _is_changing(found):
            found = self._await(vm_id)
        with self._lock:
            self._listed[name], self._launched[name] = (place.group, request.job_id), vm_id
        self._watch(name, request.job_id)
        if found is None:
            return ended_instance(request, name)
        if provisioning_state(found) == "failed":
            # Left by an earlier call with this token that ended before deleting it.
            self._discard(vm_id, request.job_id)
            raise ProviderError(f"cannot launch {name}: an earlier attempt failed", transient=True)
        return to_instance(found)

    def _create(self, request: LaunchRequest, place: Place, vm_id: str) -> Mapping[str, Any] | None:
        name = vm_id.rpartition("/")[2]
        body = self._body(request, place, vm_id)
        create: Any = self._arm.compute().virtual_machines.begin_create_or_update
        # Only a new one: HTTP 412 if the VM exists.
        options = {"etag": "*", "match_condition": MatchConditions.IfMissing, "api_version": COMPUTE, **BEGIN}
        try:
            with translate_errors(f"launch {name}", launching=True):
                try:
                    response = create(place.group, name, body, **options).result()
                except HttpResponseError as error:
                    # The VM exists: the response of an earlier call was lost, or a concurrent call created it.
                    if error.status_code not in (409, 412) or self._get(vm_id) is None:
                        raise
                    return self._await(vm_id)
                with after_launch_request():
                    self._arm.wait(self._arm.operation(response), timeout=_LAUNCH_TIMEOUT)
            with after_launch_request():
                return self._get(vm_id)
        except LaunchRefusedError:
            self._discard(vm_id, request.job_id)
            raise

    def _discard(self, vm_id: str, job_id: str) -> None:
        """Delete what a failed creation left; what cannot be deleted now is listed and terminated like any instance."""
        try:
            if self._get(vm_id) is not None:
                delete_vm(self._arm, vm_id)
        except ProviderError as error:
            name = vm_id.rpartition("/")[2]
            self._watch(name, job_id)
            log.warning(f"Cannot delete the rest of {name} yet: {error.message}")

    def _path(self, group: str) -> str:
        return f"/subscriptions/{self._arm.subscription}/resourceGroups/{group}"

    def _body(self, request: LaunchRequest, place: Place, vm_id: str) -> dict[str, Any]:
        instance_type = request.offer.instance_type
        location = location_of(request.offer.zone)
        size = self._locations.sizes(location).get(instance_type.name)
        generations = size.generations if size is not None else frozenset({"V2"})
        return vm_body(
            request,
            self._settings,
            image=self._images.resolve(request.image, instance_type.architecture, location, generations),
            subnet=place.subnet,
            security_group=place.security_group,
            custom_data=custom_data(request, self._settings, vm_id),
            public_key=self._public_key(),
        )

    def _public_key(self) -> str:
        with self._lock:
            self._key = self._key or throwaway_key()
            return self._key

    def _get(self, vm_id: str) -> Mapping[str, Any] | None:
        """Return the VM, or None if it does not exist."""
        return get_vm(self._arm, group_of(vm_id), vm_id.rpartition("/")[2])

    def _await(self, vm_id: str) -> Mapping[str, Any] | None:
        """Wait for a VM that another call creates and return it; None if it was deleted."""
        pause = threading.Event()
        deadline = datetime.now(UTC) + _LAUNCH_TIMEOUT
        while True:
            with after_launch_request():
                found = self._get(vm_id)
            if found is None or not _is_changing(found):
                return found
            if datetime.now(UTC) > deadline:
                name = vm_id.rpartition("/")[2]
                raise ProviderError(f"cannot launch {name}: the operation is still running", transient=True)
            pause.wait(self._settings.operation_poll_seconds)

    # -- listing --

    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        with self._lock:
            watched = self._watched.get(job_id, _NEVER)
        found = list_vms(self._arm, job_id, foreign=foreign)
        statuses = vm_statuses(self._arm) if found else {}
        left = self._leftovers(job_id, watched, found)
        with self._lock:
            for each in (*found, *(some[0] for some in left.values())):
                name = tag_of(each, INSTANCE_TAG) or str(each["name"])
                self._listed[name] = (group_of(each["id"]), tag_of(each, JOB_TAG))
        return (
            *(to_instance(each, statuses.get(str(each["id"]).lower(), VmStatus())) for each in found),
            *(leftover_instance(name, some) for name, some in left.items()),
        )

    def _leftovers(
        self, job_id: str | None, watched: frozenset[str], vms: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, list[Mapping[str, Any]]]:
        """Return what VMs left, by name; looked for at first, and after a VM has disappeared until nothing is left.

        Args:
            watched: Names of VMs before they were listed.
        """
        names = frozenset(str(each["name"]) for each in vms)
        left: Mapping[str, list[Mapping[str, Any]]] = {}
        if not watched <= names:
            parts = [each for kind in list_parts(self._arm, job_id) for each in kind]
            left = leftovers(self._arm, parts, vms)
            # Unlisted VMs with resources: what they left is still to be deleted, or they are too new to be listed.
            names |= {tag_of(each, INSTANCE_TAG) for each in parts} - _NEVER
        with self._lock:
            launched_meanwhile = self._watched.get(job_id, frozenset()) - watched
            self._watched[job_id] = names | launched_meanwhile
        return left

    def _watch(self, name: str, job_id: str) -> None:
        """Look for what this VM left if the next listing does not have it."""
        with self._lock:
            for each in (job_id, None):
                self._watched[each] = self._watched.get(each, _NEVER) | {name}

    # -- termination and console --

    def terminate(self, instance_ids: Sequence[str]) -> None:
        with self._lock:
            jobs = {self._listed.get(name, ("", ""))[1] or self._context.job_id for name in instance_ids} - {""}
            self._used_jobs |= jobs
            if self._context.job_id:
                self._ended.update(instance_ids)
            launched = {name: self._launched[name] for name in instance_ids if name in self._launched}
        terminate_instances(self._arm, instance_ids, launched)

    def console_log(self, instance_id: str) -> str:
        group = self._group(instance_id)
        return read_console(self._arm, group, instance_id) if group else ""

    def _group(self, instance_id: str) -> str:
        """Return the resource group of an instance; empty if there is no such instance."""
        with self._lock:
            is_known = instance_id in self._listed
        if not is_known:
            self.instances(None)
        with self._lock:
            return self._listed.get(instance_id, ("", ""))[0]

    # -- images of instances --

    def find_own_image(self, name: str) -> str | None:
        return self._own_images.find(name)

    def make_image(self, instance_id: str, name: str) -> str:
        group = self._group(instance_id)
        if not group:
            raise ProviderError(f"cannot make an image of {instance_id}: it does not exist")
        return self._own_images.make(group, instance_id, name)

    def close(self) -> None:
        """Delete the unused networks of jobs that this object worked on, and close connections."""
        for job_id in sorted(self._used_jobs):
            try:
                self._networks.remove_unused(job_id)
            except ProviderError as error:
                log.warning(f"Cannot delete the network of job {job_id} (it costs nothing): {error.message}")
        self._arm.close()


def _is_changing(vm: Mapping[str, Any]) -> bool:
    return provisioning_state(vm) in ("creating", "updating")


@contextmanager
def open_compute(settings: AzureSettings, context: ComputeContext) -> Iterator[AzureCompute]:
    """Open Virtual Machines. Raises `ProviderError` without a subscription."""
    compute = AzureCompute(Arm(settings), settings, context)
    try:
        yield compute
    finally:
        compute.close()
