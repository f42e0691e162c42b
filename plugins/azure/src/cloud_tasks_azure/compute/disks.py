"""Boot disks: the types that exist, how large they may be, and the tier that one of a size is billed as.

"Azure managed disk types": a disk costs what the smallest tier costs that holds it. Premium SSD needs a size with
premium storage; Ultra disks and Premium SSD v2 cannot be boot disks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from cloud_tasks.model import BootDisk

__all__ = ["BOOT_DISK_TYPES", "PREMIUM", "boot_disk_types", "disk_gb", "disk_problem", "tier_of"]

PREMIUM = "Premium_LRS"
BOOT_DISK_TYPES: Mapping[str, str] = {"Standard_LRS": "S", "StandardSSD_LRS": "E", PREMIUM: "P"}
"""By the API's name: the letter of its tiers, cheapest first."""

_SMALLEST_GB = 30
"""The images of Canonical and Debian have 30 GiB: no boot disk made from one is smaller."""
_LARGEST_GB = 4095
"""Of an operating system disk ("Introduction to Azure managed disks", OS disk)."""

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
"""Number of a tier and the GiB that it holds, from the smallest that a boot disk can be."""


def boot_disk_types(*, premium: bool) -> tuple[str, ...]:
    """What a size can boot from, cheapest first."""
    return tuple(name for name in BOOT_DISK_TYPES if premium or name != PREMIUM)


def disk_gb(disk: BootDisk) -> int:
    """The size that is made for what was asked for."""
    return max(_SMALLEST_GB, math.ceil(disk.size_gb))


def disk_problem(disk: BootDisk) -> str | None:
    """Why such a disk cannot be made; None when it can."""
    if disk.disk_type not in BOOT_DISK_TYPES:
        return f'there is no boot disk type "{disk.disk_type}", only {", ".join(BOOT_DISK_TYPES)}'
    if disk_gb(disk) > _LARGEST_GB:
        return f"a boot disk has at most {_LARGEST_GB} GiB, not {disk.size_gb:g}"
    if disk.iops is not None or disk.throughput_mb_s is not None:
        return "the IOPS and the throughput of these disks follow from their size and cannot be chosen"
    return None


def tier_of(disk: BootDisk) -> str:
    """``E4`` for a StandardSSD_LRS of 30 GiB. The disk has no problem."""
    number = next(number for number, holds in _TIERS.items() if disk_gb(disk) <= holds)
    return f"{BOOT_DISK_TYPES[disk.disk_type]}{number}"
