"""Validation of inserted instances, as in the API, and their creation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gce_bodies import check_body
from gce_catalog import MachineType
from gce_records import ApiError, Disk, Instance
from google.cloud import compute_v1 as sdk

if TYPE_CHECKING:
    from gce_cloud import Cloud

__all__ = ["check_insert", "new_instance"]

_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_KEY = re.compile(r"[a-z][-_a-z0-9]{0,62}")
_LABEL_VALUE = re.compile(r"[-_a-z0-9]{0,63}")


def check_insert(cloud: Cloud, zone: str, body: dict[str, Any]) -> MachineType:
    """Return the machine type of a valid insertion. Raise `ApiError` for an invalid one."""
    if zone not in cloud.catalog.types:
        raise ApiError(404, "notFound", f"The resource 'projects/{cloud.project}/zones/{zone}' was not found")
    check_body(sdk.Instance, body)
    name = body.get("name", "")
    if not _NAME.fullmatch(name):
        raise ApiError(400, "invalid", f"Invalid value for field 'resource.name': '{name}'.")
    if (zone, name) in cloud.instances:
        path = f"projects/{cloud.project}/zones/{zone}/instances/{name}"
        raise ApiError(409, "alreadyExists", f"The resource '{path}' already exists")
    requested = str(body.get("machineType", "")).rpartition("/")[2]
    machine_type = cloud.catalog.types[zone].get(requested)
    if machine_type is None:
        raise ApiError(
            400,
            "invalid",
            f"Invalid value for field 'resource.machineType': '{body.get('machineType')}'. "
            f"Machine type with name '{requested}' does not exist in zone '{zone}'.",
        )
    for key, value in body.get("labels", {}).items():
        if not (_LABEL_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(value)):
            raise ApiError(400, "invalid", f"Invalid value for field 'resource.labels': '{key}={value}'.")
    for disk in body.get("disks", []):
        parameters = disk.get("initializeParams", {})
        _check_image(cloud, parameters.get("sourceImage", ""), int(parameters.get("diskSizeGb", 10)), machine_type)
    _check_network(cloud, body.get("networkInterfaces") or ())
    _check_scheduling(machine_type, body.get("scheduling", {}))
    return machine_type


def _check_network(cloud: Cloud, interfaces: Sequence[dict[str, Any]]) -> None:
    if not interfaces:
        raise ApiError(400, "invalid", "At least one network interface is required.")
    network = str(interfaces[0].get("network", ""))
    if network and network.rpartition("/")[2] not in cloud.networks:
        path = f"projects/{cloud.project}/{network}"
        raise ApiError(
            400,
            "invalid",
            f"Invalid value for field 'resource.networkInterfaces[0].network': '{network}'. "
            f"The referenced network resource cannot be found: '{path}'.",
        )


def _check_scheduling(machine_type: MachineType, scheduling: dict[str, Any]) -> None:
    spot = scheduling.get("provisioningModel") == "SPOT"
    if machine_type.spot_only and not spot:
        text = f"Machine type {machine_type.name} supports only the provisioning models SPOT and FLEX_START."
        raise ApiError(400, "invalid", f"Invalid value for field 'resource.scheduling.provisioningModel': {text}")
    if scheduling.get("onHostMaintenance", "TERMINATE" if spot else "MIGRATE") == "MIGRATE":
        if machine_type.gpu_count:
            raise ApiError(400, "badRequest", "Instances with guest accelerators do not support live migration.")
        if machine_type.pinned:
            raise ApiError(400, "badRequest", f"Machine type {machine_type.name} does not support live migration.")


def _check_image(cloud: Cloud, image: str, disk_gb: int, machine_type: MachineType) -> None:
    parts = image.split("/")
    project, last = (parts[1] if len(parts) > 1 else ""), parts[-1]
    key = "family" if "/family/" in image else "name"
    found = [each for each in cloud.images if each["project"] == project and each[key] == last]
    if not found:
        raise ApiError(404, "notFound", f"The resource '{image}' was not found")
    if found[0].get("deprecated") in ("OBSOLETE", "DELETED"):
        raise ApiError(400, "invalid", f"Invalid value for field 'sourceImage': '{image}'. The resource is obsolete.")
    architectures = [found[0].get("arch", "X86_64"), "ARM64" if machine_type.arm else "X86_64"]
    if architectures[0] not in ("", architectures[1]):
        message = (
            f"Requested boot disk architecture ({architectures[0]}) is not compatible with machine type architecture "
            f"({architectures[1]})."
        )
        raise ApiError(400, "invalid", f"Invalid value for field 'resource.disks[0]': {message}")
    size = int(found[0].get("disk_gb", 10))
    if disk_gb < size:
        message = f"Requested disk size cannot be smaller than the image size ({size} GB)"
        raise ApiError(400, "invalid", f"Invalid value for field 'resource.disks[0].initializeParams': {message}")


def new_instance(
    zone: str, body: dict[str, Any], machine_type: MachineType, *, numbers: Iterator[int], now: float
) -> Instance:
    """Return the inserted instance with its disks attached."""
    instance = Instance(
        name=body["name"],
        zone=zone,
        body=body,
        ident=next(numbers),
        created=now,
        machine_type=machine_type.name,
        vcpus=machine_type.vcpus,
    )
    for index, given in enumerate(body["disks"]):
        parameters = given.get("initializeParams", {})
        disk = Disk(
            name=parameters.get("diskName") or (body["name"] if index == 0 else f"{body['name']}-{index}"),
            zone=zone,
            type_name=str(parameters.get("diskType", "pd-standard")).rpartition("/")[2],
            size_gb=int(parameters.get("diskSizeGb", 10)),
            ident=next(numbers),
            created=now,
            labels=dict(parameters.get("labels", {})),
            user=instance.name,
        )
        instance.disks.append(disk)
    return instance
