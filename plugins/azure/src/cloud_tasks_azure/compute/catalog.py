"""The sizes of a location, from its resource SKUs: what they have, and where this subscription may have them. Pure.

Invariants, each with a test:

1. A size that the subscription may not use in a zone is not offered there; one that it may use nowhere is not listed.
2. A size without a known number of vCPUs or amount of memory is not listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from cloud_tasks.model import Architecture, InstanceType
from cloud_tasks_azure.compute.cpu import cpu_of, gpu_of
from cloud_tasks_azure.compute.disks import boot_disk_types
from cloud_tasks_azure.compute.zones import location_name, zone_name

__all__ = ["Size", "sizes_of"]


@attrs.frozen(kw_only=True)
class Size:
    """One size of a location."""

    instance_type: InstanceType
    family: str
    """Of the quota: ``standardDSv5Family``."""
    generations: frozenset[str]
    """Of the hypervisor: ``V1``, ``V2``. An image has one of them."""


def sizes_of(skus: Iterable[Any], location: str) -> dict[str, Size]:
    """Sizes by name.

    Args:
        skus: Of ``resource_skus.list``; those of other kinds and places are passed over.
    """
    found: dict[str, Size] = {}
    for sku in skus:
        if sku.resource_type != "virtualMachines" or not sku.name:
            continue
        if location not in {location_name(each) for each in sku.locations or ()}:
            continue
        size = _size(sku, location)
        if size is not None:
            found[sku.name] = size
    return dict(sorted(found.items()))


def _size(sku: Any, location: str) -> Size | None:
    told = {str(each.name): str(each.value) for each in sku.capabilities or ()}
    vcpus, memory = _number(told, "vCPUsAvailable") or _number(told, "vCPUs"), _number(told, "MemoryGB")
    zones = _zones(sku, location)
    if not vcpus or not memory or not zones:
        return None
    cpu = cpu_of(sku.name)
    gpus = int(_number(told, "GPUs"))
    scratch = _number(told, "NvmeDiskSizeInMiB") or _number(told, "MaxResourceVolumeMB")
    return Size(
        instance_type=InstanceType(
            name=sku.name,
            vcpus=int(vcpus),
            memory_gb=memory,
            architecture=(
                Architecture.ARM64 if told.get("CpuArchitectureType", "").lower() == "arm64" else Architecture.X86_64
            ),
            zones=zones,
            local_ssd_gb=scratch / 1024,
            boot_disk_types=boot_disk_types(premium=told.get("PremiumIO", "").lower() == "true"),
            cpu_family=cpu.family,
            cpu_rank=cpu.rank,
            gpu_count=gpus,
            gpu_type=gpu_of(sku.name) if gpus else "",
            supports_spot=told.get("LowPriorityCapable", "").lower() == "true",
            description=f"{int(vcpus)} vCPUs, {memory:g} GiB, family {sku.family}",
        ),
        family=str(sku.family or ""),
        generations=frozenset(each.strip() for each in told.get("HyperVGenerations", "V1,V2").split(",")),
    )


def _number(told: Mapping[str, str], name: str) -> float:
    try:
        return float(told.get(name, 0))
    except ValueError:
        return 0.0


def _zones(sku: Any, location: str) -> tuple[str, ...]:
    """Where the subscription may have it: its zones, or the location as a whole where it has none."""
    closed: set[str] = set()
    for restriction in sku.restrictions or ():
        kind = str(getattr(restriction.type, "value", restriction.type))
        if kind == "Location":
            return ()
        if kind == "Zone" and restriction.restriction_info is not None:
            closed.update(restriction.restriction_info.zones or ())
    numbers = {
        number
        for info in sku.location_info or ()
        if location_name(info.location or "") == location
        for number in info.zones or ()
    }
    if not numbers:
        return (location,)
    return tuple(zone_name(location, number) for number in sorted(numbers - closed))
