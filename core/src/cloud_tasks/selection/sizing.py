"""Sizing of an instance by its vCPUs: task slots and boot disk size."""

from __future__ import annotations

from decimal import Decimal

from cloud_tasks.model import Constraints

__all__ = ["boot_disk_gb", "slots"]


def slots(vcpus: int, constraints: Constraints) -> int:
    """Return the task slots of an instance: vCPUs // CPUs per task, within the limits; 0 if no task fits."""
    # Decimal, since 8 // 0.1 is 79 in binary floating point.
    count = int(Decimal(vcpus) // Decimal(str(constraints.cpus_per_task)))
    if constraints.min_tasks_per_instance is not None:
        count = max(count, constraints.min_tasks_per_instance)
    if constraints.max_tasks_per_instance is not None:
        count = min(count, constraints.max_tasks_per_instance)
    return count


def boot_disk_gb(vcpus: int, slots: int, constraints: Constraints) -> float:
    """Return the boot disk size in GB: the largest of the total, base + size per vCPU, and base + size per slot."""
    base = constraints.boot_disk_base_size
    sizes = [constraints.total_boot_disk_size or 0.0, base]
    if constraints.boot_disk_per_cpu is not None:
        sizes.append(base + constraints.boot_disk_per_cpu * vcpus)
    if constraints.boot_disk_per_task is not None:
        sizes.append(base + constraints.boot_disk_per_task * slots)
    return max(sizes)
