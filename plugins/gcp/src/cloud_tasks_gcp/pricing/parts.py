"""Priced parts of an instance and its boot disk, each with rate key and amount.

A machine family without an entry here is priced by the rates of its own name, as most families are.

Sources: Google Cloud's pages "VM instance pricing" (shared-core machines, custom types, extended memory),
"Accelerator-optimized VM pricing", "Disk and image pricing".

Invariants, each with a test:

1. A price is complete: an unknown part raises `NotPricedError` for the whole instance, with a reason.
2. A disk is priced with the performance returned by `provisioned`, which a launch requests as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal

import attrs

from cloud_tasks.model import BootDisk, InstanceType
from cloud_tasks_gcp.disks import disk_gb, disk_kind, provisioned
from cloud_tasks_gcp.pricing.titles import DISK_TITLES, GPU_TITLES, SLICE_TITLES

__all__ = ["NotPricedError", "Part", "disk_parts", "instance_parts"]


class NotPricedError(Exception):
    """No price is available; the text is the reason."""


@attrs.frozen
class Part:
    """Amount of one priced part."""

    field: str
    """Field of `PriceBreakdown` that the part belongs to."""
    keys: tuple[str, ...]
    """Keys of the rate, in order of preference; the first one in the catalog is used."""
    amount: Decimal
    """Cores, GiB, devices, IOPS or MiB/s."""
    has_spot: bool = True
    """Whether the part has a separate spot price."""


_SHARED_CORES: Mapping[str, Decimal] = {"micro": Decimal("0.25"), "small": Decimal("0.5"), "medium": Decimal(1)}
"""Charged fraction of a core for shared-core E2 types."""

_BILLED_AS: tuple[tuple[str, str], ...] = (
    ("a3-megagpu-", "a3plus"),
    ("a3-ultragpu-", "a3ultra"),
    ("m4-ultramem-224", "m4ultramem224"),
    ("n1-megamem-", "m1"),
    ("n1-ultramem-", "m1"),
    ("m2-", "m1"),
)
"""Machine types billed under another name than their family's."""

_ACCELERATOR_FAMILIES = frozenset({"a2", "a3", "a4", "a4x", "g2", "g4"})
"""Families that always have accelerators."""

_COMMON_SSD = frozenset({"a2", "a3", "c2", "c2d", "c3", "c3d", "g2", "m1", "m3", "n1", "n2", "n2d", "z3"})
"""Families billed at the common local SSD price, even if the catalog has a price of their own (Z3)."""

_MEMORY_PER_CORE: Mapping[str, Decimal] = {"n1": Decimal("6.5"), "n2": Decimal(8), "n2d": Decimal(8), "n4": Decimal(8)}
"""Maximum standard memory of a custom type in GiB per core; the rest of an ``-ext`` type is extended memory."""

_TPU = re.compile(r"(ct|tpu).*|.*-tpu")
"""Machine types of TPU hosts: ``ct5lp-hightpu-4t``, ``n1-340-48-tpu``."""


def instance_parts(instance_type: InstanceType) -> Iterator[Part]:
    """Yield the parts of an instance without its boot disk. Raise `NotPricedError`."""
    words = instance_type.name.split("-")
    family = "n1" if words[0] == "custom" else words[0]
    if _TPU.fullmatch(instance_type.name):
        raise NotPricedError("TPU types are priced per chip, which is not supported")
    if family == "g4" and instance_type.vcpus < 48:
        raise NotPricedError("fractional GPUs have a separate price, which is not supported")
    if instance_type.name in ("f1-micro", "g1-small"):
        yield Part("cpu", (f"machine/{instance_type.name}",), Decimal(1))
        return
    if instance_type.gpu_type in SLICE_TITLES:
        yield Part("gpu", (f"slice/{instance_type.gpu_type}",), Decimal(instance_type.gpu_count))
        return
    if family in _ACCELERATOR_FAMILIES and not instance_type.gpu_count:
        raise NotPricedError("unknown accelerators")
    yield from _core_parts(instance_type, family, words)
    if instance_type.gpu_count:
        if instance_type.gpu_type not in GPU_TITLES:
            raise NotPricedError(f"unknown accelerator {instance_type.gpu_type or '(unnamed)'}")
        yield Part("gpu", (f"gpu/{instance_type.gpu_type}",), Decimal(instance_type.gpu_count))
    if instance_type.local_ssd_gb:
        keys = ("ssd",) if family in _COMMON_SSD else (f"ssd/{family}", "ssd")
        yield Part("local_ssd", keys, _exact(instance_type.local_ssd_gb))


def _core_parts(instance_type: InstanceType, family: str, words: list[str]) -> Iterator[Part]:
    cores, memory = Decimal(instance_type.vcpus), _exact(instance_type.memory_gb)
    if "custom" in words:
        yield from _custom_parts(family, words, cores, memory)
        return
    if family == "e2" and words[-1] in _SHARED_CORES:
        cores = _SHARED_CORES[words[-1]]
    billed = next((name for prefix, name in _BILLED_AS if instance_type.name.startswith(prefix)), None)
    variant = "-".join(word for word in words if not word.isdigit())
    names = (billed,) if billed else (variant, family)
    yield Part("cpu", tuple(f"core/{name}" for name in names), cores)
    yield Part("memory", tuple(f"ram/{name}" for name in names), memory)
    if family == "m2":
        yield Part("cpu", ("core/m2/premium",), cores)
        yield Part("memory", ("ram/m2/premium",), memory)


def _custom_parts(family: str, words: list[str], cores: Decimal, memory: Decimal) -> Iterator[Part]:
    if family == "e2":
        cores = next((_SHARED_CORES[word] for word in words if word in _SHARED_CORES), cores)
    # Custom E2 types have the standard E2 price; not every region has separate SKUs.
    plain = (family,) if family == "e2" else ()
    extended = Decimal(0)
    if words[-1] == "ext":
        if family not in _MEMORY_PER_CORE:
            raise NotPricedError(f"unknown price of extended memory for {family.upper()}")
        extended = max(memory - cores * _MEMORY_PER_CORE[family], extended)
    yield Part("cpu", tuple(f"core/{name}" for name in (f"{family}/custom", *plain)), cores)
    yield Part("memory", tuple(f"ram/{name}" for name in (f"{family}/custom", *plain)), memory - extended)
    if extended:
        yield Part("memory", (f"ram/{family}/extended",), extended)


def disk_parts(disk: BootDisk) -> Iterator[Part]:
    """Yield the parts of a boot disk. Raise `NotPricedError`."""
    if disk.disk_type not in DISK_TITLES:
        raise NotPricedError(f"unknown boot disk type {disk.disk_type or '(none)'}")
    kind = disk_kind(disk.disk_type)
    iops, throughput = provisioned(disk)
    billed = {
        # The API has whole GiB only.
        "capacity": Decimal(disk_gb(disk)),
        "iops": Decimal(max((iops or 0) - kind.free_iops, 0)),
        "throughput": Decimal(max((throughput or 0) - kind.free_throughput, 0)),
    }
    fields = {"capacity": "boot_disk", "iops": "boot_disk_iops", "throughput": "boot_disk_throughput"}
    for part in DISK_TITLES[disk.disk_type]:
        if billed[part]:
            yield Part(fields[part], (f"disk/{disk.disk_type}/{part}",), billed[part], has_spot=False)


def _exact(number: float) -> Decimal:
    return Decimal(str(number))
