"""Root volumes: the EBS types that can boot, and what each of them can be asked for.

Limits: "Amazon EBS volume types" in the EBS user guide. Prices and launches judge by the same table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs

from cloud_tasks.model import BootDisk

__all__ = ["BOOT_DISK_TYPES", "DEFAULT_DISK_TYPE", "disk_problem", "ebs_block", "volume_gb"]


@attrs.frozen(kw_only=True)
class _Kind:
    largest_gb: int
    smallest_gb: int = 1
    most_iops: int | None = None
    """None: its operations per second cannot be chosen."""
    least_iops: int = 100
    iops_per_gb: int = 0
    needs_iops: bool = False
    most_throughput: int | None = None
    least_throughput: int = 125


_KINDS: dict[str, _Kind] = {
    "gp3": _Kind(largest_gb=65_536, most_iops=80_000, least_iops=3_000, iops_per_gb=500, most_throughput=2_000),
    "gp2": _Kind(largest_gb=16_384),
    "io2": _Kind(largest_gb=65_536, smallest_gb=4, most_iops=256_000, iops_per_gb=1_000, needs_iops=True),
    "io1": _Kind(largest_gb=16_384, smallest_gb=4, most_iops=64_000, iops_per_gb=50, needs_iops=True),
}

BOOT_DISK_TYPES: tuple[str, ...] = tuple(_KINDS)
"""Cheapest first. Magnetic volumes are left out: each of their operations is billed."""

DEFAULT_DISK_TYPE = "gp3"


def disk_problem(disk: BootDisk) -> str | None:
    """Why EBS has no such root volume; None where it has."""
    name = disk.disk_type or DEFAULT_DISK_TYPE
    kind = _KINDS.get(name)
    if kind is None:
        return f'no boot disk type "{name}", only {", ".join(BOOT_DISK_TYPES)}'
    if disk.size_gb > kind.largest_gb:
        return f"{name} has at most {kind.largest_gb} GB"
    return _iops_problem(name, kind, disk) or _throughput_problem(name, kind, disk)


def _iops_problem(name: str, kind: _Kind, disk: BootDisk) -> str | None:
    if disk.iops is None:
        return f"{name} needs boot_disk_iops" if kind.needs_iops else None
    if kind.most_iops is None:
        return f"the operations per second of {name} cannot be chosen (boot_disk_iops)"
    most = min(kind.most_iops, max(kind.least_iops, kind.iops_per_gb * volume_gb(disk)))
    if not kind.least_iops <= disk.iops <= most:
        return f"boot_disk_iops of {name} with {volume_gb(disk)} GB: {kind.least_iops} to {most}, not {disk.iops}"
    return None


def _throughput_problem(name: str, kind: _Kind, disk: BootDisk) -> str | None:
    if disk.throughput_mb_s is None:
        return None
    if kind.most_throughput is None:
        return f"the throughput of {name} cannot be chosen (boot_disk_throughput)"
    most = min(kind.most_throughput, (disk.iops or kind.least_iops) // 4)
    if not kind.least_throughput <= disk.throughput_mb_s <= most:
        return f"boot_disk_throughput of {name}: {kind.least_throughput} to {most} MB/s, not {disk.throughput_mb_s}"
    return None


def volume_gb(disk: BootDisk, *, image_gb: int = 0) -> int:
    """The size of the volume: whole GB, never below what the type or the image needs."""
    kind = _KINDS.get(disk.disk_type or DEFAULT_DISK_TYPE)
    return max(math.ceil(disk.size_gb), image_gb, kind.smallest_gb if kind is not None else 1)


def ebs_block(disk: BootDisk, *, image_gb: int, encrypted: bool | None) -> Mapping[str, Any]:
    """The ``Ebs`` part of a block device mapping; the volume ends with its instance."""
    name = disk.disk_type or DEFAULT_DISK_TYPE
    block: dict[str, Any] = {
        "VolumeSize": volume_gb(disk, image_gb=image_gb),
        "VolumeType": name,
        "DeleteOnTermination": True,
    }
    if disk.iops is not None:
        block["Iops"] = disk.iops
    if disk.throughput_mb_s is not None:
        block["Throughput"] = disk.throughput_mb_s
    if encrypted is not None:
        block["Encrypted"] = encrypted
    return block
