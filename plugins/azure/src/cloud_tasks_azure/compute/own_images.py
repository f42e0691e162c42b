"""Images of instances, for ``cloud-tasks image build``: versions of an Azure Compute Gallery, one gallery per region.

A managed image would be one resource instead of three, but there is none of an Arm64 or trusted launch VM, and at most
20 VMs can start from it at a time ("Create a legacy managed image"). A version has copies for more ("Store and share
images in an Azure Compute Gallery", scaling).

The version is generalized: a VM of a specialized one has no ``osProfile``, and so no startup script. Its VM is
deallocated first, which also completes the file system, and then marked. The guest is not changed by ``waagent
-deprovision``, which needs a login, and which a gallery does not demand ("Remove machine specific information by
generalizing a VM"): on our images cloud-init provisions a VM, and does so again on each with another instance id: user
data, host keys, user and name. The boot guard likewise. What the definition has to say of the image, the disk of the VM
reports: generation, architecture, disk controllers, plan; also trusted launch, which this plugin does not ask for but a
policy of the organization may add.

The resource group of jobs ends with its job; images are in the one of the settings, or in that of ``cloud-tasks setup
azure``.

Invariants, each with a test:

1. Only an image with the tag of cloud-tasks is found, returned, replaced or deleted.
2. An image that failed is deleted, and its reason is raised; one that another call makes is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import structlog
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from cloud_tasks.errors import ProviderError
from cloud_tasks_azure.compute.arm import BEGIN, COMPUTE, DISKS, GALLERIES, RESOURCES, Arm
from cloud_tasks_azure.compute.compute_errors import translate_errors
from cloud_tasks_azure.compute.listing import tag_of
from cloud_tasks_azure.compute.tags import IMAGE_TAG, disk_name
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["OWN_GROUP", "OwnImages"]

log = structlog.get_logger()

OWN_GROUP = "cloud-tasks"
"""Resource group of what outlives jobs, unless the settings name one."""
_VERSION = "1.0.0"
_COPIES = 3
"""Copies of an image: one for every 20 VMs that start at a time is recommended."""
_TIMEOUT = timedelta(minutes=60)
"""Time limit of a step; a version takes some minutes."""


class OwnImages:
    """Images in one region. Thread-safe."""

    def __init__(self, arm: Arm, settings: AzureSettings, region: str) -> None:
        self._arm = arm
        self._region = region
        self._group = settings.resource_group or OWN_GROUP
        self._tags = {**settings.tags, IMAGE_TAG: "1"}
        # Names of galleries have no hyphens.
        self._gallery = f"cloud_tasks_{region}"

    def find(self, name: str) -> str | None:
        """Implement `ImageMaker.find_own_image`."""
        found = self._read(name)
        return str(found["id"]) if found is not None and _state(found) == "succeeded" and _is_ours(found) else None

    def make(self, group: str, vm: str, name: str) -> str:
        """Implement `ImageMaker.make_image` for a VM of a resource group."""
        if (found := self.find(name)) is not None:
            return found
        self._check_name(name)
        try:
            definition = self._prepare(group, vm, name)
            with translate_errors(f"make the image {name}"):
                self._create_parents(name, definition)
                self._create(f"{self._path(group)}/providers/Microsoft.Compute/virtualMachines/{vm}", name)
            return self._await(name)
        except ProviderError:
            self._discard(name)
            raise

    def _check_name(self, name: str) -> None:
        """Delete what an earlier call left of an image. Raises `ProviderError` if the name is not ours."""
        version = self._read(name)
        for each in (self._get(self._arm.compute().gallery_images, self._gallery, name), version):
            if each is not None and not _is_ours(each):
                raise ProviderError(f"cannot make the image {name}: {self._gallery} has another one of this name")
        if version is not None and _state(version) == "failed":
            self._delete(name)

    def _prepare(self, group: str, vm: str, name: str) -> dict[str, Any]:
        """Stop a VM permanently, and return the properties of the definition of its image."""
        machines: Any = self._arm.compute().virtual_machines
        with translate_errors(f"stop {vm}"):
            self._finish(machines.begin_deallocate(group, vm, api_version=COMPUTE, **BEGIN))
            machines.generalize(group, vm, api_version=COMPUTE)
        with translate_errors(f"read the disk of {vm}"):
            return _definition(name, self._arm.compute().disks.get(group, disk_name(vm), api_version=DISKS))

    def _create_parents(self, name: str, definition: Mapping[str, Any]) -> None:
        compute: Any = self._arm.compute()
        body = {"location": self._region, "tags": self._tags}
        if not self._arm.exists(self._path(self._group), RESOURCES):
            self._arm.put(self._path(self._group), RESOURCES, body)
        if self._get(compute.galleries, self._gallery) is None:
            self._put(compute.galleries, self._gallery, body={**body, "properties": {}})
        self._put(compute.gallery_images, self._gallery, name, body={**body, "properties": definition})

    def _create(self, vm_id: str, name: str) -> None:
        body = {
            "location": self._region,
            "tags": self._tags,
            "properties": {
                "publishingProfile": {"targetRegions": [{"name": self._region, "regionalReplicaCount": _COPIES}]},
                "storageProfile": {"source": {"virtualMachineId": vm_id}},
            },
        }
        try:
            self._put(self._arm.compute().gallery_image_versions, self._gallery, name, _VERSION, body=body)
        except HttpResponseError as error:
            # Another call makes it.
            if error.status_code != 409 or self._read(name) is None:
                raise

    def _await(self, name: str) -> str:
        """Wait for a version, and return its id."""
        deadline = time.monotonic() + _TIMEOUT.total_seconds()
        while (found := self._read(name)) is not None and _state(found) in ("creating", "updating"):
            if time.monotonic() > deadline:
                break
            time.sleep(self._arm.poll_seconds)
        if found is None or _state(found) != "succeeded":
            raise ProviderError(f"cannot make the image {name}: it is {'gone' if found is None else _state(found)}")
        return str(found["id"])

    def _discard(self, name: str) -> None:
        """Delete what is left of an image that failed; not one that is complete, or being made."""
        try:
            found = self._read(name)
            if found is None or _state(found) == "failed":
                self._delete(name)
        except ProviderError as error:
            log.warning(f"Cannot delete the rest of the image {name} (it costs nothing): {error.message}")

    def _delete(self, name: str) -> None:
        """Delete a version with its definition, if it is ours."""
        compute: Any = self._arm.compute()
        options = {"api_version": GALLERIES, **BEGIN}
        definition = self._get(compute.gallery_images, self._gallery, name)
        if definition is None or not _is_ours(definition):
            return
        with translate_errors(f"delete the image {name}"):
            if self._read(name) is not None:
                versions = compute.gallery_image_versions
                self._finish(versions.begin_delete(self._group, self._gallery, name, _VERSION, **options))
            self._finish(compute.gallery_images.begin_delete(self._group, self._gallery, name, **options))

    # -- calls --

    def _path(self, group: str) -> str:
        return f"/subscriptions/{self._arm.subscription}/resourceGroups/{group}"

    def _read(self, name: str) -> Mapping[str, Any] | None:
        return self._get(self._arm.compute().gallery_image_versions, self._gallery, name, _VERSION)

    def _get(self, operations: Any, *place: str) -> Mapping[str, Any] | None:
        """Return a gallery, definition or version; None if it does not exist."""
        with translate_errors(f"read {place[-1] if len(place) == 1 else place[1]}"):
            try:
                found: Mapping[str, Any] = operations.get(self._group, *place, api_version=GALLERIES)
                return found
            except ResourceNotFoundError:
                return None

    def _put(self, operations: Any, *place: str, body: Mapping[str, Any]) -> None:
        self._finish(operations.begin_create_or_update(self._group, *place, body, api_version=GALLERIES, **BEGIN))

    def _finish(self, begun: Any) -> None:
        self._arm.wait(self._arm.operation(begun.result()), timeout=_TIMEOUT)


def _definition(name: str, disk: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of a definition, from the disk of a VM."""
    properties = disk.get("properties") or {}
    able = properties.get("supportedCapabilities") or {}
    security = (properties.get("securityProfile") or {}).get("securityType")
    plan = properties.get("purchasePlan")
    features = {
        "DiskControllerTypes": able.get("diskControllerTypes"),
        "IsAcceleratedNetworkSupported": "True" if able.get("acceleratedNetwork") else None,
        "SecurityType": security if security == "TrustedLaunch" else None,
    }
    found = {
        "osType": "Linux",
        "osState": "Generalized",
        "hyperVGeneration": properties.get("hyperVGeneration") or "V1",
        "architecture": able.get("architecture") or "x64",
        "identifier": {"publisher": "cloud-tasks", "offer": "cloud-tasks", "sku": name},
        "features": [{"name": each, "value": value} for each, value in features.items() if value],
    }
    if plan:
        found["purchasePlan"] = {key: plan[key] for key in ("name", "publisher", "product") if plan.get(key)}
    return found


def _state(version: Mapping[str, Any]) -> str:
    return str((version.get("properties") or {}).get("provisioningState") or "").lower()


def _is_ours(resource: Mapping[str, Any]) -> bool:
    return bool(tag_of(resource, IMAGE_TAG))
