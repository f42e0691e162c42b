"""VM sizes of a location, from its resource SKUs: their properties, and their zones for this subscription. Pure.

Invariants, each with a test:

1. A size restricted in a zone is not offered there; one restricted everywhere is not listed.
2. A size without a number of vCPUs or amount of memory is not listed.
3. A confidential size is not listed: it needs another kind of image and disk, and its launch is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from cloud_tasks.model import Architecture, InstanceType
from cloud_tasks_azure.compute.burstable import sustained_share
from cloud_tasks_azure.compute.cpu import cpu_of, gpu_of
from cloud_tasks_azure.compute.disks import boot_disk_types
from cloud_tasks_azure.compute.zones import location_name, zone_name

__all__ = ["Size", "sizes_of"]


@attrs.frozen(kw_only=True)
class Size:
    """One VM size of a location."""

    instance_type: InstanceType
    family: str
    """Quota family: ``standardDSv5Family``."""
    generations: frozenset[str]
    """Hypervisor generations, ``V1`` and ``V2``; an image requires one of them."""


def sizes_of(skus: Iterable[Mapping[str, Any]], location: str) -> dict[str, Size]:
    """Return the sizes by name.

    Args:
        skus: Resource SKUs; those of other kinds and locations are ignored.
    """
    found: dict[str, Size] = {}
    for sku in skus:
        if sku.get("resourceType") != "virtualMachines" or not sku.get("name"):
            continue
        if location not in {location_name(each) for each in sku.get("locations") or ()}:
            continue
        size = _size(sku, location)
        if size is not None:
            found[size.instance_type.name] = size
    return dict(sorted(found.items()))


def _size(sku: Mapping[str, Any], location: str) -> Size | None:
    name, family = str(sku["name"]), str(sku.get("family") or "")
    capabilities = {str(each["name"]): str(each.get("value")) for each in sku.get("capabilities") or ()}
    vcpus = _number(capabilities, "vCPUsAvailable") or _number(capabilities, "vCPUs")
    memory = _number(capabilities, "MemoryGB")
    zones = _zones(sku, location)
    if not vcpus or not memory or not zones or capabilities.get("ConfidentialComputingType"):
        return None
    cpu = cpu_of(name)
    gpus = int(_number(capabilities, "GPUs"))
    local_ssd = _number(capabilities, "NvmeDiskSizeInMiB") or _number(capabilities, "MaxResourceVolumeMB")
    is_arm = capabilities.get("CpuArchitectureType", "").lower() == "arm64"
    return Size(
        instance_type=InstanceType(
            name=name,
            vcpus=int(vcpus),
            memory_gb=memory,
            architecture=Architecture.ARM64 if is_arm else Architecture.X86_64,
            zones=zones,
            local_ssd_gb=local_ssd / 1024,
            boot_disk_types=boot_disk_types(premium=capabilities.get("PremiumIO", "").lower() == "true"),
            cpu_family=cpu.family,
            cpu_rank=cpu.rank,
            gpu_count=gpus,
            gpu_type=gpu_of(name) if gpus else "",
            sustained_cpu=sustained_share(name),
            supports_spot=capabilities.get("LowPriorityCapable", "").lower() == "true",
            description=f"{int(vcpus)} vCPUs, {memory:g} GiB, family {family}",
        ),
        family=family,
        generations=frozenset(each.strip() for each in capabilities.get("HyperVGenerations", "V1,V2").split(",")),
    )


def _number(capabilities: Mapping[str, str], name: str) -> float:
    try:
        return float(capabilities.get(name, 0))
    except ValueError:
        return 0.0


def _zones(sku: Mapping[str, Any], location: str) -> tuple[str, ...]:
    """Return the zones that offer the size to this subscription, or the location if it has no zones."""
    restricted: set[str] = set()
    for restriction in sku.get("restrictions") or ():
        if restriction.get("type") == "Location":
            return ()
        if restriction.get("type") == "Zone":
            restricted.update((restriction.get("restrictionInfo") or {}).get("zones") or ())
    numbers = {
        number
        for info in sku.get("locationInfo") or ()
        if location_name(info.get("location") or "") == location
        for number in info.get("zones") or ()
    }
    if not numbers:
        return (location,)
    return tuple(zone_name(location, number) for number in sorted(numbers - restricted))
