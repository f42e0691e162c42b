"""Conversion of EC2 instance types. Shapes: "DescribeInstanceTypes", EC2 API reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cloud_tasks.model import Architecture, InstanceType
from cloud_tasks_aws.compute.burstable import sustained_share
from cloud_tasks_aws.compute.cpu import RANKS, cpu_family
from cloud_tasks_aws.compute.disks import BOOT_DISK_TYPES

__all__ = ["instance_type", "needed_part"]

_ARCHITECTURES = {"x86_64": Architecture.X86_64, "arm64": Architecture.ARM64}


def needed_part(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a description that `instance_type` reads: the part to cache."""
    names = (
        "InstanceType",
        "SupportedUsageClasses",
        "SupportedRootDeviceTypes",
        "BareMetal",
        "ProcessorInfo",
        "VCpuInfo",
        "MemoryInfo",
        "InstanceStorageInfo",
        "GpuInfo",
        "BurstablePerformanceSupported",
    )
    return {name: description[name] for name in names if name in description}


def instance_type(description: Mapping[str, Any], zones: Sequence[str]) -> InstanceType | None:
    """Return the `InstanceType`, or None if a job cannot use it: other architecture, no EBS root, no on-demand offer.

    Args:
        description: One element of ``InstanceTypes``.
        zones: Zones that offer the type.
    """
    processor = description.get("ProcessorInfo", {})
    architectures = [_ARCHITECTURES[a] for a in processor.get("SupportedArchitectures", ()) if a in _ARCHITECTURES]
    usage = description.get("SupportedUsageClasses", ("on-demand",))
    roots = description.get("SupportedRootDeviceTypes", ("ebs",))
    if not architectures or "on-demand" not in usage or "ebs" not in roots:
        return None
    name = description["InstanceType"]
    family = cpu_family(name, processor.get("Manufacturer", ""))
    gpus = description.get("GpuInfo", {}).get("Gpus", ())
    return InstanceType(
        name=name,
        vcpus=description["VCpuInfo"]["DefaultVCpus"],
        memory_gb=description["MemoryInfo"]["SizeInMiB"] / 1024,
        architecture=architectures[0],
        zones=tuple(sorted(zones)),
        local_ssd_gb=float(description.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0)),
        boot_disk_types=BOOT_DISK_TYPES,
        cpu_family=family,
        cpu_rank=RANKS.get(family, 0),
        gpu_count=sum(gpu.get("Count", 0) for gpu in gpus),
        gpu_type=gpus[0].get("Name", "") if gpus else "",
        supports_spot="spot" in usage,
        sustained_cpu=sustained_share(name, is_burstable=bool(description.get("BurstablePerformanceSupported"))),
        description=_describe(description, gpus),
    )


def _describe(description: Mapping[str, Any], gpus: Sequence[Mapping[str, Any]]) -> str:
    parts = ["bare metal"] if description.get("BareMetal") else []
    clock = description.get("ProcessorInfo", {}).get("SustainedClockSpeedInGhz")
    parts += [f"{clock:g} GHz"] if clock else []
    parts += [f"{gpu.get('Count', 0)} x {gpu.get('Manufacturer', '')} {gpu.get('Name', '')}" for gpu in gpus]
    return ", ".join(parts)
