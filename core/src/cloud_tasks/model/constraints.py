"""What a job asks of its machines, and how many of them it may have: each constraint is declared here and nowhere else.

The key of the configuration, its variable, flag, help, check and JSON Schema, the line that a run prints, the check of
``min_x`` against ``max_x``, and what selection compares an instance type with all follow from these fields. Units are
in the metadata; None means unlimited.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import attrs

from cloud_tasks.model.bounds import Above, AtLeast
from cloud_tasks.model.instance import Architecture, Purchase
from cloud_tasks.model.money import Money

__all__ = ["ConstraintInfo", "Constraints", "InstanceConstraints", "Limits", "constraint", "constraint_info", "pairs"]

_KEY = "cloud_tasks.constraint"


@attrs.frozen(kw_only=True)
class ConstraintInfo:
    """What is known about a constraint besides its type, default and check."""

    help: str
    """One line, without a full stop."""
    label: str = ""
    """Its name in the list that a run prints; of a pair the minimum has it."""
    unit: str = ""
    check: Callable[[object, object, Any], None] | None = None
    """The bound of what a person may write, as an attrs validator."""


def constraint(
    help: str,
    *,
    default: Any = None,
    check: Callable[[object, object, Any], None] | None = None,
    label: str = "",
    unit: str = "",
) -> Any:
    """Return the attrs field of a constraint; the arguments are those of `ConstraintInfo`."""
    info = ConstraintInfo(help=help, label=label, unit=unit, check=check)
    return attrs.field(default=default, kw_only=True, metadata={_KEY: info})


def constraint_info(field: attrs.Attribute[Any]) -> ConstraintInfo | None:
    """Return what is known about a field; None: it is not a constraint."""
    info = field.metadata.get(_KEY)
    return info if isinstance(info, ConstraintInfo) else None


def pairs(cls: type[Any]) -> tuple[str, ...]:
    """Return each ``x`` of which a class of constraints has both ``min_x`` and ``max_x``, in their order."""
    names = [field.name for field in attrs.fields(cls) if constraint_info(field) is not None]
    return tuple(name[4:] for name in names if name.startswith("min_") and f"max_{name[4:]}" in names)


_DISK_TYPE = re.compile(r"[A-Za-z0-9][-_.A-Za-z0-9]*")


def _each_disk_type(instance: object, attribute: object, value: tuple[str, ...]) -> None:
    for name in value:
        if not _DISK_TYPE.fullmatch(name):
            raise ValueError(f'"{name}" cannot be used; use letters, digits, dashes, dots')


@attrs.frozen(kw_only=True, slots=False)
class InstanceConstraints:
    """What `Constraints` and the ``run`` section of the configuration have in common.

    A task slot is room for one task at a time; an instance has vcpus // cpus_per_task of them, held within its limits.
    """

    architecture: Architecture = constraint("CPU architecture", default=Architecture.X86_64, label="Architecture")
    min_cpu: int | None = constraint("Fewest CPUs of an instance", check=AtLeast(0), label="CPUs")
    max_cpu: int | None = constraint("Most CPUs of an instance", check=AtLeast(1))
    cpu_family: str | None = constraint('CPU family, e.g. "Intel Cascade Lake"', label="CPU family")
    min_cpu_rank: int | None = constraint(
        "Lowest performance rank of the CPU family", check=AtLeast(0), label="CPU performance rank"
    )
    max_cpu_rank: int | None = constraint("Highest performance rank of the CPU family", check=AtLeast(0))
    min_gpus: int | None = constraint("Fewest GPUs of an instance", check=AtLeast(0), label="GPUs")
    max_gpus: int | None = constraint("Most GPUs of an instance", check=AtLeast(0))
    gpu_types: tuple[str, ...] = constraint("GPU types (default: all)", default=(), label="GPU types")
    min_total_memory: float | None = constraint(
        "Least memory of an instance in GB", check=AtLeast(0), label="Memory", unit="GB"
    )
    max_total_memory: float | None = constraint("Most memory of an instance in GB", check=Above(0), unit="GB")
    min_memory_per_cpu: float | None = constraint(
        "Least memory per CPU in GB", check=AtLeast(0), label="Memory per CPU", unit="GB"
    )
    max_memory_per_cpu: float | None = constraint("Most memory per CPU in GB", check=Above(0), unit="GB")
    min_memory_per_task: float | None = constraint(
        "Least memory per task in GB", check=AtLeast(0), label="Memory per task", unit="GB"
    )
    max_memory_per_task: float | None = constraint("Most memory per task in GB", check=Above(0), unit="GB")
    boot_disk_types: tuple[str, ...] = constraint(
        "Boot disk types (default: all of the provider's)", default=(), check=_each_disk_type, label="Boot disk types"
    )
    boot_disk_iops: int | None = constraint("Boot disk operations per second", check=Above(0), label="Boot disk IOPS")
    boot_disk_throughput: int | None = constraint(
        "Boot disk throughput in MB/s", check=Above(0), label="Boot disk throughput", unit="MB/s"
    )
    total_boot_disk_size: float | None = constraint(
        "Least boot disk size in GB", default=10.0, check=Above(0), label="Boot disk total size", unit="GB"
    )
    boot_disk_base_size: float = constraint(
        "Boot disk size in GB before that per CPU or task is added",
        default=0.0,
        check=AtLeast(0),
        label="Boot disk base size",
        unit="GB",
    )
    boot_disk_per_cpu: float | None = constraint(
        "Boot disk size per CPU in GB", check=AtLeast(0), label="Boot disk per CPU", unit="GB"
    )
    boot_disk_per_task: float | None = constraint(
        "Boot disk size per task in GB", check=AtLeast(0), label="Boot disk per task", unit="GB"
    )
    min_local_ssd: float | None = constraint(
        "Least local SSD of an instance in GB", check=AtLeast(0), label="Local SSD", unit="GB"
    )
    max_local_ssd: float | None = constraint("Most local SSD of an instance in GB", check=AtLeast(0), unit="GB")
    local_ssd_base_size: float = constraint(
        "Local SSD in GB that is set aside before it is shared out",
        default=0.0,
        check=AtLeast(0),
        label="Local SSD base size",
        unit="GB",
    )
    min_local_ssd_per_cpu: float | None = constraint(
        "Least local SSD per CPU in GB", check=AtLeast(0), label="Local SSD per CPU", unit="GB"
    )
    max_local_ssd_per_cpu: float | None = constraint("Most local SSD per CPU in GB", check=AtLeast(0), unit="GB")
    min_local_ssd_per_task: float | None = constraint(
        "Least local SSD per task in GB", check=AtLeast(0), label="Local SSD per task", unit="GB"
    )
    max_local_ssd_per_task: float | None = constraint("Most local SSD per task in GB", check=AtLeast(0), unit="GB")
    cpus_per_task: float = constraint("CPUs that one task takes", default=1.0, check=Above(0), label="CPUs per task")
    min_tasks_per_instance: int | None = constraint(
        "Fewest tasks at once on an instance", check=AtLeast(0), label="Tasks per instance"
    )
    max_tasks_per_instance: int | None = constraint("Most tasks at once on an instance", check=AtLeast(1))
    region: str | None = constraint("Region; derived from the zone where that tells it")
    zone: str | None = constraint("Zone (default: any of the region)")


@attrs.frozen(kw_only=True)
class Constraints(InstanceConstraints):
    """Which offers will do."""

    purchase: Purchase = Purchase.ON_DEMAND
    instance_types: tuple[re.Pattern[str], ...] = ()
    """Matched anywhere in the name; empty: all."""


@attrs.frozen(kw_only=True, slots=False)
class Limits:
    """How much may run at once, in total. Every limit holds always."""

    min_instances: int | None = constraint("Fewest instances", check=AtLeast(0), label="# Instances")
    max_instances: int | None = constraint("Most instances", default=10, check=AtLeast(1))
    min_total_cpus: int | None = constraint(
        "Fewest CPUs of all instances together", check=AtLeast(0), label="Total CPUs"
    )
    max_total_cpus: int | None = constraint("Most CPUs of all instances together", check=AtLeast(1))
    min_simultaneous_tasks: int | None = constraint(
        "Fewest tasks at once in all", check=AtLeast(0), label="Simultaneous tasks"
    )
    max_simultaneous_tasks: int | None = constraint("Most tasks at once in all", check=AtLeast(1))
    min_total_price_per_hour: Money | None = constraint(
        "Least price of all instances in US dollars per hour", check=AtLeast(0), label="Total price per hour"
    )
    max_total_price_per_hour: Money | None = constraint(
        "Highest price of all instances in US dollars per hour", default=Money(10), check=Above(0)
    )
    max_total_cost: Money | None = constraint(
        "Most that the job may cost in US dollars (default: no limit)", check=Above(0), label="Total cost"
    )
