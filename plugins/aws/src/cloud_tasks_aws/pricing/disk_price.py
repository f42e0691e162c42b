"""Cost of a boot disk per hour.

"Amazon EBS pricing" and "Amazon EBS volume types": gp3 includes 3,000 IOPS and 125 MB/s; io2 is cheaper per IOPS above
32,000 and again above 64,000; a month has 730 hours.
"""

from __future__ import annotations

import math

import attrs

from cloud_tasks.model import BootDisk, Money
from cloud_tasks_aws.compute.disks import BOOT_DISK_TYPES, DEFAULT_DISK_TYPE, disk_problem, volume_gb
from cloud_tasks_aws.pricing.rates import DiskRates, ListPrices

__all__ = ["HOURS_PER_MONTH", "DiskPrice", "disk_price"]

HOURS_PER_MONTH = 730
_FREE_IOPS = 3000
_FREE_MB_S = 125
_TIERS = (32_000, 64_000)
"""IOPS at which the second and the third tier of io2 start."""


@attrs.frozen(kw_only=True)
class DiskPrice:
    """Cost per hour."""

    size: Money
    iops: Money = Money.zero()
    throughput: Money = Money.zero()


def disk_price(disk: BootDisk, prices: ListPrices) -> DiskPrice | str:
    """Return the price of a disk, or the reason why it has none."""
    kind = disk.disk_type or DEFAULT_DISK_TYPE
    problem = disk_problem(disk) if kind in BOOT_DISK_TYPES else None
    if problem is not None:
        return problem
    rates = prices.disks.get(kind)
    if rates is None:
        return f"price list of {prices.code}: no price for disk type {kind}"
    iops = _iops(kind, disk, rates)
    if isinstance(iops, str):
        return iops
    extra = max(0, (disk.throughput_mb_s or 0) - _FREE_MB_S) if kind == "gp3" else 0
    if extra and rates.mb_s is None:
        return f"price list of {prices.code}: no price for the throughput of {kind}"
    return DiskPrice(
        size=rates.gb * _size(kind, disk) / HOURS_PER_MONTH,
        iops=iops / HOURS_PER_MONTH,
        throughput=(rates.mb_s or Money.zero()) * extra / HOURS_PER_MONTH,
    )


def _size(kind: str, disk: BootDisk) -> int:
    return volume_gb(disk) if kind in BOOT_DISK_TYPES else math.ceil(disk.size_gb)


def _iops(kind: str, disk: BootDisk, rates: DiskRates) -> Money | str:
    """Return the cost per month."""
    billed = disk.iops or 0
    if kind == "gp3":
        billed = max(0, billed - _FREE_IOPS)
    if kind not in ("gp3", "io1", "io2") or not billed:
        return Money.zero()
    if not rates.iops:
        return f"price list: no price for the IOPS of {kind}"
    total, below = Money.zero(), 0
    # A price list without tiers has one price for all IOPS.
    bounds = [*_TIERS[: len(rates.iops) - 1], billed]
    for rate, bound in zip(rates.iops, bounds, strict=False):
        upper = min(billed, max(bound, below))
        total += rate * (upper - below)
        below = upper
    return total
