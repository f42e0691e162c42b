"""What a run tells at its beginning: the configuration as it was understood, and the machine that was chosen."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime

from cloud_tasks.model import Constraints, Limits, Money, Purchase
from cloud_tasks.report.wording import format_duration
from cloud_tasks.selection import RankedOffer, Ranking

__all__ = ["render_job_configuration", "render_selected_offer"]


def render_job_configuration(
    *,
    provider: str,
    job_id: str,
    queue_name: str,
    region: str | None,
    zone: str | None,
    constraints: Constraints,
    limits: Limits,
    scaling_check_interval: float,
    instance_termination_delay: float,
    max_runtime: float,
    max_parallel_instance_creations: int,
    image: str | None,
    startup_script: str | None,
    spot_fallback: bool = False,
) -> str:
    """The configuration in four blocks; times are in seconds."""
    lines = [
        "Provider configuration:",
        f"  Provider: {provider.upper()}",
        f"  Region: {region}",
        f"  Zone: {zone}",
        f"  Job ID: {job_id}",
        f"  Queue: {queue_name}",
        "Instance type selection constraints:",
        *_constraints(constraints),
        "Number of instances constraints:",
        *_limits(limits, constraints, spot_fallback),
        "Miscellaneous:",
        f"  Scaling check interval: {scaling_check_interval:g} seconds",
        f"  Instance termination delay: {instance_termination_delay:g} seconds",
        f"  Max runtime: {max_runtime:g} seconds",
        f"  Max parallel instance creations: {max_parallel_instance_creations}",
        f"  Image: {image}",
        f"  Startup script:{'' if startup_script else ' None'}",
        *(f"    {line}".rstrip() for line in (startup_script or "").splitlines()),
    ]
    return "\n".join(lines)


def _constraints(c: Constraints) -> Iterator[str]:
    yield f"  Architecture: {c.architecture.value}"
    yield f"  Instance types: {_names([pattern.pattern for pattern in c.instance_types])}"
    yield f"  CPUs: {c.min_cpu} to {c.max_cpu}"
    yield f"  CPU family: {c.cpu_family}"
    yield f"  CPU performance rank: {c.min_cpu_rank} to {c.max_cpu_rank}"
    yield f"  GPUs: {c.min_gpus} to {c.max_gpus}"
    yield f"  GPU types: {_names(c.gpu_types)}"
    yield f"  Memory: {_range(c.min_total_memory, c.max_total_memory)} GB"
    yield f"  Memory per CPU: {_range(c.min_memory_per_cpu, c.max_memory_per_cpu)} GB"
    yield f"  Memory per task: {_range(c.min_memory_per_task, c.max_memory_per_task)} GB"
    yield f"  Boot disk types: {_names(c.boot_disk_types)}"
    yield f"  Boot disk IOPS: {c.boot_disk_iops}"
    yield f"  Boot disk throughput: {c.boot_disk_throughput} MB/s"
    yield f"  Boot disk total size: {_size(c.total_boot_disk_size)} GB"
    yield f"  Boot disk base size: {_size(c.boot_disk_base_size)} GB"
    yield f"  Boot disk per CPU: {_size(c.boot_disk_per_cpu)} GB"
    yield f"  Boot disk per task: {_size(c.boot_disk_per_task)} GB"
    yield f"  Local SSD: {_range(c.min_local_ssd, c.max_local_ssd)} GB"
    yield f"  Local SSD base size: {_size(c.local_ssd_base_size)} GB"
    yield f"  Local SSD per CPU: {_range(c.min_local_ssd_per_cpu, c.max_local_ssd_per_cpu)} GB"
    yield f"  Local SSD per task: {_range(c.min_local_ssd_per_task, c.max_local_ssd_per_task)} GB"


def _limits(limits: Limits, constraints: Constraints, spot_fallback: bool) -> Iterator[str]:
    yield f"  # Instances: {limits.min_instances} to {limits.max_instances}"
    yield f"  Total CPUs: {limits.min_total_cpus} to {limits.max_total_cpus}"
    yield f"  CPUs per task: {float(constraints.cpus_per_task)}"
    yield f"    Tasks per instance: {constraints.min_tasks_per_instance} to {constraints.max_tasks_per_instance}"
    yield f"    Simultaneous tasks: {limits.min_simultaneous_tasks} to {limits.max_simultaneous_tasks}"
    low, high = limits.min_total_price_per_hour, limits.max_total_price_per_hour
    yield f"  Total price per hour: {_money(low)} to {_money(high)}"
    yield f"  Total cost: None to {_money(limits.max_total_cost)}"
    if constraints.purchase is Purchase.SPOT:
        fallback = ", on-demand ones where spot is refused" if spot_fallback else ""
        yield f"  Pricing: Spot instances{fallback}"
    else:
        yield "  Pricing: On-demand instances"


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "None"


def _size(value: float | None) -> str:
    return "None" if value is None else str(float(value))


def _range(least: float | None, most: float | None) -> str:
    return f"{_size(least)} to {_size(most)}"


def _money(amount: Money | None) -> str:
    return "None" if amount is None else amount.format()


def render_selected_offer(ranking: Ranking, *, now: datetime | None = None) -> str:
    """The best offer; zones in which the same costs the same are shown as one. Empty when nothing was ranked.

    Args:
        now: UTC; given, the age of the price is told.
    """
    if not ranking.offers:
        return ""
    return "\n".join(f"|| {line}" for line in _selected(ranking.offers, now))


def _selected(offers: Sequence[RankedOffer], now: datetime | None) -> Iterator[str]:
    best = offers[0]
    offer, instance_type = best.offer, best.offer.instance_type
    disk = f" ({offer.boot_disk.disk_type})" if offer.boot_disk.disk_type else ""
    spot = " (spot)" if offer.purchase is Purchase.SPOT else ""
    price = offer.price_per_hour.format(6)
    yield f"Selected instance type: {instance_type.name}{disk} in {_places(offers)} at {price}/hour{spot}"
    ssd = f"{instance_type.local_ssd_gb:.1f} GB local SSD" if instance_type.local_ssd_gb else "no local SSD"
    gpus = (
        f", {instance_type.gpu_count} {instance_type.gpu_type} GPU".replace("  ", " ")
        if instance_type.gpu_count
        else ""
    )
    yield f"  {instance_type.vcpus} vCPUs, {instance_type.memory_gb:.1f} GB RAM, {ssd}{gpus}"
    yield f"Derived boot disk size: {offer.boot_disk.size_gb:.1f} GB"
    yield f"Derived number of tasks per instance: {best.slots}"
    if now is not None:
        yield f"Price as of {offer.priced_at:%Y-%m-%d %H:%M} UTC ({format_duration(now - offer.priced_at)} old)"


def _places(offers: Sequence[RankedOffer]) -> str:
    """The zone of the best offer, or what its zones have in common and a star."""
    best = offers[0].offer

    def kind(ranked: RankedOffer) -> tuple[object, ...]:
        offer = ranked.offer
        return offer.instance_type.name, offer.purchase, offer.boot_disk, offer.price_per_hour

    zones = [ranked.offer.zone for ranked in offers if kind(ranked) == kind(offers[0])]
    if len(zones) == 1:
        return best.zone
    alike = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*zones, strict=False))
    return "".join(letters[0] for letters in alike) + "*"
