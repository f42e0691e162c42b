"""Columns and rows of the instance type listing: one row for each type, boot disk and price, zones combined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import attrs

from cloud_tasks.model import (
    BootDisk,
    InstanceType,
    Money,
    Offer,
    OfferRequest,
    PriceBreakdown,
    ProvisioningModel,
    Unpriced,
)
from cloud_tasks.tables import Column

__all__ = ["INSTANCE_TYPE_COLUMNS", "TypeRow", "type_rows"]


@attrs.frozen(kw_only=True)
class TypeRow:
    """An instance type as offered, with the zones of the same price."""

    instance_type: InstanceType
    provisioning_model: ProvisioningModel
    boot_disk: BootDisk
    zones: tuple[str, ...]
    price: PriceBreakdown | None
    """Price per hour; None where the provider has none, see ``reason``."""
    priced_at: datetime | None = None
    reason: str = ""

    def zone_text(self) -> str:
        """Return ``us-central1-*`` where all zones of the type are included, else the names of the zones."""
        if set(self.zones) == set(self.instance_type.zones) and len(self.zones) > 1:
            stem = _common_prefix(self.zones)
            if stem:
                return f"{stem}*"
        return ", ".join(self.zones)


def _common_prefix(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length]


def type_rows(requests: Sequence[OfferRequest], answers: Sequence[Offer | Unpriced]) -> list[TypeRow]:
    """Return a row for each group of requests that differ in the zone only.

    Args:
        answers: Results of `Pricing.price`, one for each request, in order.
    """
    rows: dict[object, TypeRow] = {}
    for request, answer in zip(requests, answers, strict=True):
        priced = isinstance(answer, Offer)
        price = answer.price if isinstance(answer, Offer) else None
        disk = request.boot_disk
        key = (request.instance_type.name, request.provisioning_model, disk.disk_type, disk.size_gb, price)
        known = rows.get(key)
        if known is not None:
            rows[key] = attrs.evolve(known, zones=(*known.zones, request.zone))
            continue
        rows[key] = TypeRow(
            instance_type=request.instance_type,
            provisioning_model=request.provisioning_model,
            boot_disk=disk,
            zones=(request.zone,),
            price=price,
            priced_at=answer.priced_at if isinstance(answer, Offer) else None,
            reason="" if priced else getattr(answer, "reason", ""),
        )
    return list(rows.values())


def _of_price(pick: Callable[[PriceBreakdown], Money]) -> Callable[[TypeRow], Money | None]:
    return lambda row: None if row.price is None else pick(row.price)


def _each(pick: Callable[[PriceBreakdown], Money], count: Callable[[TypeRow], float]) -> Callable[[TypeRow], object]:
    """Return the value of a unit price; None where the count is zero."""

    def value(row: TypeRow) -> Money | None:
        number = count(row)
        return None if row.price is None or not number else pick(row.price) / number

    return value


def _vcpus(row: TypeRow) -> int:
    return row.instance_type.vcpus


def _columns() -> Iterable[Column[TypeRow]]:
    def column(name: str, title: str, value: Callable[[TypeRow], object], **more: object) -> Column[TypeRow]:
        return Column(name=name, title=title, value=value, **more)  # type: ignore[arg-type]  # passed through

    right = {"align_right": True}
    hidden = {"align_right": True, "detail": True}
    yield column("name", "Instance Type", lambda r: r.instance_type.name)
    yield column("architecture", "Arch", lambda r: r.instance_type.architecture)
    yield column("vcpu", "vCPUs", _vcpus, **right)
    yield column("mem", "Mem (GB)", lambda r: r.instance_type.memory_gb, aliases=("memory",), **right)
    yield column("local_ssd", "Local SSD (GB)", lambda r: r.instance_type.local_ssd_gb, **right)
    yield column("storage", "Boot Disk (GB)", lambda r: r.boot_disk.size_gb, **right)
    yield column("boot_disk_type", "Disk Type", lambda r: r.boot_disk.disk_type)
    yield column("gpus", "GPUs", lambda r: r.instance_type.gpu_count, **hidden)
    yield column("gpu_type", "GPU Type", lambda r: r.instance_type.gpu_type, detail=True)
    yield column("vcpu_price", "vCPU $/h", _of_price(lambda p: p.cpu), **hidden)
    yield column("mem_price", "Mem $/h", _of_price(lambda p: p.memory), **hidden)
    yield column("local_ssd_price", "Local SSD $/h", _of_price(lambda p: p.local_ssd), **hidden)
    yield column("gpu_price", "GPU $/h", _of_price(lambda p: p.gpu), **hidden)
    yield column("boot_disk_price", "Boot Disk $/h", _of_price(lambda p: p.boot_disk), **hidden)
    yield column("boot_disk_iops_price", "Boot Disk IOPS $/h", _of_price(lambda p: p.boot_disk_iops), **hidden)
    yield column(
        "boot_disk_throughput_price", "Boot Disk Throughput $/h", _of_price(lambda p: p.boot_disk_throughput), **hidden
    )
    yield column("address_price", "Address $/h", _of_price(lambda p: p.address), **hidden)
    yield column("surplus_credits_price", "Surplus Credits $/h", _of_price(lambda p: p.surplus_credits), **hidden)
    yield column("price_per_cpu", "vCPU $/vCPU/h", _each(lambda p: p.cpu, _vcpus), **hidden)
    yield column(
        "mem_per_gb_price", "Mem $/GB/h", _each(lambda p: p.memory, lambda r: r.instance_type.memory_gb), **hidden
    )
    yield column(
        "local_ssd_per_gb_price",
        "Local SSD $/GB/h",
        _each(lambda p: p.local_ssd, lambda r: r.instance_type.local_ssd_gb),
        **hidden,
    )
    yield column(
        "boot_disk_per_gb_price",
        "Boot Disk $/GB/h",
        _each(lambda p: p.boot_disk, lambda r: r.boot_disk.size_gb),
        **hidden,
    )
    yield column("total_price", "Total $/h", _of_price(lambda p: p.total), **right)
    yield column("total_price_per_cpu", "$/vCPU/h", _each(lambda p: p.total, _vcpus), **right)
    yield column("purchase", "Provisioning", lambda r: r.provisioning_model, detail=True)
    yield column("zone", "Zone", lambda r: r.zone_text())
    yield column("zones", "Zones", lambda r: r.zones, detail=True)
    yield column("processor_type", "Processor", lambda r: r.instance_type.cpu_family, aliases=("cpu_family",))
    yield column("performance_rank", "Rank", lambda r: r.instance_type.cpu_rank or None, aliases=("cpu_rank",), **right)
    yield column("sustained_cpu", "Sustained CPU", lambda r: r.instance_type.sustained_cpu, **hidden)
    yield column("supports_spot", "Spot", lambda r: r.instance_type.supports_spot, detail=True)
    yield column("quoted_at", "Price as of", lambda r: r.priced_at, detail=True)
    yield column("no_price", "No price", lambda r: r.reason, detail=True)
    yield column("description", "Description", lambda r: r.instance_type.description, detail=True)


INSTANCE_TYPE_COLUMNS: tuple[Column[TypeRow], ...] = tuple(_columns())
"""All columns; amounts in US dollars per hour."""
