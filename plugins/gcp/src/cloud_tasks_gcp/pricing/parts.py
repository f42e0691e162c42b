"""What is charged for: the parts of a machine and of its boot disk, each with its rate's key and its amount.

A family that is not mentioned here is priced by the rates of its own name, as most are: one that comes tomorrow too.

Sources: Google Cloud's pages "VM instance pricing" (shared-core machines, custom types, extended memory),
"Accelerator-optimized VM pricing", "Disk and image pricing", "About Hyperdisk Balanced", "About Hyperdisk Extreme",
"About Hyperdisk Throughput", and Compute Engine's API reference (``provisionedIops`` and ``provisionedThroughput`` of
disks).

Invariants, each with a test:

1. Nothing is left out of a price: a part that is not known makes the whole machine `NotPriced`, with a reason.
2. A disk for which the user says nothing is priced with the performance that `provisioned` tells: the least that its
   type can have, which a launch has to ask for as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal

import attrs

from cloud_tasks.model import BootDisk, InstanceType
from cloud_tasks_gcp.pricing.titles import DISK_TITLES, GPU_TITLES, SLICE_TITLES

__all__ = ["NotPriced", "Part", "disk_parts", "machine_parts", "provisioned"]


class NotPriced(Exception):
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
    """The parts of a machine. Raises `NotPriced`."""
    words = machine.name.split("-")
    family = "n1" if words[0] == "custom" else words[0]
    for beginning, reason in _UNPRICED.items():
        if machine.name.startswith(beginning):
            raise NotPriced(reason)
    if family == "g4" and machine.vcpus < 48:
        raise NotPriced("a share of a GPU has a price of its own, which is not supported")
    if machine.name in ("f1-micro", "g1-small"):
        yield Part("cpu", (f"machine/{machine.name}",), Decimal(1))
        return
    if machine.gpu_type in SLICE_TITLES:
        yield Part("gpu", (f"slice/{machine.gpu_type}",), Decimal(machine.gpu_count))
        return
    if family in _WITH_DEVICES and not machine.gpu_count:
        raise NotPriced("its accelerators are not known")
    yield from _core_parts(machine, family, words)
    if machine.gpu_count:
        if machine.gpu_type not in GPU_TITLES:
            raise NotPriced(f"the accelerator {machine.gpu_type or '(unnamed)'} is not known")
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
            raise NotPriced(f"extended memory of {family.upper()} is not known")
        extended = max(memory - cores * _MEMORY_PER_CORE[family], extended)
    yield Part("cpu", tuple(f"core/{name}" for name in (f"{family}/custom", *plain)), cores)
    yield Part("memory", tuple(f"ram/{name}" for name in (f"{family}/custom", *plain)), memory - extended)
    if extended:
        yield Part("memory", (f"ram/{family}/extended",), extended)


@attrs.frozen
class _Performance:
    """What a type of disk offers to be provisioned."""

    least_iops: int | None = None
    """What is provisioned when nothing is said; None: IOPS are not provisioned."""
    iops_per_gib: int = 0
    """The least for each GiB."""
    most_iops_per_gib: int | None = None
    least_throughput: int | None = None
    """MiB/s."""
    iops_per_throughput: tuple[int, int] | None = None
    """The fewest and the most IOPS that there may be for each MiB/s; None: the two are independent."""
    free_iops: int = 0
    free_throughput: int = 0


_PERFORMANCE: Mapping[str, _Performance] = {
    "pd-extreme": _Performance(least_iops=10_000),
    "hyperdisk-balanced": _Performance(
        least_iops=3_000,
        most_iops_per_gib=500,
        least_throughput=140,
        iops_per_throughput=(4, 256),
        free_iops=3_000,
        free_throughput=140,
    ),
    "hyperdisk-extreme": _Performance(least_iops=128, iops_per_gib=2),
    "hyperdisk-throughput": _Performance(least_throughput=20),
    "hyperdisk-ml": _Performance(least_throughput=400),
}
"""The least that each type can have; for hyperdisk-balanced, what is free of charge. Other types have what their size
gives them."""


def provisioned(disk: BootDisk) -> tuple[int | None, int | None]:
    """IOPS and MiB/s that a boot disk is made with: what was asked for, else the least; None where neither applies.

    Where one of the two is given, the other is the least that goes with it.
    """
    performance = _PERFORMANCE.get(disk.disk_type, _Performance())
    fewest, most = performance.iops_per_throughput or (0, math.inf)
    iops, throughput = None, None
    if performance.least_iops is not None:
        gib = math.ceil(disk.size_gb)
        least = max(performance.least_iops, performance.iops_per_gib * gib, fewest * (disk.throughput_mb_s or 0))
        if performance.most_iops_per_gib is not None:
            least = min(least, performance.most_iops_per_gib * gib)
        iops = disk.iops or least
    if performance.least_throughput is not None:
        throughput = disk.throughput_mb_s or max(performance.least_throughput, math.ceil((iops or 0) / most))
    return iops, throughput


def disk_parts(disk: BootDisk) -> Iterator[Part]:
    """The parts of a boot disk. Raises `NotPriced`."""
    if disk.disk_type not in DISK_TITLES:
        raise NotPriced(f"the boot disk type {disk.disk_type or '(none)'} is not known")
    performance = _PERFORMANCE.get(disk.disk_type, _Performance())
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
