"""Which instance types satisfy the constraints, and for each of the others: why not, with the figures.

Invariant, with a test: every type is either among the requests or among the rejected, never both and never neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from cloud_tasks.model import BootDisk, Constraints, InstanceType, OfferRequest, Purchase
from cloud_tasks.selection.sizing import boot_disk_gb, slots

__all__ = ["Candidates", "Rejection", "candidates"]


@attrs.frozen(kw_only=True)
class Rejection:
    """An instance type, or one offer of it, that will not do."""

    instance_type: str
    reason: str
    zone: str | None = None
    """None: the reason holds in every zone."""
    purchase: Purchase | None = None
    """None: the reason holds however it is bought."""


@attrs.frozen(kw_only=True)
class Candidates:
    """The offers whose price is worth asking for."""

    requests: tuple[OfferRequest, ...]
    """One for each type, zone and boot disk type."""
    rejected: tuple[Rejection, ...]


def candidates(types: Iterable[InstanceType], constraints: Constraints, purchase: Purchase) -> Candidates:
    """Split the types into those that satisfy the constraints and those that do not."""
    requests: list[OfferRequest] = []
    rejected: list[Rejection] = []
    for instance_type in types:
        if purchase is Purchase.SPOT and not instance_type.supports_spot:
            reason = "it is not offered as a spot instance"
            rejected.append(Rejection(instance_type=instance_type.name, reason=reason, purchase=purchase))
        elif problem := next(_problems(instance_type, constraints), None):
            rejected.append(Rejection(instance_type=instance_type.name, reason=problem))
        else:
            requests.extend(_requests(instance_type, constraints, purchase))
    return Candidates(requests=tuple(requests), rejected=tuple(rejected))


def _requests(instance_type: InstanceType, constraints: Constraints, purchase: Purchase) -> Iterator[OfferRequest]:
    size = boot_disk_gb(instance_type.vcpus, slots(instance_type.vcpus, constraints), constraints)
    for zone in _zones(instance_type, constraints):
        for disk_type in _disk_types(instance_type, constraints) or ("",):
            disk = BootDisk(
                disk_type=disk_type,
                size_gb=size,
                iops=constraints.boot_disk_iops,
                throughput_mb_s=constraints.boot_disk_throughput,
            )
            yield OfferRequest(instance_type=instance_type, zone=zone, purchase=purchase, boot_disk=disk)


def _zones(instance_type: InstanceType, constraints: Constraints) -> tuple[str, ...]:
    if constraints.zone is None:
        return instance_type.zones
    return tuple(zone for zone in instance_type.zones if zone == constraints.zone)


def _disk_types(instance_type: InstanceType, constraints: Constraints) -> tuple[str, ...]:
    """The wanted boot disk types that the type can use, in the type's order (cheapest first where known)."""
    wanted = {name.lower() for name in constraints.boot_disk_types}
    return tuple(name for name in instance_type.boot_disk_types if not wanted or name.lower() in wanted)


def _problems(instance_type: InstanceType, constraints: Constraints) -> Iterator[str]:
    """What is wrong with a type, the most telling first."""
    yield from _identity_problems(instance_type, constraints)
    yield from _cpu_problems(instance_type, constraints)
    yield from _gpu_problems(instance_type, constraints)
    yield from _memory_problems(instance_type, constraints)
    yield from _local_ssd_problems(instance_type, constraints)
    if instance_type.boot_disk_types and not _disk_types(instance_type, constraints):
        usable = ", ".join(instance_type.boot_disk_types)
        wanted = ", ".join(constraints.boot_disk_types)
        yield f"it cannot use a boot disk of type {wanted} (boot_disk_types), only {usable}"


def _identity_problems(instance_type: InstanceType, constraints: Constraints) -> Iterator[str]:
    patterns = constraints.instance_types
    if patterns and not any(pattern.search(instance_type.name) for pattern in patterns):
        yield f"its name matches none of instance_types ({', '.join(pattern.pattern for pattern in patterns)})"
    if instance_type.architecture is not constraints.architecture:
        yield f"architecture {instance_type.architecture.value} is not {constraints.architecture.value}"
    if not instance_type.zones:
        yield "it is offered in no zone of the region"
    elif not _zones(instance_type, constraints):
        yield f"it is not offered in zone {constraints.zone}, only in {', '.join(instance_type.zones)}"


def _cpu_problems(instance_type: InstanceType, constraints: Constraints) -> Iterator[str]:
    vcpus, family, rank = instance_type.vcpus, instance_type.cpu_family, instance_type.cpu_rank
    yield from _outside(f"{vcpus} vCPUs", vcpus, "cpu", constraints.min_cpu, constraints.max_cpu)
    if constraints.cpu_family is not None and family.lower() != constraints.cpu_family.lower():
        yield f"CPU family {family or 'unknown'} is not {constraints.cpu_family} (cpu_family)"
    shown = f"CPU rank {rank}" if rank else "CPU rank 0 (unknown)"
    yield from _outside(shown, rank, "cpu_rank", constraints.min_cpu_rank, constraints.max_cpu_rank)
    if slots(vcpus, constraints) < 1:
        yield f"{vcpus} vCPUs have no room for a task of {constraints.cpus_per_task:g} CPUs (cpus_per_task)"


def _gpu_problems(instance_type: InstanceType, constraints: Constraints) -> Iterator[str]:
    count, gpu_type = instance_type.gpu_count, instance_type.gpu_type
    yield from _outside(f"{count} GPUs", count, "gpus", constraints.min_gpus, constraints.max_gpus)
    wanted = {name.lower() for name in constraints.gpu_types}
    if wanted and gpu_type.lower() not in wanted:
        yield f"GPU type {gpu_type or 'none'} is not one of {', '.join(constraints.gpu_types)} (gpu_types)"


def _memory_problems(instance_type: InstanceType, constraints: Constraints) -> Iterator[str]:
    memory, vcpus = instance_type.memory_gb, instance_type.vcpus
    tasks = slots(vcpus, constraints)
    c = constraints
    yield from _outside(f"{memory:g} GB memory", memory, "total_memory", c.min_total_memory, c.max_total_memory)
    each = memory / vcpus
    yield from _outside(f"{each:g} GB per CPU", each, "memory_per_cpu", c.min_memory_per_cpu, c.max_memory_per_cpu)
    each = memory / max(tasks, 1)
    shown = f"{each:g} GB per task ({tasks} tasks)"
    yield from _outside(shown, each, "memory_per_task", c.min_memory_per_task, c.max_memory_per_task)


def _local_ssd_problems(instance_type: InstanceType, constraints: Constraints) -> Iterator[str]:
    disk, vcpus, c = instance_type.local_ssd_gb, instance_type.vcpus, constraints
    tasks = slots(vcpus, constraints)
    yield from _outside(f"{disk:g} GB local SSD", disk, "local_ssd", c.min_local_ssd, c.max_local_ssd)
    if disk < c.local_ssd_base_size:
        yield f"{disk:g} GB local SSD < local_ssd_base_size {c.local_ssd_base_size:g}"
    beyond = f" beyond the base of {c.local_ssd_base_size:g}" if c.local_ssd_base_size else ""
    share = max(disk - c.local_ssd_base_size, 0.0)
    each = share / vcpus
    shown = f"{each:g} GB local SSD per CPU{beyond}"
    yield from _outside(shown, each, "local_ssd_per_cpu", c.min_local_ssd_per_cpu, c.max_local_ssd_per_cpu)
    each = share / max(tasks, 1)
    shown = f"{each:g} GB local SSD per task{beyond} ({tasks} tasks)"
    yield from _outside(shown, each, "local_ssd_per_task", c.min_local_ssd_per_task, c.max_local_ssd_per_task)


def _outside(shown: str, value: float, key: str, least: float | None, most: float | None) -> Iterator[str]:
    if least is not None and value < least:
        yield f"{shown} < min_{key} {least:g}"
    if most is not None and value > most:
        yield f"{shown} > max_{key} {most:g}"
