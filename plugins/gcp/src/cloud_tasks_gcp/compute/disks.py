"""Boot disk types: what each lets one choose, and the quotas that it counts against.

Sources in the Compute Engine documentation: "About Persistent Disk", "About Extreme Persistent Disk", "About Hyperdisk
Balanced" (sizes, limits of IOPS and throughput, and how the two go together), "Allocation quotas", and the API's own
list of quota metrics (``Quota.metric``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs

from cloud_tasks.model import BootDisk
from cloud_tasks_gcp.provisioning import provisioned

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
    iops_per_gib: int | None = None
    """The most IOPS for each GiB; None where the size does not matter."""
    iops_per_throughput: tuple[int, int] | None = None
    """The fewest and the most IOPS for each MiB/s; None where the two are independent."""
    quota: str = "SSD_TOTAL_GB"
    iops_quota: str = ""
    """What its IOPS count against; empty where they are not provisioned."""
    throughput_quota: str = ""


DISKS: Mapping[str, DiskKind] = {
    "pd-standard": DiskKind(min_gb=10, quota="DISKS_TOTAL_GB"),
    "pd-balanced": DiskKind(min_gb=10),
    "pd-ssd": DiskKind(min_gb=10),
    "pd-extreme": DiskKind(min_gb=500, iops=(10_000, 120_000), iops_quota="PD_EXTREME_TOTAL_PROVISIONED_IOPS"),
    "hyperdisk-balanced": DiskKind(
        min_gb=4,
        iops=(2_000, 160_000),
        throughput=(140, 2_400),
        iops_per_gib=500,
        iops_per_throughput=(4, 256),
        quota="HDB_TOTAL_GB",
        iops_quota="HDB_TOTAL_IOPS",
        throughput_quota="HDB_TOTAL_THROUGHPUT",
    ),
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
    iops, throughput = provisioned(disk)
    for value, limits, unit in ((iops, kind.iops, "IOPS"), (throughput, kind.throughput, "MiB/s")):
        if value is not None and limits is not None and not limits[0] <= value <= limits[1]:
            return f"a {disk.disk_type} boot disk has {limits[0]} to {limits[1]} {unit}, not {value}"
    return _relation_problem(disk, kind, iops or 0, throughput or 0)


def _relation_problem(disk: BootDisk, kind: DiskKind, iops: int, throughput: int) -> str:
    """Why size, IOPS and throughput do not go together."""
    if kind.iops_per_gib is not None and iops > kind.iops_per_gib * disk_gb(disk):
        return (
            f"a {disk.disk_type} boot disk of {disk_gb(disk)} GB has at most {kind.iops_per_gib * disk_gb(disk)} IOPS, "
            f"not {iops}"
        )
    if kind.iops_per_throughput is not None:
        fewest, most = (each * throughput for each in kind.iops_per_throughput)
        if not fewest <= iops <= most:
            return f"a {disk.disk_type} boot disk of {throughput} MiB/s has {fewest} to {most} IOPS, not {iops}"
    return ""
