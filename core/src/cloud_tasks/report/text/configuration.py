"""Configuration and selected instance type, as logged at the start of a run."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import attrs

from cloud_tasks.model import (
    ConstraintInfo,
    Constraints,
    InstanceConstraints,
    Limits,
    Money,
    ProvisioningModel,
    constraint_info,
)
from cloud_tasks.quantities import format_duration
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
    """Return the configuration in four blocks; durations are in seconds."""
    lines = [
        "Provider configuration:",
        f"  Provider: {provider}",
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


def _constraints(constraints: Constraints) -> Iterator[str]:
    """Yield the constraints on the instance type: all with a label but those of `_NUMBER`."""
    labels = _labels(InstanceConstraints)
    for name in labels:
        if name not in _NUMBER:
            yield f"  {_line(constraints, name)}"
        if name == "architecture":
            yield f"  Instance types: {_shown([pattern.pattern for pattern in constraints.instance_types])}"


_NUMBER = (
    "min_instances",
    "min_total_cpus",
    "cpus_per_task",
    "min_tasks_per_instance",
    "min_simultaneous_tasks",
    "min_total_price_per_hour",
    "max_total_cost",
)
"""Constraints on the number of instances, in the order of output."""
_BY_TASKS = ("min_tasks_per_instance", "min_simultaneous_tasks")
"""Constraints that follow from the CPUs per task, indented below it."""


def _limits(limits: Limits, constraints: Constraints, spot_fallback: bool) -> Iterator[str]:
    for name in _NUMBER:
        indent = "    " if name in _BY_TASKS else "  "
        yield f"{indent}{_line(limits if hasattr(limits, name) else constraints, name)}"
    if constraints.provisioning_model is ProvisioningModel.SPOT:
        fallback = ", on-demand where spot is refused" if spot_fallback else ""
        yield f"  Pricing: Spot instances{fallback}"
    else:
        yield "  Pricing: On-demand instances"


def _labels(cls: type[Any]) -> dict[str, ConstraintInfo]:
    """Return the constraints that have a label, by field name."""
    found = ((field.name, constraint_info(field)) for field in attrs.fields(cls))
    return {name: info for name, info in found if info is not None and info.label}


def _line(source: Constraints | Limits, name: str) -> str:
    info = _labels(type(source))[name]
    is_number = "float" in str(attrs.fields_dict(type(source))[name].type)

    def shown(value: Any) -> str:
        return str(float(value)) if is_number and value is not None else _shown(value)

    text = shown(getattr(source, name))
    if name.startswith("min_"):
        text += f" to {shown(getattr(source, f'max_{name[4:]}'))}"
    elif name.startswith("max_"):
        text = f"None to {text}"
    return f"{info.label}: {text} {info.unit}".rstrip()


def _shown(value: Any) -> str:
    if isinstance(value, Money):
        return value.format()
    if isinstance(value, enum.Enum):
        return str(value.value)
    return (", ".join(value) or "None") if isinstance(value, list | tuple) else str(value)


def render_selected_offer(ranking: Ranking, *, now: datetime | None = None) -> str:
    """Return the best offer; zones with the same price are combined. Empty without offers.

    Args:
        now: Current time (UTC), to show the age of the price; None: omit it.
    """
    if not ranking.offers:
        return ""
    return "\n".join(f"|| {line}" for line in _selected(ranking.offers, now))


def _selected(offers: Sequence[RankedOffer], now: datetime | None) -> Iterator[str]:
    best = offers[0]
    offer, instance_type = best.offer, best.offer.instance_type
    disk = f" ({offer.boot_disk.disk_type})" if offer.boot_disk.disk_type else ""
    spot = " (spot)" if offer.provisioning_model is ProvisioningModel.SPOT else ""
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
    """Return the zone of the best offer, or the common prefix of its zones and a star."""
    best = offers[0].offer

    def kind(ranked: RankedOffer) -> tuple[object, ...]:
        offer = ranked.offer
        return offer.instance_type.name, offer.provisioning_model, offer.boot_disk, offer.price_per_hour

    zones = [ranked.offer.zone for ranked in offers if kind(ranked) == kind(offers[0])]
    if len(zones) == 1:
        return best.zone
    common = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*zones, strict=False))
    return "".join(letters[0] for letters in common) + "*"
