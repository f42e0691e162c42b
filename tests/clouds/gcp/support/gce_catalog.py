"""Catalog of the Compute Engine fake: regions, machine types by zone, images, quotas; from `gce_catalog.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import attrs

__all__ = ["Catalog", "MachineType", "load_catalog"]


@attrs.frozen(kw_only=True)
class MachineType:
    """A machine type, the same in every zone that has it."""

    name: str
    vcpus: int
    memory_mb: int
    arm: bool
    shared: bool
    gpu_type: str
    gpu_count: int
    ssd_partitions: int
    spot_only: bool
    """Whether the type is not sold on demand."""
    pinned: bool
    """Whether instances without GPUs are not live-migrated."""

    def resource(self, zone: str) -> dict[str, Any]:
        """Return its resource in a zone, with the API's field names."""
        resource: dict[str, Any] = {
            "kind": "compute#machineType",
            "id": str(1000 + sum(map(ord, self.name))),
            "creationTimestamp": "1969-12-31T16:00:00.000-08:00",
            "name": self.name,
            "description": f"{self.vcpus} vCPUs, {self.memory_mb / 1024:g} GB RAM",
            "guestCpus": self.vcpus,
            "memoryMb": self.memory_mb,
            "maximumPersistentDisks": 16 if self.shared else 128,
            "maximumPersistentDisksSizeGb": "263168",
            "zone": zone,
            "isSharedCpu": self.shared,
            "architecture": "ARM64" if self.arm else "X86_64",
        }
        if self.gpu_count:
            resource["accelerators"] = [
                {"guestAcceleratorType": self.gpu_type, "guestAcceleratorCount": self.gpu_count}
            ]
        if self.ssd_partitions:
            resource["bundledLocalSsds"] = {"defaultInterface": "NVME", "partitionCount": self.ssd_partitions}
        return resource


@attrs.frozen(kw_only=True)
class Catalog:
    regions: Mapping[str, tuple[str, ...]]
    """Zones by region."""
    types: Mapping[str, Mapping[str, MachineType]]
    """Machine types by zone and name."""
    images: tuple[Mapping[str, str], ...]
    quotas: Mapping[str, float]
    """Quota limits of every region."""
    global_quotas: Mapping[str, float]

    @property
    def zones(self) -> tuple[str, ...]:
        return tuple(zone for zones in self.regions.values() for zone in zones)


@cache
def load_catalog() -> Catalog:
    """Load the catalog file."""
    data = json.loads(Path(__file__).with_name("gce_catalog.json").read_text())
    types: dict[str, dict[str, MachineType]] = {zone: {} for zones in data["regions"].values() for zone in zones}
    for entry in data["shapes"]:
        for machine_type in _machine_types(entry):
            for zone in _zones(entry["zones"]):
                types[zone][machine_type.name] = machine_type
    return Catalog(
        regions={region: tuple(zones) for region, zones in data["regions"].items()},
        types=types,
        images=tuple(data["images"]),
        quotas=data["quotas"],
        global_quotas=data["global_quotas"],
    )


def _machine_types(entry: Mapping[str, Any]) -> Iterator[MachineType]:
    gpu_type, gpu_count = entry.get("gpu", ("", 0))
    partitions = entry.get("ssd") or [0] * len(entry["vcpus"])
    for vcpus, memory, ssd in zip(entry["vcpus"], entry["memory_mb"], partitions, strict=True):
        name = entry["name"] if entry.get("whole_name") else f"{entry['name']}-{vcpus}{entry.get('suffix', '')}"
        yield MachineType(
            name=name,
            vcpus=vcpus,
            memory_mb=memory,
            arm=entry.get("arch") == "ARM64",
            shared=bool(entry.get("shared")),
            gpu_type=gpu_type,
            gpu_count=gpu_count,
            ssd_partitions=ssd,
            spot_only=bool(entry.get("spot_only")),
            pinned=bool(entry.get("pinned")),
        )


def _zones(text: str) -> Iterator[str]:
    """Yield the zone names of a text such as ``us-central1:abf us-east1:b``."""
    for part in text.split():
        region, _, letters = part.partition(":")
        for letter in letters:
            yield f"{region}-{letter}"
