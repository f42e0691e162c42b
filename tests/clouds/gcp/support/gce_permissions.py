"""Permissions that each method of Compute Engine requires, by its reference page ("IAM Permissions")."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from fake_server import Request
from gce_records import ApiError

__all__ = ["check_permissions", "required"]

_METHODS: tuple[tuple[str, str, str], ...] = (
    ("GET", r"[^/]+", "compute.projects.get"),
    ("GET", r"[^/]+/regions", "compute.regions.list"),
    ("GET", r"[^/]+/regions/[^/]+", "compute.regions.get"),
    ("GET", r"[^/]+/regions/[^/]+/subnetworks/[^/]+", "compute.subnetworks.get"),
    ("GET", r"[^/]+/global/networks/[^/]+", "compute.networks.get"),
    ("GET", r"[^/]+/global/images", "compute.images.list"),
    ("GET", r"[^/]+/global/images/family/[^/]+", "compute.images.getFromFamily"),
    ("GET", r"[^/]+/global/images/[^/]+", "compute.images.get"),
    ("DELETE", r"[^/]+/global/images/[^/]+", "compute.images.delete"),
    ("POST", r"[^/]+/zones/[^/]+/instances/[^/]+/stop", "compute.instances.stop"),
    ("(GET|POST)", r"[^/]+/global/operations/[^/]+(/wait)?", "compute.globalOperations.get"),
    ("GET", r"[^/]+/aggregated/(instances|disks)", r"compute.\1.list"),
    ("GET", r"[^/]+/zones/[^/]+/(machineTypes|disks)", r"compute.\1.list"),
    ("GET", r"[^/]+/zones/[^/]+/instances/[^/]+", "compute.instances.get"),
    ("GET", r"[^/]+/zones/[^/]+/instances/[^/]+/serialPort", "compute.instances.getSerialPortOutput"),
    ("DELETE", r"[^/]+/zones/[^/]+/(instances|disks)/[^/]+", r"compute.\1.delete"),
    ("(GET|POST)", r"[^/]+/zones/[^/]+/operations/[^/]+(/wait)?", "compute.zoneOperations.get"),
)
"""HTTP method, path below ``projects/``, permission."""


def required(request: Request) -> Iterator[str]:
    """Yield the permissions that a request needs."""
    path = request.path.partition("/projects/")[2]
    if request.method == "POST" and path.endswith("/instances"):
        yield from _of_insert(request)
    if request.method == "POST" and path.endswith("/global/images"):
        yield from ("compute.images.create", "compute.images.setLabels", "compute.disks.useReadOnly")
    for method, pattern, permission in _METHODS:
        match = re.fullmatch(pattern, path)
        if re.fullmatch(method, request.method) and match is not None:
            yield match.expand(permission)


def _of_insert(request: Request) -> Iterator[str]:
    body = json.loads(request.body)
    yield "compute.instances.create"
    fields = {
        "labels": "setLabels",
        "metadata": "setMetadata",
        "serviceAccounts": "setServiceAccount",
        "tags": "setTags",
    }
    yield from (f"compute.instances.{permission}" for field, permission in fields.items() if body.get(field))
    for disk in body.get("disks", ()):
        parameters = disk.get("initializeParams", {})
        yield "compute.disks.create"
        if parameters.get("labels"):
            yield "compute.disks.setLabels"
        if parameters.get("sourceImage"):
            yield "compute.images.useReadOnly"
    for interface in body.get("networkInterfaces", ()):
        yield "compute.subnetworks.use"
        if interface.get("accessConfigs"):
            yield "compute.subnetworks.useExternalIp"


def check_permissions(request: Request, granted: frozenset[str] | None) -> frozenset[str]:
    """Return the permissions that a request needs. Raise `ApiError` if one is not granted.

    Args:
        granted: None for all.
    """
    needed = frozenset(required(request))
    missing = sorted(needed - granted) if granted is not None else []
    if missing:
        resource = request.path.partition("/v1/")[2]
        raise ApiError(403, "forbidden", f"Required '{missing[0]}' permission for '{resource}'")
    return needed
