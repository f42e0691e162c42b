"""Root volumes: EBS volume types that can boot, and the limits of each.

Limits: "Amazon EBS volume types" in the EBS user guide. Prices and launches use the same table.
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
    max_gb: int
    min_gb: int = 1
    max_iops: int | None = None
    """None: IOPS cannot be configured."""
    min_iops: int = 100
    iops_per_gb: int = 0
    needs_iops: bool = False
    max_throughput: int | None = None
    min_throughput: int = 125


_KINDS: dict[str, _Kind] = {
    "gp3": _Kind(max_gb=65_536, max_iops=80_000, min_iops=3_000, iops_per_gb=500, max_throughput=2_000),
    "gp2": _Kind(max_gb=16_384),
    "io2": _Kind(max_gb=65_536, min_gb=4, max_iops=256_000, iops_per_gb=1_000, needs_iops=True),
    "io1": _Kind(max_gb=16_384, min_gb=4, max_iops=64_000, iops_per_gb=50, needs_iops=True),
}

BOOT_DISK_TYPES: tuple[str, ...] = tuple(_KINDS)
"""Cheapest first. Magnetic volumes are excluded: EBS bills each of their I/O operations."""

DEFAULT_DISK_TYPE = "gp3"


def disk_problem(disk: BootDisk) -> str | None:
    """Return why EBS cannot create this root volume, or None."""
    name = disk.disk_type or DEFAULT_DISK_TYPE
    kind = _KINDS.get(name)
    if kind is None:
        return f'unknown boot disk type "{name}"; expected {", ".join(BOOT_DISK_TYPES)}'
    if disk.size_gb > kind.max_gb:
        return f"{name}: maximum size is {kind.max_gb:,} GB"
    return _iops_problem(name, kind, disk) or _throughput_problem(name, kind, disk)


def _iops_problem(name: str, kind: _Kind, disk: BootDisk) -> str | None:
    if disk.iops is None:
        return f"{name} needs boot_disk_iops" if kind.needs_iops else None
    if kind.max_iops is None:
        return f"{name}: boot_disk_iops cannot be configured"
    maximum = min(kind.max_iops, max(kind.min_iops, kind.iops_per_gb * volume_gb(disk)))
    if not kind.min_iops <= disk.iops <= maximum:
        return f"{name} of {volume_gb(disk):,} GB: boot_disk_iops must be {kind.min_iops} to {maximum}, got {disk.iops}"
    return None


def _throughput_problem(name: str, kind: _Kind, disk: BootDisk) -> str | None:
    if disk.throughput_mb_s is None:
        return None
    if kind.max_throughput is None:
        return f"{name}: boot_disk_throughput cannot be configured"
    maximum = min(kind.max_throughput, (disk.iops or kind.min_iops) // 4)
    if not kind.min_throughput <= disk.throughput_mb_s <= maximum:
        return (
            f"{name}: boot_disk_throughput must be {kind.min_throughput} to {maximum} MB/s, got {disk.throughput_mb_s}"
        )
    return None


def volume_gb(disk: BootDisk, *, image_gb: int = 0) -> int:
    """Return the volume size in whole GB, at least the minimum of its type and of the image."""
    kind = _KINDS.get(disk.disk_type or DEFAULT_DISK_TYPE)
    return max(math.ceil(disk.size_gb), image_gb, kind.min_gb if kind is not None else 1)


def ebs_block(disk: BootDisk, *, image_gb: int, encrypted: bool | None) -> Mapping[str, Any]:
    """Return the ``Ebs`` part of a block device mapping; the volume is deleted with its instance."""
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
