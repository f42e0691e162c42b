"""Sizing of an instance by its vCPUs: task slots and boot disk size.

Invariant, with a test: a burstable or shared-core type has the slots of the cores that it sustains, at least one if a
task fits its vCPUs.
"""

from __future__ import annotations

from decimal import Decimal

from cloud_tasks.model import Constraints

__all__ = ["boot_disk_gb", "slots"]


def slots(vcpus: int, constraints: Constraints, *, sustained_cpu: float = 1.0) -> int:
    """Return the task slots of an instance: vCPUs // CPUs per task, within the limits; 0 if no task fits.

    Args:
        sustained_cpu: Share of each vCPU that can be used all the time.
    """
    # Decimal, since 8 // 0.1 is 79 in binary floating point.
    each = Decimal(str(constraints.cpus_per_task))
    count = int(Decimal(vcpus) // each)
    if count and sustained_cpu < 1:
        count = max(int(Decimal(vcpus) * Decimal(str(sustained_cpu)) // each), 1)
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
