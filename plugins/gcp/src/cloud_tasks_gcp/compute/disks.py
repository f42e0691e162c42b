"""Boot disk types: limits of size, IOPS and throughput, and the quotas that they count against.

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
    """Limits and quotas of one boot disk type."""

    min_gb: int
    """Minimum size in GiB; an image may require more."""
    max_gb: int = 65_536
    iops: tuple[int, int] | None = None
    """Minimum and maximum of provisioned IOPS; None where IOPS depend on the size."""
    throughput: tuple[int, int] | None = None
    """Minimum and maximum of provisioned throughput in MiB/s; None where throughput depends on the size."""
    max_iops_per_gib: int | None = None
    """Maximum IOPS per GiB; None where the size sets no limit."""
    iops_per_throughput: tuple[int, int] | None = None
    """Minimum and maximum IOPS per MiB/s; None where the two are independent."""
    quota: str = "SSD_TOTAL_GB"
    iops_quota: str = ""
    """Quota metric of the IOPS; empty where IOPS are not provisioned."""
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
        max_iops_per_gib=500,
        iops_per_throughput=(4, 256),
        quota="HDB_TOTAL_GB",
        iops_quota="HDB_TOTAL_IOPS",
        throughput_quota="HDB_TOTAL_THROUGHPUT",
    ),
}


def disk_gb(disk: BootDisk) -> int:
    """Return the size of the disk in whole GiB, the API's unit."""
    return max(1, math.ceil(disk.size_gb))


def disk_problem(disk: BootDisk) -> str:
    """Return why Compute Engine would refuse the disk on any instance; an empty text when it would accept it."""
    kind = DISKS.get(disk.disk_type)
    if kind is None:
        return f'"{disk.disk_type}" is not a boot disk type of Google Cloud; choose from {", ".join(DISKS)}'
    if not kind.min_gb <= disk_gb(disk) <= kind.max_gb:
        limits = f"{kind.min_gb:,} to {kind.max_gb:,} GB"
        return f"a {disk.disk_type} boot disk has {limits}, not {disk_gb(disk):,}"
    iops, throughput = provisioned(disk)
    for value, range_, unit in ((iops, kind.iops, "IOPS"), (throughput, kind.throughput, "MiB/s")):
        if value is not None and range_ is not None and not range_[0] <= value <= range_[1]:
            return f"a {disk.disk_type} boot disk has {range_[0]:,} to {range_[1]:,} {unit}, not {value:,}"
    return _relation_problem(disk, kind, iops or 0, throughput or 0)


def _relation_problem(disk: BootDisk, kind: DiskKind, iops: int, throughput: int) -> str:
    """Return why size, IOPS and throughput do not fit together; an empty text when they do."""
    if kind.max_iops_per_gib is not None and iops > kind.max_iops_per_gib * disk_gb(disk):
        max_iops = kind.max_iops_per_gib * disk_gb(disk)
        return f"a {disk.disk_type} boot disk of {disk_gb(disk):,} GB has at most {max_iops:,} IOPS, not {iops:,}"
    if kind.iops_per_throughput is not None:
        minimum, maximum = (each * throughput for each in kind.iops_per_throughput)
        if not minimum <= iops <= maximum:
            range_ = f"{minimum:,} to {maximum:,} IOPS"
            return f"a {disk.disk_type} boot disk of {throughput:,} MiB/s has {range_}, not {iops:,}"
    return ""
