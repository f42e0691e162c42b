"""What a job asks of its machines, and how many of them it may have. Units are in the names; None means unlimited."""

from __future__ import annotations

import re

import attrs

from cloud_tasks.model.instance import Architecture, Purchase
from cloud_tasks.model.money import Money

__all__ = ["Constraints", "Limits"]


@attrs.frozen(kw_only=True)
class Constraints:
    """Which offers will do.

    A task slot is room for one task at a time; an instance has vcpus // cpus_per_task of them, held within its limits.
    """

    architecture: Architecture = Architecture.X86_64
    purchase: Purchase = Purchase.ON_DEMAND
    instance_types: tuple[re.Pattern[str], ...] = ()
    """Matched anywhere in the name; empty: all."""
    cpu_family: str | None = None
    min_cpu_rank: int | None = None
    max_cpu_rank: int | None = None
    min_cpu: int | None = None
    max_cpu: int | None = None
    min_total_memory: float | None = None
    max_total_memory: float | None = None
    min_memory_per_cpu: float | None = None
    max_memory_per_cpu: float | None = None
    min_memory_per_task: float | None = None
    max_memory_per_task: float | None = None
    min_local_ssd: float | None = None
    max_local_ssd: float | None = None
    min_local_ssd_per_cpu: float | None = None
    max_local_ssd_per_cpu: float | None = None
    min_local_ssd_per_task: float | None = None
    max_local_ssd_per_task: float | None = None
    local_ssd_base_size: float = 0.0
    boot_disk_types: tuple[str, ...] = ()
    boot_disk_iops: int | None = None
    boot_disk_throughput: int | None = None
    total_boot_disk_size: float | None = 10.0
    boot_disk_base_size: float = 0.0
    boot_disk_per_cpu: float | None = None
    boot_disk_per_task: float | None = None
    min_gpus: int | None = None
    max_gpus: int | None = None
    gpu_types: tuple[str, ...] = ()
    cpus_per_task: float = 1.0
    min_tasks_per_instance: int | None = None
    max_tasks_per_instance: int | None = None
    region: str | None = None
    zone: str | None = None


@attrs.frozen(kw_only=True)
class Limits:
    """How much may run at once, in total. Every limit holds always."""

    min_instances: int | None = None
    max_instances: int | None = 10
    min_total_cpus: int | None = None
    max_total_cpus: int | None = None
    min_simultaneous_tasks: int | None = None
    max_simultaneous_tasks: int | None = None
    min_total_price_per_hour: Money | None = None
    max_total_price_per_hour: Money | None = Money(10)
    max_total_cost: Money | None = None
