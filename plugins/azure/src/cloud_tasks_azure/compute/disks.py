"""Boot disks: disk types, size limits, and the billing tier of a size.

"Azure managed disk types": a disk is billed as the smallest tier that holds it. Premium SSD requires a VM size with
premium storage; Ultra disks and Premium SSD v2 cannot be boot disks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from cloud_tasks.model import BootDisk

__all__ = ["BOOT_DISK_TYPES", "PREMIUM", "boot_disk_types", "disk_gb", "disk_problem", "tier_of"]

PREMIUM = "Premium_LRS"
BOOT_DISK_TYPES: Mapping[str, str] = {"Standard_LRS": "S", "StandardSSD_LRS": "E", PREMIUM: "P"}
"""Tier letter by the API's name, cheapest first."""

_MIN_GB = 30
"""Size of Canonical's and Debian's images in GiB: the minimum of a boot disk."""
_MAX_GB = 4095
"""Limit of an operating system disk ("Introduction to Azure managed disks", OS disk)."""

_TIERS: Mapping[int, int] = {
    4: 32,
    6: 64,
    10: 128,
    15: 256,
    20: 512,
    30: 1024,
    40: 2048,
    50: 4096,
}
"""Capacity in GiB by tier number, from the smallest tier of a boot disk."""


def boot_disk_types(*, premium: bool) -> tuple[str, ...]:
    """Return the boot disk types of a VM size, cheapest first."""
    return tuple(name for name in BOOT_DISK_TYPES if premium or name != PREMIUM)


def disk_gb(disk: BootDisk) -> int:
    """Return the disk size in whole GiB, at least the minimum."""
    return max(_MIN_GB, math.ceil(disk.size_gb))


def disk_problem(disk: BootDisk) -> str | None:
    """Return why Azure cannot create this boot disk, or None."""
    if disk.disk_type not in BOOT_DISK_TYPES:
        return f'unknown boot disk type "{disk.disk_type}"; expected {", ".join(BOOT_DISK_TYPES)}'
    if disk_gb(disk) > _MAX_GB:
        return f"{disk.disk_type}: maximum size is {_MAX_GB:,} GiB, got {disk.size_gb:g} GiB"
    if disk.iops is not None or disk.throughput_mb_s is not None:
        return f"{disk.disk_type}: IOPS and throughput depend on the size and cannot be configured"
    return None


def tier_of(disk: BootDisk) -> str:
    """Return the tier of a valid disk, ``E4`` for a StandardSSD_LRS of 30 GiB."""
    number = next(number for number, capacity in _TIERS.items() if disk_gb(disk) <= capacity)
    return f"{BOOT_DISK_TYPES[disk.disk_type]}{number}"
