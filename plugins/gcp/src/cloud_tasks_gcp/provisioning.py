"""Provisioned IOPS and throughput of disks, used for both prices and launches.

Sources: Google Cloud's pages "About Hyperdisk Balanced", "About Hyperdisk Extreme", "About Hyperdisk Throughput" and
"About Extreme Persistent Disk" (limits, what is free, how IOPS and throughput go together), and Compute Engine's API
reference (``provisionedIops`` and ``provisionedThroughput`` of disks).

Invariant, with a test: without a setting a disk gets the minimum of its type. Google's own default is higher and costs
more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs

from cloud_tasks.model import BootDisk

__all__ = ["Performance", "performance_of", "provisioned"]


@attrs.frozen
class Performance:
    """Provisionable performance of one disk type."""

    min_iops: int | None = None
    """Default and minimum IOPS; None: IOPS are not provisioned."""
    min_iops_per_gib: int = 0
    """Minimum IOPS per GiB."""
    max_iops_per_gib: int | None = None
    min_throughput: int | None = None
    """Default and minimum throughput in MiB/s; None: throughput is not provisioned."""
    iops_per_throughput: tuple[int, int] | None = None
    """Minimum and maximum IOPS per MiB/s; None: the two are independent."""
    free_iops: int = 0
    free_throughput: int = 0


_PERFORMANCE: Mapping[str, Performance] = {
    "pd-extreme": Performance(min_iops=10_000),
    "hyperdisk-balanced": Performance(
        min_iops=3_000,
        max_iops_per_gib=500,
        min_throughput=140,
        iops_per_throughput=(4, 256),
        free_iops=3_000,
        free_throughput=140,
    ),
    "hyperdisk-extreme": Performance(min_iops=128, min_iops_per_gib=2),
    "hyperdisk-throughput": Performance(min_throughput=20),
    "hyperdisk-ml": Performance(min_throughput=400),
}
"""Minimum performance of each disk type; for hyperdisk-balanced the minimum is free of charge. The performance of other
types depends on their size."""


def performance_of(disk_type: str) -> Performance:
    """Return the provisionable performance of a disk type; an empty one when the size determines performance."""
    return _PERFORMANCE.get(disk_type, Performance())


def provisioned(disk: BootDisk) -> tuple[int | None, int | None]:
    """Return IOPS and MiB/s of a boot disk: the requested values, else the minimum; None where not provisioned.

    When only one of the two is set, the other is the minimum that fits it.
    """
    performance = performance_of(disk.disk_type)
    min_ratio, max_ratio = performance.iops_per_throughput or (0, math.inf)
    iops, throughput = None, None
    if performance.min_iops is not None:
        gib = math.ceil(disk.size_gb)
        minimum = max(performance.min_iops, performance.min_iops_per_gib * gib, min_ratio * (disk.throughput_mb_s or 0))
        if performance.max_iops_per_gib is not None:
            minimum = min(minimum, performance.max_iops_per_gib * gib)
        iops = disk.iops or minimum
    if performance.min_throughput is not None:
        throughput = disk.throughput_mb_s or max(performance.min_throughput, math.ceil((iops or 0) / max_ratio))
    return iops, throughput
