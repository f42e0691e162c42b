"""Constraints on instances and limits on their number: each is declared here and nowhere else.

These fields define the configuration key with its variable, option, help, validation and JSON Schema, the line that a
run prints, the check of ``min_x`` against ``max_x``, and the comparison with an instance type. Units are in the
metadata; None means unlimited.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import attrs

from cloud_tasks.model.bounds import Above, AtLeast
from cloud_tasks.model.instance import Architecture, ProvisioningModel
from cloud_tasks.model.money import Money

__all__ = ["ConstraintInfo", "Constraints", "InstanceConstraints", "Limits", "constraint", "constraint_info", "pairs"]

_KEY = "cloud_tasks.constraint"


@attrs.frozen(kw_only=True)
class ConstraintInfo:
    """The metadata of a constraint."""

    help: str
    """One line with unit and default, without a full stop."""
    label: str = ""
    """Name in the list that a run prints; of a pair, at the minimum."""
    unit: str = ""
    """Unit in that list; empty for a number of things."""
    check: Callable[[object, object, Any], None] | None = None
    """Validator of the configured value, as for `attrs.field`."""


def constraint(
    help: str,
    *,
    default: Any = None,
    check: Callable[[object, object, Any], None] | None = None,
    label: str = "",
    unit: str = "",
) -> Any:
    """Return the attrs field of a constraint.

    Args:
        help: See `ConstraintInfo`, as for the other arguments; without a default, "no limit" is added.
    """
    if default is None and "(default: " not in help:
        help = f"{help} (default: no limit)"
    info = ConstraintInfo(help=help, label=label, unit=unit, check=check)
    return attrs.field(default=default, kw_only=True, metadata={_KEY: info})


def constraint_info(field: attrs.Attribute[Any]) -> ConstraintInfo | None:
    """Return the metadata of a field, or None if it is not a constraint."""
    info = field.metadata.get(_KEY)
    return info if isinstance(info, ConstraintInfo) else None


def pairs(cls: type[Any]) -> tuple[str, ...]:
    """Return each ``x`` for which a class of constraints has both ``min_x`` and ``max_x``, in field order."""
    names = [field.name for field in attrs.fields(cls) if constraint_info(field) is not None]
    return tuple(name[4:] for name in names if name.startswith("min_") and f"max_{name[4:]}" in names)


_DISK_TYPE = re.compile(r"[A-Za-z0-9][-_.A-Za-z0-9]*")


def _each_disk_type(instance: object, attribute: object, value: tuple[str, ...]) -> None:
    for name in value:
        if not _DISK_TYPE.fullmatch(name):
            raise ValueError(f'"{name}" is not a valid disk type; use letters, digits, "-", "_" and "."')


@attrs.frozen(kw_only=True, slots=False)
class InstanceConstraints:
    """The constraints that are also keys of the ``run`` section of the configuration.

    A task slot runs one task at a time; an instance has vcpus // cpus_per_task of them, within its limits.
    """

    architecture: Architecture = constraint("CPU architecture", default=Architecture.X86_64, label="Architecture")
    min_cpu: int | None = constraint("Minimum number of vCPUs per instance", check=AtLeast(0), label="CPUs")
    max_cpu: int | None = constraint("Maximum number of vCPUs per instance", check=AtLeast(1))
    cpu_family: str | None = constraint('CPU family, e.g. "Intel Cascade Lake" (default: any)', label="CPU family")
    min_cpu_rank: int | None = constraint(
        "Minimum performance rank of the CPU family", check=AtLeast(0), label="CPU performance rank"
    )
    max_cpu_rank: int | None = constraint("Maximum performance rank of the CPU family", check=AtLeast(0))
    min_gpus: int | None = constraint("Minimum number of GPUs per instance", check=AtLeast(0), label="GPUs")
    max_gpus: int | None = constraint("Maximum number of GPUs per instance", check=AtLeast(0))
    gpu_types: tuple[str, ...] = constraint("GPU types (default: all)", default=(), label="GPU types")
    min_total_memory: float | None = constraint(
        "Minimum memory per instance in GB", check=AtLeast(0), label="Memory", unit="GB"
    )
    max_total_memory: float | None = constraint("Maximum memory per instance in GB", check=Above(0), unit="GB")
    min_memory_per_cpu: float | None = constraint(
        "Minimum memory per vCPU in GB", check=AtLeast(0), label="Memory per CPU", unit="GB"
    )
    max_memory_per_cpu: float | None = constraint("Maximum memory per vCPU in GB", check=Above(0), unit="GB")
    min_memory_per_task: float | None = constraint(
        "Minimum memory per task slot in GB", check=AtLeast(0), label="Memory per task", unit="GB"
    )
    max_memory_per_task: float | None = constraint("Maximum memory per task slot in GB", check=Above(0), unit="GB")
    boot_disk_types: tuple[str, ...] = constraint(
        "Boot disk types (default: all of the provider)", default=(), check=_each_disk_type, label="Boot disk types"
    )
    boot_disk_iops: int | None = constraint(
        "Boot disk I/O operations per second (default: that of the disk type)", check=Above(0), label="Boot disk IOPS"
    )
    boot_disk_throughput: int | None = constraint(
        "Boot disk throughput in MB/s (default: that of the disk type)",
        check=Above(0),
        label="Boot disk throughput",
        unit="MB/s",
    )
    total_boot_disk_size: float | None = constraint(
        "Minimum boot disk size in GB", default=10.0, check=Above(0), label="Boot disk total size", unit="GB"
    )
    boot_disk_base_size: float = constraint(
        "Boot disk size in GB before the size per vCPU or task is added",
        default=0.0,
        check=AtLeast(0),
        label="Boot disk base size",
        unit="GB",
    )
    boot_disk_per_cpu: float | None = constraint(
        "Additional boot disk size per vCPU in GB (default: none)",
        check=AtLeast(0),
        label="Boot disk per CPU",
        unit="GB",
    )
    boot_disk_per_task: float | None = constraint(
        "Additional boot disk size per task slot in GB (default: none)",
        check=AtLeast(0),
        label="Boot disk per task",
        unit="GB",
    )
    min_local_ssd: float | None = constraint(
        "Minimum local SSD size per instance in GB", check=AtLeast(0), label="Local SSD", unit="GB"
    )
    max_local_ssd: float | None = constraint("Maximum local SSD size per instance in GB", check=AtLeast(0), unit="GB")
    local_ssd_base_size: float = constraint(
        "Local SSD size in GB that is not divided among vCPUs and tasks",
        default=0.0,
        check=AtLeast(0),
        label="Local SSD base size",
        unit="GB",
    )
    min_local_ssd_per_cpu: float | None = constraint(
        "Minimum local SSD size per vCPU in GB", check=AtLeast(0), label="Local SSD per CPU", unit="GB"
    )
    max_local_ssd_per_cpu: float | None = constraint(
        "Maximum local SSD size per vCPU in GB", check=AtLeast(0), unit="GB"
    )
    min_local_ssd_per_task: float | None = constraint(
        "Minimum local SSD size per task slot in GB", check=AtLeast(0), label="Local SSD per task", unit="GB"
    )
    max_local_ssd_per_task: float | None = constraint(
        "Maximum local SSD size per task slot in GB", check=AtLeast(0), unit="GB"
    )
    cpus_per_task: float = constraint("Number of vCPUs per task", default=1.0, check=Above(0), label="CPUs per task")
    min_tasks_per_instance: int | None = constraint(
        "Minimum number of simultaneous tasks per instance", check=AtLeast(0), label="Tasks per instance"
    )
    max_tasks_per_instance: int | None = constraint(
        "Maximum number of simultaneous tasks per instance", check=AtLeast(1)
    )
    region: str | None = constraint("Region (default: that of the zone, if its name contains it)")
    zone: str | None = constraint("Zone (default: any of the region)")


@attrs.frozen(kw_only=True)
class Constraints(InstanceConstraints):
    """The constraints that an offer has to satisfy."""

    provisioning_model: ProvisioningModel = ProvisioningModel.ON_DEMAND
    """The provisioning model."""
    instance_types: tuple[re.Pattern[str], ...] = ()
    """Patterns, of which one has to match anywhere in the name; empty for all types."""


@attrs.frozen(kw_only=True, slots=False)
class Limits:
    """Limits on all instances of a job together; each holds at any time."""

    min_instances: int | None = constraint("Minimum number of instances", check=AtLeast(0), label="# Instances")
    max_instances: int | None = constraint("Maximum number of instances", default=10, check=AtLeast(1))
    min_total_cpus: int | None = constraint(
        "Minimum number of vCPUs of all instances", check=AtLeast(0), label="Total CPUs"
    )
    max_total_cpus: int | None = constraint("Maximum number of vCPUs of all instances", check=AtLeast(1))
    min_simultaneous_tasks: int | None = constraint(
        "Minimum number of simultaneous tasks on all instances", check=AtLeast(0), label="Simultaneous tasks"
    )
    max_simultaneous_tasks: int | None = constraint(
        "Maximum number of simultaneous tasks on all instances", check=AtLeast(1)
    )
    min_total_price_per_hour: Money | None = constraint(
        "Minimum price of all instances in US dollars per hour", check=AtLeast(0), label="Total price per hour"
    )
    max_total_price_per_hour: Money | None = constraint(
        "Maximum price of all instances in US dollars per hour", default=Money(10), check=Above(0)
    )
    max_total_cost: Money | None = constraint(
        "Maximum cost of the job in US dollars", check=Above(0), label="Total cost"
    )
