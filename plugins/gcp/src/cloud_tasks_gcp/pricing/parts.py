"""What is charged for: the parts of a machine and of its boot disk, each with its rate's key and its amount.

A family that is not mentioned here is priced by the rates of its own name, as most are: one that comes tomorrow too.

Sources: Google Cloud's pages "VM instance pricing" (shared-core machines, custom types, extended memory),
"Accelerator-optimized VM pricing", "Disk and image pricing".

Invariants, each with a test:

1. Nothing is left out of a price: a part that is not known makes the whole machine `NotPricedError`, with a reason.
2. A disk is priced with the performance that `provisioned` tells, which a launch asks for as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal

import attrs

from cloud_tasks.model import BootDisk, InstanceType
from cloud_tasks_gcp.pricing.titles import DISK_TITLES, GPU_TITLES, SLICE_TITLES
from cloud_tasks_gcp.provisioning import performance_of, provisioned

__all__ = ["NotPricedError", "Part", "disk_parts", "machine_parts"]


class NotPricedError(Exception):
    """There is no price; the text says why."""


@attrs.frozen
class Part:
    """An amount of something that has a rate."""

    field: str
    """The field of `PriceBreakdown` that it belongs to."""
    keys: tuple[str, ...]
    """The key of its rate; with several, the first that the catalog has."""
    amount: Decimal
    """Cores, GiB, devices, IOPS or MiB/s."""
    has_spot: bool = True
    """Whether it costs another price on a spot machine."""


_SHARED_CORES: Mapping[str, Decimal] = {"micro": Decimal("0.25"), "small": Decimal("0.5"), "medium": Decimal(1)}
"""How much of a core is charged for an E2 machine that shares it."""

_BILLED_AS: tuple[tuple[str, str], ...] = (
    ("a3-megagpu-", "a3plus"),
    ("a3-ultragpu-", "a3ultra"),
    ("m4-ultramem-224", "m4ultramem224"),
    ("n1-megamem-", "m1"),
    ("n1-ultramem-", "m1"),
    ("m2-", "m1"),
)
"""Machine types whose cores and memory are sold under another name than that of their family."""

_WITH_DEVICES = frozenset({"a2", "a3", "a4", "a4x", "g2", "g4"})
"""Families that are never without accelerators."""

_COMMON_SSD = frozenset({"a2", "a3", "c2", "c2d", "c3", "c3d", "g2", "m1", "m3", "n1", "n2", "n2d", "z3"})
"""Families whose local SSD has the common price, even where the catalog has one of their own besides (Z3)."""

_MEMORY_PER_CORE: Mapping[str, Decimal] = {"n1": Decimal("6.5"), "n2": Decimal(8), "n2d": Decimal(8), "n4": Decimal(8)}
"""GiB for each core of a custom machine; what ``-ext`` brings beyond is extended memory."""

_UNPRICED: Mapping[str, str] = {
    "ct": "TPU machines are priced by the chip, which is not supported",
    "tpu": "TPU machines are priced by the chip, which is not supported",
}
"""Why machine types that begin so have no price."""


def machine_parts(machine: InstanceType) -> Iterator[Part]:
    """The parts of a machine. Raises `NotPricedError`."""
    words = machine.name.split("-")
    family = "n1" if words[0] == "custom" else words[0]
    for beginning, reason in _UNPRICED.items():
        if machine.name.startswith(beginning):
            raise NotPricedError(reason)
    if family == "g4" and machine.vcpus < 48:
        raise NotPricedError("a share of a GPU has a price of its own, which is not supported")
    if machine.name in ("f1-micro", "g1-small"):
        yield Part("cpu", (f"machine/{machine.name}",), Decimal(1))
        return
    if machine.gpu_type in SLICE_TITLES:
        yield Part("gpu", (f"slice/{machine.gpu_type}",), Decimal(machine.gpu_count))
        return
    if family in _WITH_DEVICES and not machine.gpu_count:
        raise NotPricedError("its accelerators are not known")
    yield from _core_parts(machine, family, words)
    if machine.gpu_count:
        if machine.gpu_type not in GPU_TITLES:
            raise NotPricedError(f"the accelerator {machine.gpu_type or '(unnamed)'} is not known")
        yield Part("gpu", (f"gpu/{machine.gpu_type}",), Decimal(machine.gpu_count))
    if machine.local_ssd_gb:
        keys = ("ssd",) if family in _COMMON_SSD else (f"ssd/{family}", "ssd")
        yield Part("local_ssd", keys, _exact(machine.local_ssd_gb))


def _core_parts(machine: InstanceType, family: str, words: list[str]) -> Iterator[Part]:
    cores, memory = Decimal(machine.vcpus), _exact(machine.memory_gb)
    if "custom" in words:
        yield from _custom_parts(family, words, cores, memory)
        return
    if family == "e2" and words[-1] in _SHARED_CORES:
        cores = _SHARED_CORES[words[-1]]
    billed = next((name for beginning, name in _BILLED_AS if machine.name.startswith(beginning)), None)
    shape = "-".join(word for word in words if not word.isdigit())
    names = (billed,) if billed else (shape, family)
    yield Part("cpu", tuple(f"core/{name}" for name in names), cores)
    yield Part("memory", tuple(f"ram/{name}" for name in names), memory)
    if family == "m2":
        yield Part("cpu", ("core/m2/premium",), cores)
        yield Part("memory", ("ram/m2/premium",), memory)


def _custom_parts(family: str, words: list[str], cores: Decimal, memory: Decimal) -> Iterator[Part]:
    if family == "e2":
        cores = next((_SHARED_CORES[word] for word in words if word in _SHARED_CORES), cores)
    # E2 costs the same with a size of one's own; not every region has SKUs for it.
    plain = (family,) if family == "e2" else ()
    extended = Decimal(0)
    if words[-1] == "ext":
        if family not in _MEMORY_PER_CORE:
            raise NotPricedError(f"extended memory of {family.upper()} is not known")
        extended = max(memory - cores * _MEMORY_PER_CORE[family], extended)
    yield Part("cpu", tuple(f"core/{name}" for name in (f"{family}/custom", *plain)), cores)
    yield Part("memory", tuple(f"ram/{name}" for name in (f"{family}/custom", *plain)), memory - extended)
    if extended:
        yield Part("memory", (f"ram/{family}/extended",), extended)


def disk_parts(disk: BootDisk) -> Iterator[Part]:
    """The parts of a boot disk. Raises `NotPricedError`."""
    if disk.disk_type not in DISK_TITLES:
        raise NotPricedError(f"the boot disk type {disk.disk_type or '(none)'} is not known")
    performance = performance_of(disk.disk_type)
    iops, throughput = provisioned(disk)
    beyond = {
        # The API knows whole GiB.
        "capacity": Decimal(math.ceil(disk.size_gb)),
        "iops": Decimal(max((iops or 0) - performance.free_iops, 0)),
        "throughput": Decimal(max((throughput or 0) - performance.free_throughput, 0)),
    }
    fields = {"capacity": "boot_disk", "iops": "boot_disk_iops", "throughput": "boot_disk_throughput"}
    for part in DISK_TITLES[disk.disk_type]:
        if beyond[part]:
            yield Part(fields[part], (f"disk/{disk.disk_type}/{part}",), beyond[part], has_spot=False)


def _exact(number: float) -> Decimal:
    return Decimal(str(number))
