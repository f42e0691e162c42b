"""Images of the fake: galleries with definitions and versions, made of its VMs.

Sources: "Galleries", "Gallery Images", "Gallery Image Versions" and "Virtual Machines" in the REST reference of Azure;
"Troubleshoot images in an Azure Compute Gallery" for the refusals.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arm_catalog import IMAGES, SizeSpec
from arm_models import problems_of
from arm_records import ArmError, Operation, VirtualMachine
from fake_server import Answer, Request

if TYPE_CHECKING:
    from arm_cloud import Cloud

__all__ = ["OwnImages", "facts_of"]

_GALLERY = "Microsoft.Compute/galleries"
_NAMES = {
    _GALLERY: r"[A-Za-z0-9](?:[\w.]{0,78}[A-Za-z0-9])?",
    f"{_GALLERY}/images": r"[A-Za-z0-9](?:[\w.-]{0,78}[A-Za-z0-9])?",
    f"{_GALLERY}/images/versions": r"\d+\.\d+\.\d+",
}
_FIXED = ("osState", "osType", "hyperVGeneration", "architecture", "identifier")
"""Properties of a definition that cannot be changed."""


def facts_of(cloud: Cloud, vm: VirtualMachine) -> dict[str, Any]:
    """Return what the disk of a VM inherits from the image of the VM."""
    storage = vm.resource["properties"]["storageProfile"]
    image = storage["imageReference"]
    definition = cloud.images.definition_of(image)
    if definition is not None:
        generation, architecture = definition["hyperVGeneration"], definition["architecture"]
    else:
        sku = str(image.get("sku", ""))
        generation = "V1" if sku.endswith("gen1") else "V2"
        architecture = "Arm64" if sku.endswith("arm64") else "x64"
    facts = IMAGES.get((image.get("publisher", ""), image.get("offer", ""), image.get("sku", "")))
    return {
        "hyperVGeneration": generation,
        "supportedCapabilities": {
            "architecture": architecture,
            "diskControllerTypes": "SCSI, NVMe",
            "acceleratedNetwork": True,
        },
        "diskSizeGB": storage["osDisk"].get("diskSizeGB", 30),
        **({"purchasePlan": dict(facts.plan)} if facts is not None and facts.plan else {}),
    }


class OwnImages:
    """Galleries of the subscription; the resources are among those of the cloud."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._roots: dict[str, Path] = {}
        """Root folders of bare machines of which versions were made, by id."""
        self.failure = ""
        """Reason of the failure of the next version."""

    # -- the VM --

    def generalize(self, vm: VirtualMachine) -> None:
        with self._cloud.lock:
            if vm.power not in ("stopped", "deallocated"):
                message = f"The virtual machine '{vm.name}' is running: only a stopped one can be generalized."
                raise ArmError(409, "OperationNotAllowed", message)
            vm.generalized = True

    # -- galleries --

    def put(self, resource_id: str, kind: str, body: dict[str, Any]) -> tuple[dict[str, Any], Operation]:
        problems = problems_of(kind, body)
        if problems:
            raise ArmError(400, "InvalidRequestContent", "; ".join(problems))
        cloud, key = self._cloud, resource_id.lower()
        name = resource_id.rpartition("/")[2]
        if not re.fullmatch(_NAMES[kind], name):
            raise ArmError(400, "InvalidParameter", f"The entity name '{name}' is invalid according to its rule.")
        with cloud.lock:
            cloud._check_group(resource_id)
            if kind != _GALLERY and resource_id.rsplit("/", 2)[0].lower() not in cloud.resources:
                raise ArmError(404, "ParentResourceNotFound", f"The parent of '{name}' could not be found.")
            properties = dict(body.get("properties") or {})
            if kind == f"{_GALLERY}/images":
                self._check_definition(key, properties)
            elif kind != _GALLERY:
                self._check_version(key, body["location"], properties)
            resource = {**body, "id": resource_id, "name": name, "type": kind, "properties": properties}
            properties["provisioningState"] = "Creating"
            cloud.resources[key] = resource
            operation = cloud._operation("create", key)
        cloud.timeline.after(cloud.times.provision, lambda: self._complete(resource, operation))
        return resource, operation

    def _check_definition(self, key: str, properties: dict[str, Any]) -> None:
        for each in ("osState", "osType", "identifier"):
            if each not in properties:
                raise ArmError(
                    400, "InvalidParameter", f"Required parameter 'galleryImage.properties.{each}' is missing."
                )
        known = self._cloud.resources.get(key)
        if known is not None and any(known["properties"].get(each) != properties.get(each) for each in _FIXED):
            raise ArmError(409, "PropertyChangeNotAllowed", "Changing properties of the gallery image is not allowed.")
        siblings = key.rpartition("/")[0] + "/"
        for other, found in self._cloud.resources.items():
            same = found["properties"].get("identifier") == properties["identifier"]
            if other != key and other.startswith(siblings) and same:
                raise ArmError(409, "Conflict", "A gallery image with the same identifier exists in the gallery.")

    def _check_version(self, key: str, location: str, properties: dict[str, Any]) -> None:
        cloud = self._cloud
        if key in cloud.resources:
            raise ArmError(409, "Conflict", "The gallery image version exists, and its source cannot be changed.")
        source = str(properties["storageProfile"].get("source", {}).get("virtualMachineId", "")).lower()
        vm = cloud.machines.get(source)
        if vm is None:
            raise ArmError(404, "NotFound", f"The source of the gallery image version, '{source}', was not found.")
        if vm.resource["location"] != location:
            raise ArmError(400, "InvalidParameter", "The source and the gallery image version are in other regions.")
        regions = [each["name"] for each in properties["publishingProfile"]["targetRegions"]]
        if location not in regions:
            raise ArmError(400, "InvalidParameter", "The location must be among the target regions.")
        definition = cloud.resources[key.rsplit("/", 2)[0]]["properties"]
        if definition["osState"] == "Generalized" and not vm.generalized:
            raise ArmError(400, "InvalidParameter", "The source virtual machine is not generalized.")
        facts = facts_of(cloud, vm)
        if definition.get("hyperVGeneration", "V1") != facts["hyperVGeneration"]:
            raise ArmError(400, "InvalidParameter", "The hypervisor generation is not that of the gallery image.")
        if definition.get("architecture", "x64") != facts["supportedCapabilities"]["architecture"]:
            raise ArmError(400, "InvalidParameter", "The architecture is not that of the gallery image.")
        properties["storageProfile"] = {
            **properties["storageProfile"],
            "osDiskImage": {"sizeInGB": facts["diskSizeGB"], "hostCaching": "ReadWrite"},
        }
        if vm.root is not None:
            self._roots[key] = vm.root

    def _complete(self, resource: dict[str, Any], operation: Operation) -> None:
        problem = None
        with self._cloud.lock:
            if self.failure and resource["type"].endswith("versions"):
                problem, self.failure = ArmError(500, "InternalExecutionError", self.failure), ""
            resource["properties"]["provisioningState"] = "Failed" if problem else "Succeeded"
        self._cloud._finish(operation, problem)

    def get(self, resource_id: str) -> dict[str, Any]:
        found = self._cloud.resources.get(resource_id.lower())
        if found is None:
            raise ArmError(
                404, "ResourceNotFound", f"The Resource '{resource_id.partition('/providers/')[2]}' was not found."
            )
        return found

    def delete(self, resource_id: str) -> Operation | None:
        key = resource_id.lower()
        with self._cloud.lock:
            if any(each.startswith(f"{key}/") for each in self._cloud.resources):
                raise ArmError(409, "CannotDeleteResource", "Cannot delete resource while nested resources exist.")
        return self._cloud.delete(resource_id)

    # -- VMs from images --

    def definition_of(self, image: dict[str, str]) -> dict[str, Any] | None:
        """Return the properties of the definition of a gallery version; None for another image."""
        key = image.get("id", "").lower()
        if "/galleries/" not in key:
            return None
        version = self._cloud.resources.get(key)
        if version is None or version["properties"]["provisioningState"] != "Succeeded":
            raise ArmError(404, "GalleryImageNotFound", f"The gallery image {image['id']} is not available.")
        found: dict[str, Any] = self._cloud.resources[key.rsplit("/", 2)[0]]["properties"]
        return found

    def check(self, shape: SizeSpec, location: str, storage: dict[str, Any]) -> None:
        """Raise `ArmError` if a VM cannot start from its image of a gallery."""
        image = storage["imageReference"]
        definition = self.definition_of(image)
        if definition is None:
            return
        version = self._cloud.resources[image["id"].lower()]["properties"]
        if location not in [each["name"] for each in version["publishingProfile"]["targetRegions"]]:
            raise ArmError(404, "GalleryImageNotFound", f"The gallery image {image['id']} is not in {location}.")
        if (definition["architecture"] == "Arm64") != shape.arm:
            message = (
                f"Cannot create a VM of size '{shape.name}' because its CPU Architecture does not match the image's."
            )
            raise ArmError(400, "BadRequest", message)
        if definition["hyperVGeneration"] not in shape.generations:
            raise ArmError(400, "BadRequest", f"The selected VM size '{shape.name}' cannot boot this generation.")
        size = version["storageProfile"]["osDiskImage"]["sizeInGB"]
        if storage["osDisk"].get("diskSizeGB", size) < size:
            raise ArmError(400, "InvalidParameter", f"The specified disk size is smaller than {size} GB of the image.")

    def root_of(self, vm: VirtualMachine) -> Path | None:
        """Return the root folder of the image of a VM, if it was made of a bare machine."""
        return self._roots.get(vm.resource["properties"]["storageProfile"]["imageReference"].get("id", "").lower())

    # -- the API --

    def serve(
        self,
        route: Callable[[str, str, Callable[[Request], Any]], None],
        group: str,
        accepted: Callable[..., Answer],
        machine: Callable[[Request], VirtualMachine],
    ) -> None:
        """Add the routes."""
        image = r"(?P<image>/images/[^/]+(?P<version>/versions/[^/]+)?)?"
        path = rf"{group}/providers/Microsoft\.Compute/galleries/[^/]+{image}"

        def kind_of(request: Request) -> str:
            parts = request.groups
            return _GALLERY + ("/images" if parts["image"] else "") + ("/versions" if parts["version"] else "")

        def put(request: Request) -> Answer:
            resource, operation = self.put(request.path, kind_of(request), request.json())
            return accepted(operation, 201, resource)

        def generalize(request: Request) -> Answer:
            self.generalize(machine(request))
            return Answer(status=200)

        route("GET", path, lambda request: self.get(request.path))
        route("PUT", path, put)
        route("DELETE", path, lambda request: accepted(self.delete(request.path), 202))
        vm = rf"{group}/providers/Microsoft\.Compute/virtualMachines/(?P<name>[^/]+)"
        route("POST", f"{vm}/deallocate", lambda request: accepted(self._cloud.deallocate(machine(request)), 202))
        route("POST", f"{vm}/generalize", generalize)
