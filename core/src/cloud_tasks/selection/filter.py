"""The filter of instance types: which satisfy the constraints, and why the others do not, with figures.

Invariants, each with a test:

1. Every type is either requested or rejected.
2. Each pair ``min_x``, ``max_x`` of `Constraints` has a measure.
3. A type that ``instance_types`` names is never left out by default.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import attrs

from cloud_tasks.model import BootDisk, Constraints, InstanceType, OfferRequest, ProvisioningModel
from cloud_tasks.selection.sizing import boot_disk_gb, slots

__all__ = ["Candidates", "Rejected", "Unsuitable", "filter_types", "slots_of"]


@attrs.frozen(kw_only=True)
class Rejected:
    """An instance type, or one of its offers, that does not satisfy the constraints or limits."""

    instance_type: str
    reason: str
    zone: str | None = None
    """None if the reason applies to every zone."""
    provisioning_model: ProvisioningModel | None = None
    """None if the reason applies to both provisioning models."""
    left_out: Unsuitable | None = None
    """For a type that satisfies the constraints: why it is left out unless it is asked for."""


class Unsuitable(enum.Enum):
    """A property for which types are left out unless they are asked for."""

    BURSTABLE = "burstable or shared cores"
    LOW_MEMORY = "less than 2 GB of memory per task"


_MIN_MEMORY_PER_SLOT_GB = 1.8
"""Memory that a worker and a task need if no constraint asks for more or less: about 2 GB, since some types that are
sold with 2 GB per vCPU have a little less."""


@attrs.frozen(kw_only=True)
class Candidates:
    """The offers that satisfy the constraints, before their prices are known."""

    requests: tuple[OfferRequest, ...]
    """One for each type, zone and boot disk type."""
    rejected: tuple[Rejected, ...]


def filter_types(
    types: Iterable[InstanceType],
    constraints: Constraints,
    provisioning_model: ProvisioningModel,
    *,
    leave_out: bool = False,
) -> Candidates:
    """Split the types into requests for prices and rejected types.

    Args:
        provisioning_model: The provisioning model, whatever that of the constraints is.
        leave_out: Reject the types, too, that a job should use only if they are asked for.
    """
    requests: list[OfferRequest] = []
    rejected: list[Rejected] = []
    for instance_type in types:
        if provisioning_model is ProvisioningModel.SPOT and not instance_type.supports_spot:
            reason = f"not offered as {provisioning_model.value}"
            rejected.append(
                Rejected(instance_type=instance_type.name, reason=reason, provisioning_model=provisioning_model)
            )
        elif problem := next(_problems(instance_type, constraints), None):
            rejected.append(Rejected(instance_type=instance_type.name, reason=problem))
        elif leave_out and (rejection := _left_out(instance_type, constraints)):
            rejected.append(rejection)
        else:
            requests.extend(_requests(instance_type, constraints, provisioning_model))
    return Candidates(requests=tuple(requests), rejected=tuple(rejected))


def _requests(
    instance_type: InstanceType, constraints: Constraints, provisioning_model: ProvisioningModel
) -> Iterator[OfferRequest]:
    size = boot_disk_gb(instance_type.vcpus, slots_of(instance_type, constraints), constraints)
    for zone in _zones(instance_type, constraints):
        for disk_type in _disk_types(instance_type, constraints) or ("",):
            disk = BootDisk(
                disk_type=disk_type,
                size_gb=size,
                iops=constraints.boot_disk_iops,
                throughput_mb_s=constraints.boot_disk_throughput,
            )
            yield OfferRequest(
                instance_type=instance_type, zone=zone, provisioning_model=provisioning_model, boot_disk=disk
            )


def slots_of(instance_type: InstanceType, constraints: Constraints) -> int:
    """Return the task slots of an instance of this type."""
    return slots(instance_type.vcpus, constraints, sustained_cpu=instance_type.sustained_cpu)


def _left_out(instance_type: InstanceType, constraints: Constraints) -> Rejected | None:
    """Return the rejection of a type that satisfies the constraints and is unsuitable; None if it is to be used."""
    name, count = instance_type.name, slots_of(instance_type, constraints)
    if _is_named(name, constraints.instance_types):
        return None
    if instance_type.sustained_cpu < 1:
        kind, sustained = Unsuitable.BURSTABLE, f"{instance_type.sustained_cpu * 100:.3g}% of each vCPU is sustained"
        reason = f"{kind.value}: {sustained}; name it in instance_types to use it"
    elif instance_type.memory_gb < _memory_floor(instance_type, count, constraints):
        kind = Unsuitable.LOW_MEMORY
        reason = f"{kind.value}: {instance_type.memory_gb / count:.3g} GB; set min_memory_per_task to use it"
    else:
        return None
    return Rejected(instance_type=name, reason=reason, left_out=kind)


def _is_named(name: str, patterns: Iterable[re.Pattern[str]]) -> bool:
    """Return whether a pattern is meant for this type: it matches the name, and not any other name as well."""
    return any(pattern.search(name) and (pattern.pattern == name or not _matches_all(pattern)) for pattern in patterns)


def _matches_all(pattern: re.Pattern[str]) -> bool:
    """Return whether a pattern such as ``.*`` or ``\\w`` matches names that have nothing in common."""
    return bool(pattern.search("") or (pattern.search("x") and pattern.search("0")))


def _memory_floor(instance_type: InstanceType, count: int, constraints: Constraints) -> float:
    """Return the memory in GB that a type has at least, unless the constraints ask for memory."""
    minima = (constraints.min_total_memory, constraints.min_memory_per_cpu, constraints.min_memory_per_task)
    maxima = (
        (constraints.max_total_memory, 1),
        (constraints.max_memory_per_cpu, instance_type.vcpus),
        (constraints.max_memory_per_task, count),
    )
    floor = _MIN_MEMORY_PER_SLOT_GB * count
    asked_for = any(minimum is not None for minimum in minima)
    return 0 if asked_for or any(most is not None and most * factor < floor for most, factor in maxima) else floor


def _zones(instance_type: InstanceType, constraints: Constraints) -> tuple[str, ...]:
    if constraints.zone is None:
        return instance_type.zones
    return tuple(zone for zone in instance_type.zones if zone == constraints.zone)


def _disk_types(instance_type: InstanceType, constraints: Constraints) -> tuple[str, ...]:
    """Return the boot disk types that satisfy the constraints, in the order of the type (cheapest first if known)."""
    wanted = {name.lower() for name in constraints.boot_disk_types}
    return tuple(name for name in instance_type.boot_disk_types if not wanted or name.lower() in wanted)


def _problems(instance_type: InstanceType, constraints: Constraints) -> Iterator[str]:
    """Yield the reasons for which a type is rejected, the most informative first."""
    yield from _identity_problems(instance_type, constraints)
    for name, measure in MEASURES.items():
        yield from _outside(name, measure, instance_type, constraints)
    if instance_type.local_ssd_gb < constraints.local_ssd_base_size:
        yield f"{instance_type.local_ssd_gb:g} GB local SSD < local_ssd_base_size {constraints.local_ssd_base_size:g}"
    if instance_type.boot_disk_types and not _disk_types(instance_type, constraints):
        usable = ", ".join(instance_type.boot_disk_types)
        wanted = ", ".join(constraints.boot_disk_types)
        yield f"no boot disk of type {wanted} (boot_disk_types), only {usable}"


def _identity_problems(instance_type: InstanceType, constraints: Constraints) -> Iterator[str]:
    patterns = constraints.instance_types
    if patterns and not any(pattern.search(instance_type.name) for pattern in patterns):
        yield f"name matches none of instance_types ({', '.join(pattern.pattern for pattern in patterns)})"
    if instance_type.architecture is not constraints.architecture:
        yield f"architecture {instance_type.architecture.value} is not {constraints.architecture.value}"
    if not instance_type.zones:
        yield "not offered in any zone of the region"
    elif not _zones(instance_type, constraints):
        yield f"not offered in zone {constraints.zone}, only in {', '.join(instance_type.zones)}"
    family, gpu_type = instance_type.cpu_family, instance_type.gpu_type
    if constraints.cpu_family is not None and family.lower() != constraints.cpu_family.lower():
        yield f"CPU family {family or 'unknown'} is not {constraints.cpu_family} (cpu_family)"
    if slots_of(instance_type, constraints) < 1:
        yield f"{instance_type.vcpus} vCPUs < cpus_per_task {constraints.cpus_per_task:g}"
    wanted = {name.lower() for name in constraints.gpu_types}
    if wanted and gpu_type.lower() not in wanted:
        yield f"GPU type {gpu_type or 'none'} is not one of {', '.join(constraints.gpu_types)} (gpu_types)"


def _outside(name: str, measure: Measure, instance_type: InstanceType, constraints: Constraints) -> Iterator[str]:
    value = measure.value(instance_type, constraints)
    minimum, maximum = getattr(constraints, f"min_{name}"), getattr(constraints, f"max_{name}")
    shown = f"{value:g} {measure.noun}" if measure.follows else f"{measure.noun} {value:g}"
    if name.startswith("local_ssd_per") and constraints.local_ssd_base_size:
        shown += f" beyond the base of {constraints.local_ssd_base_size:g}"
    if name.endswith("_per_task"):
        shown += f" ({slots_of(instance_type, constraints)} tasks)"
    if name == "cpu_rank" and not value:
        shown += " (unknown)"
    if minimum is not None and value < minimum:
        yield f"{shown} < min_{name} {minimum:g}"
    if maximum is not None and value > maximum:
        yield f"{shown} > max_{name} {maximum:g}"


def _tasks(instance_type: InstanceType, constraints: Constraints) -> int:
    return max(slots_of(instance_type, constraints), 1)


def _shared_ssd(instance_type: InstanceType, constraints: Constraints) -> float:
    return max(instance_type.local_ssd_gb - constraints.local_ssd_base_size, 0.0)


class Measure(NamedTuple):
    """The property of an instance type that a pair ``min_x``, ``max_x`` compares."""

    value: Callable[[InstanceType, Constraints], float]
    noun: str
    follows: bool = True
    """Whether the noun follows the number (``8 vCPUs``) or precedes it (``CPU rank 3``)."""


MEASURES: Mapping[str, Measure] = {
    "cpu": Measure(lambda it, _: it.vcpus, "vCPUs"),
    "cpu_rank": Measure(lambda it, _: it.cpu_rank, "CPU rank", follows=False),
    "gpus": Measure(lambda it, _: it.gpu_count, "GPUs"),
    "tasks_per_instance": Measure(slots_of, "simultaneous tasks"),
    "total_memory": Measure(lambda it, _: it.memory_gb, "GB memory"),
    "memory_per_cpu": Measure(lambda it, _: it.memory_gb / it.vcpus, "GB per CPU"),
    "memory_per_task": Measure(lambda it, c: it.memory_gb / _tasks(it, c), "GB per task"),
    "local_ssd": Measure(lambda it, _: it.local_ssd_gb, "GB local SSD"),
    "local_ssd_per_cpu": Measure(lambda it, c: _shared_ssd(it, c) / it.vcpus, "GB local SSD per CPU"),
    "local_ssd_per_task": Measure(lambda it, c: _shared_ssd(it, c) / _tasks(it, c), "GB local SSD per task"),
}
"""One measure for each pair of `Constraints`, in the order of the reasons."""
