"""IOPS and throughput that a disk is made with: what its price is made of, and what a launch asks for.

Sources: Google Cloud's pages "About Hyperdisk Balanced", "About Hyperdisk Extreme", "About Hyperdisk Throughput" and
"About Extreme Persistent Disk" (limits, what is free, how IOPS and throughput go together), and Compute Engine's API
reference (``provisionedIops`` and ``provisionedThroughput`` of disks).

Invariant, with a test: a disk of which the user says nothing has the least that its type can have. What Google would
choose by itself is more, and costs more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs

from cloud_tasks.model import BootDisk

__all__ = ["Performance", "performance_of", "provisioned"]


@attrs.frozen
class Performance:
    """What a type of disk offers to be provisioned."""

    least_iops: int | None = None
    """What is provisioned when nothing is said; None: IOPS are not provisioned."""
    iops_per_gib: int = 0
    """The least for each GiB."""
    most_iops_per_gib: int | None = None
    least_throughput: int | None = None
    """MiB/s."""
    iops_per_throughput: tuple[int, int] | None = None
    """The fewest and the most IOPS that there may be for each MiB/s; None: the two are independent."""
    free_iops: int = 0
    free_throughput: int = 0


_PERFORMANCE: Mapping[str, Performance] = {
    "pd-extreme": Performance(least_iops=10_000),
    "hyperdisk-balanced": Performance(
        least_iops=3_000,
        most_iops_per_gib=500,
        least_throughput=140,
        iops_per_throughput=(4, 256),
        free_iops=3_000,
        free_throughput=140,
    ),
    "hyperdisk-extreme": Performance(least_iops=128, iops_per_gib=2),
    "hyperdisk-throughput": Performance(least_throughput=20),
    "hyperdisk-ml": Performance(least_throughput=400),
}
"""The least that each type can have; for hyperdisk-balanced, what is free of charge. Other types have what their size
gives them."""


def performance_of(disk_type: str) -> Performance:
    """What a type of disk offers; nothing at all for one whose size decides."""
    return _PERFORMANCE.get(disk_type, Performance())


def provisioned(disk: BootDisk) -> tuple[int | None, int | None]:
    """IOPS and MiB/s that a boot disk is made with: what was asked for, else the least; None where neither applies.

    Where one of the two is given, the other is the least that goes with it.
    """
    performance = performance_of(disk.disk_type)
    fewest, most = performance.iops_per_throughput or (0, math.inf)
    iops, throughput = None, None
    if performance.least_iops is not None:
        gib = math.ceil(disk.size_gb)
        least = max(performance.least_iops, performance.iops_per_gib * gib, fewest * (disk.throughput_mb_s or 0))
        if performance.most_iops_per_gib is not None:
            least = min(least, performance.most_iops_per_gib * gib)
        iops = disk.iops or least
    if performance.least_throughput is not None:
        throughput = disk.throughput_mb_s or max(performance.least_throughput, math.ceil((iops or 0) / most))
    return iops, throughput
