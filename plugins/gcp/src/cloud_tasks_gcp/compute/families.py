"""Properties of each machine series that the API does not report: CPU, boot disks, quota.

Sources, all in the Compute Engine documentation: "CPU platforms" and "Machine families resource and comparison guide"
(CPU), "About Persistent Disk" and "About Hyperdisk", tables of machine series support (boot disks), "Allocation quotas"
(quota), "Live migration process during maintenance events" (maintenance), "Consumption options" of GPU machine types
(on demand). For a series that runs on several CPUs, the
table has the oldest: the only one that Google guarantees.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

__all__ = ["FAMILIES", "UNKNOWN_FAMILY", "MachineFamily", "boot_disk_types", "family_of", "series_of"]

_PD = ("pd-standard", "pd-balanced", "pd-ssd")
_PD_NEWER = ("pd-balanced", "pd-ssd")
_HYPERDISK = ("hyperdisk-balanced",)
_BOTH = ("hyperdisk-balanced", "pd-balanced", "pd-ssd")
_MEMORY = ("pd-standard", "hyperdisk-balanced", "pd-balanced", "pd-ssd", "pd-extreme")


@attrs.frozen(kw_only=True)
class MachineFamily:
    """Properties of one machine series."""

    cpu: str
    """Oldest CPU of the series."""
    rank: int
    """Rank of the CPU by age; see the documentation of ``min_cpu_rank``."""
    disks: tuple[str, ...]
    """Supported boot disk types, lowest price per GiB first."""
    quota: str | None = None
    """Regional quota metric of the vCPUs; None where the region resource has none (Cloud Quotas only)."""
    migrates: bool = True
    """Whether instances without GPUs are live-migrated during host maintenance; others are terminated."""
    spot: bool = True
    on_demand: bool = True
    """Whether the types are sold on demand; others as spot, by reservation or as flex-start only."""


FAMILIES: Mapping[str, MachineFamily] = {
    "a2": MachineFamily(cpu="Intel Cascade Lake", rank=12, disks=_PD, quota="A2_CPUS", migrates=False),
    "a3": MachineFamily(cpu="Intel Sapphire Rapids", rank=21, disks=_BOTH, migrates=False),
    "a4": MachineFamily(cpu="Intel Emerald Rapids", rank=25, disks=_HYPERDISK, migrates=False),
    "c2": MachineFamily(cpu="Intel Cascade Lake", rank=12, disks=_PD, quota="C2_CPUS"),
    "c2d": MachineFamily(cpu="AMD EPYC Milan", rank=17, disks=_PD, quota="C2D_CPUS"),
    "c3": MachineFamily(cpu="Intel Sapphire Rapids", rank=21, disks=_BOTH, quota="C3_CPUS"),
    "c3d": MachineFamily(cpu="AMD EPYC Genoa", rank=22, disks=_BOTH),
    "c4": MachineFamily(cpu="Intel Emerald Rapids", rank=25, disks=_HYPERDISK),
    "c4a": MachineFamily(cpu="Google Axion", rank=27, disks=_HYPERDISK),
    "c4d": MachineFamily(cpu="AMD EPYC Turin", rank=26, disks=_HYPERDISK),
    "e2": MachineFamily(cpu="Intel Haswell", rank=7, disks=_PD, quota="CPUS"),
    "f1": MachineFamily(cpu="Intel Sandy Bridge", rank=4, disks=_PD, quota="CPUS"),
    "g1": MachineFamily(cpu="Intel Sandy Bridge", rank=4, disks=_PD, quota="CPUS"),
    "g2": MachineFamily(cpu="Intel Cascade Lake", rank=12, disks=_PD_NEWER, migrates=False),
    "g4": MachineFamily(cpu="AMD EPYC Turin", rank=26, disks=_HYPERDISK, migrates=False),
    "h3": MachineFamily(
        cpu="Intel Sapphire Rapids", rank=21, disks=("hyperdisk-balanced", "pd-balanced"), migrates=False, spot=False
    ),
    "h4d": MachineFamily(cpu="AMD EPYC Turin", rank=26, disks=_HYPERDISK, migrates=False),
    "m1": MachineFamily(cpu="Intel Broadwell", rank=10, disks=_MEMORY, quota="M1_CPUS"),
    "m2": MachineFamily(cpu="Intel Cascade Lake", rank=12, disks=_MEMORY, quota="M2_CPUS", spot=False),
    "m3": MachineFamily(cpu="Intel Ice Lake", rank=16, disks=_MEMORY[1:], quota="M3_CPUS"),
    "m4": MachineFamily(cpu="Intel Emerald Rapids", rank=25, disks=_HYPERDISK),
    "n1": MachineFamily(cpu="Intel Sandy Bridge", rank=4, disks=_PD, quota="CPUS"),
    "n2": MachineFamily(cpu="Intel Cascade Lake", rank=12, disks=_PD, quota="N2_CPUS"),
    "n2d": MachineFamily(cpu="AMD EPYC Rome", rank=13, disks=_PD, quota="N2D_CPUS"),
    "n4": MachineFamily(cpu="Intel Emerald Rapids", rank=25, disks=_HYPERDISK),
    "n4a": MachineFamily(cpu="Google Axion", rank=27, disks=_HYPERDISK),
    "n4d": MachineFamily(cpu="AMD EPYC Turin", rank=26, disks=_HYPERDISK),
    "t2a": MachineFamily(cpu="Ampere Altra", rank=15, disks=_PD, quota="T2A_CPUS"),
    "t2d": MachineFamily(cpu="AMD EPYC Milan", rank=17, disks=_PD, quota="T2D_CPUS"),
    "x4": MachineFamily(cpu="Intel Sapphire Rapids", rank=21, disks=_HYPERDISK, migrates=False, spot=False),
    "z3": MachineFamily(cpu="Intel Sapphire Rapids", rank=21, disks=_BOTH),
}
"""Machine series by the first part of the machine type's name."""

UNKNOWN_FAMILY = MachineFamily(cpu="", rank=0, disks=_HYPERDISK)
"""Defaults for a series missing from the table: all recent series boot from hyperdisk-balanced only."""

_ICE_LAKE_VCPUS = 96
"""N2 instances of this size and above never have an older CPU ("CPU platforms")."""
_PD_EXTREME_VCPUS = 64
"""N2 instances of this size and above support pd-extreme ("About Persistent Disk", machine series support)."""

_NOT_ON_DEMAND = ("a3-highgpu-1g", "a3-highgpu-2g", "a3-highgpu-4g", "a3-ultragpu-", "a4-", "a4x-")
"""Types that are not sold on demand, and A4X by reservation only ("Consumption options")."""

_MOST_MIGRATED_SSD_GB = 18_000
"""Instances of Z3 with more local SSD, in GiB, are not live-migrated (18 TiB in "Live migration process"; each
partition of 3 TiB counts as 3,000 GiB)."""

_HYPERDISK_ONLY = ("a3-ultragpu-",)
"""Types without Persistent Disk in a series that otherwise supports it ("About Persistent Disk", the same table)."""


def series_of(machine_type: str) -> str:
    """Return the series of a machine type: ``n2d`` of ``n2d-highmem-4``."""
    return machine_type.partition("-")[0]


def family_of(machine_type: str, vcpus: int = 0, local_ssd_gb: float = 0) -> MachineFamily:
    """Return the series properties of a machine type; `UNKNOWN_FAMILY` when the table has none."""
    series = series_of(machine_type)
    family = FAMILIES.get(series, UNKNOWN_FAMILY)
    if series == "n2" and vcpus >= _ICE_LAKE_VCPUS:
        family = attrs.evolve(family, cpu="Intel Ice Lake", rank=16)
    if machine_type.endswith("-metal"):
        family = attrs.evolve(family, migrates=False, spot=False)
    if series == "z3" and local_ssd_gb > _MOST_MIGRATED_SSD_GB:
        family = attrs.evolve(family, migrates=False)
    if machine_type.startswith(_NOT_ON_DEMAND):
        family = attrs.evolve(family, on_demand=False, spot=not machine_type.startswith("a4x-"))
    return family


def boot_disk_types(machine_type: str, vcpus: int) -> tuple[str, ...]:
    """Return the boot disk types that a machine type supports, lowest price per GiB first."""
    disks = family_of(machine_type, vcpus).disks
    if machine_type.endswith("-metal") or machine_type.startswith(_HYPERDISK_ONLY):
        return tuple(disk for disk in disks if disk.startswith("hyperdisk-"))
    if series_of(machine_type) == "n2" and vcpus >= _PD_EXTREME_VCPUS:
        return (*disks, "pd-extreme")
    return disks
