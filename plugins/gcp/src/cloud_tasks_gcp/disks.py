"""Disk types: limits, provisioned IOPS and throughput for both prices and launches, and quotas.

Sources: Google Cloud's pages "About Persistent Disk", "About Extreme Persistent Disk", "About Hyperdisk Balanced",
"About Hyperdisk Extreme" and "About Hyperdisk Throughput" (sizes, limits, what is free, how IOPS and throughput go
together), "Allocation quotas", and Compute Engine's API reference (``provisionedIops`` and ``provisionedThroughput`` of
disks, ``Quota.metric``).

Invariant, with a test: without a setting a disk gets the minimum of its type. Google's own default is higher and costs
more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs

from cloud_tasks.model import BootDisk

__all__ = ["DISKS", "DiskKind", "disk_gb", "disk_kind", "disk_problem", "provisioned"]


@attrs.frozen(kw_only=True)
class DiskKind:
    """Properties of one disk type."""

    boots: bool = True
    """Whether it can be a boot disk."""
    min_gb: int = 10
    """Minimum size in GiB; an image may require more."""
    max_gb: int = 65_536
    min_iops: int | None = None
    """IOPS without a setting; None where the size determines them."""
    min_iops_per_gib: int = 0
    max_iops_per_gib: int | None = None
    iops: tuple[int, int] | None = None
    """Minimum and maximum of provisioned IOPS."""
    min_throughput: int | None = None
    """MiB/s without a setting; None where the size determines the throughput."""
    throughput: tuple[int, int] | None = None
    """Minimum and maximum of provisioned throughput in MiB/s."""
    iops_per_throughput: tuple[int, int] | None = None
    """Minimum and maximum IOPS per MiB/s; None where the two are independent."""
    free_iops: int = 0
    free_throughput: int = 0
    quota: str = "SSD_TOTAL_GB"
    iops_quota: str = ""
    """Quota metric of the IOPS; empty where IOPS are not provisioned."""
    throughput_quota: str = ""


_KINDS: Mapping[str, DiskKind] = {
    "pd-standard": DiskKind(quota="DISKS_TOTAL_GB"),
    "pd-balanced": DiskKind(),
    "pd-ssd": DiskKind(),
    "pd-extreme": DiskKind(
        min_gb=500, min_iops=10_000, iops=(10_000, 120_000), iops_quota="PD_EXTREME_TOTAL_PROVISIONED_IOPS"
    ),
    "hyperdisk-balanced": DiskKind(
        min_gb=4,
        min_iops=3_000,
        max_iops_per_gib=500,
        iops=(2_000, 160_000),
        min_throughput=140,
        throughput=(140, 2_400),
        iops_per_throughput=(4, 256),
        free_iops=3_000,
        free_throughput=140,
        quota="HDB_TOTAL_GB",
        iops_quota="HDB_TOTAL_IOPS",
        throughput_quota="HDB_TOTAL_THROUGHPUT",
    ),
    "hyperdisk-extreme": DiskKind(boots=False, min_iops=128, min_iops_per_gib=2),
    "hyperdisk-throughput": DiskKind(boots=False, min_throughput=20),
    "hyperdisk-ml": DiskKind(boots=False, min_throughput=400),
}
DISKS: Mapping[str, DiskKind] = {name: kind for name, kind in _KINDS.items() if kind.boots}
"""Boot disk types."""


def disk_kind(disk_type: str) -> DiskKind:
    """Return the properties of a disk type; those of a disk without provisioned performance for an unknown one."""
    return _KINDS.get(disk_type, DiskKind())


def disk_gb(disk: BootDisk) -> int:
    """Return the size of the disk in whole GiB, the API's unit."""
    return max(1, math.ceil(disk.size_gb))


def provisioned(disk: BootDisk) -> tuple[int | None, int | None]:
    """Return IOPS and MiB/s of a boot disk: the requested values, else the minimum; None where not provisioned.

    When only one of the two is set, the other is the minimum that fits it.
    """
    kind = disk_kind(disk.disk_type)
    min_ratio, max_ratio = kind.iops_per_throughput or (0, math.inf)
    iops, throughput = None, None
    if kind.min_iops is not None:
        gib = disk_gb(disk)
        minimum = max(kind.min_iops, kind.min_iops_per_gib * gib, min_ratio * (disk.throughput_mb_s or 0))
        if kind.max_iops_per_gib is not None:
            minimum = min(minimum, kind.max_iops_per_gib * gib)
        iops = disk.iops or minimum
    if kind.min_throughput is not None:
        throughput = disk.throughput_mb_s or max(kind.min_throughput, math.ceil((iops or 0) / max_ratio))
    return iops, throughput


def disk_problem(disk: BootDisk) -> str:
    """Return why Compute Engine would refuse the disk on any instance; an empty text when it would accept it."""
    kind, name, gib = DISKS.get(disk.disk_type), disk.disk_type, disk_gb(disk)
    if kind is None:
        return f'"{name}" is not a boot disk type of Google Cloud; choose from {", ".join(DISKS)}'
    if not kind.min_gb <= gib <= kind.max_gb:
        return f"a {name} boot disk has {kind.min_gb:,} to {kind.max_gb:,} GB, not {gib:,}"
    iops, throughput = provisioned(disk)
    for value, range_, unit in ((iops, kind.iops, "IOPS"), (throughput, kind.throughput, "MiB/s")):
        if value is not None and range_ is not None and not range_[0] <= value <= range_[1]:
            return f"a {name} boot disk has {range_[0]:,} to {range_[1]:,} {unit}, not {value:,}"
    if iops is None:
        return ""
    if kind.max_iops_per_gib is not None and iops > kind.max_iops_per_gib * gib:
        return f"a {name} boot disk of {gib:,} GB has at most {kind.max_iops_per_gib * gib:,} IOPS, not {iops:,}"
    minimum, maximum = (each * (throughput or 0) for each in kind.iops_per_throughput or (0, math.inf))
    if kind.iops_per_throughput is not None and not minimum <= iops <= maximum:
        return f"a {name} boot disk of {throughput:,} MiB/s has {minimum:,} to {maximum:,} IOPS, not {iops:,}"
    return ""
