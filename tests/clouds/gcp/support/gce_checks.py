"""Validation of inserted instances, as in the API, and their creation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gce_catalog import MachineType
from gce_records import ApiError, Disk, Instance

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
        _check_image(cloud, parameters.get("sourceImage", ""), int(parameters.get("diskSizeGb", 10)))
    if not body.get("networkInterfaces"):
        raise ApiError(400, "invalid", "At least one network interface is required.")
    return machine_type


def _check_image(cloud: Cloud, image: str, disk_gb: int) -> None:
    parts = image.split("/")
    project, last = (parts[1] if len(parts) > 1 else ""), parts[-1]
    key = "family" if "/family/" in image else "name"
    found = [each for each in cloud.catalog.images if each["project"] == project and each[key] == last]
    if not found:
        raise ApiError(404, "notFound", f"The resource '{image}' was not found")
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
