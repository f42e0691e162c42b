"""Boot disk types: what each lets one choose, and the quota that its space counts against.

Sources in the Compute Engine documentation: "About Persistent Disk", "About Hyperdisk" (sizes, IOPS and throughput
limits), "Allocation quotas" (disk quotas).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs

from cloud_tasks.model import BootDisk

__all__ = ["DISKS", "DiskKind", "disk_gb", "disk_problem"]


@attrs.frozen(kw_only=True)
class DiskKind:
    """One type of boot disk."""

    min_gb: int
    """Of a disk of this type; an image may ask for more."""
    max_gb: int = 65_536
    iops: tuple[int, int] | None = None
    """The least and the most IOPS that can be provisioned; None where they come with the size."""
    throughput: tuple[int, int] | None = None
    """In MiB/s, likewise."""
    quota: str = "SSD_TOTAL_GB"


DISKS: Mapping[str, DiskKind] = {
    "pd-standard": DiskKind(min_gb=10, quota="DISKS_TOTAL_GB"),
    "pd-balanced": DiskKind(min_gb=10),
    "pd-ssd": DiskKind(min_gb=10),
    "pd-extreme": DiskKind(min_gb=500, iops=(10_000, 120_000)),
    "hyperdisk-balanced": DiskKind(min_gb=4, iops=(2_000, 160_000), throughput=(140, 2_400), quota="HDB_TOTAL_GB"),
}


def disk_gb(disk: BootDisk) -> int:
    """The size that is asked of the API, which knows whole GiB."""
    return max(1, math.ceil(disk.size_gb))


def disk_problem(disk: BootDisk) -> str:
    """Why the provider would refuse a disk whatever machine it belongs to; empty when it would not."""
    kind = DISKS.get(disk.disk_type)
    if kind is None:
        return f'"{disk.disk_type}" is no boot disk type of Google Cloud; there are: {", ".join(DISKS)}'
    if not kind.min_gb <= disk_gb(disk) <= kind.max_gb:
        return f"a {disk.disk_type} boot disk has {kind.min_gb} to {kind.max_gb} GB, not {disk_gb(disk)}"
    for value, limits, unit in (
        (disk.iops, kind.iops, "IOPS"),
        (disk.throughput_mb_s, kind.throughput, "MiB/s"),
    ):
        if value is not None and limits is not None and not limits[0] <= value <= limits[1]:
            return f"a {disk.disk_type} boot disk has {limits[0]} to {limits[1]} {unit}, not {value}"
    return ""
