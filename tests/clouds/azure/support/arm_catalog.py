"""Data of the Resource Manager fake: locations with their zones, sizes as resource SKUs, quotas, images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["IMAGES", "LOCATIONS", "QUOTAS", "SIZES", "ImageFacts", "SizeSpec"]

LOCATIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "eastus": ("East US", ("1", "2", "3")),
    "westeurope": ("West Europe", ("1", "2", "3")),
    "northcentralus": ("North Central US", ()),
}
"""Display name and zones, by location."""


@attrs.frozen(kw_only=True)
class SizeSpec:
    name: str
    vcpus: int
    memory: float
    family: str
    arm: bool = False
    spot: bool = True
    premium: bool = True
    gpus: int = 0
    local_ssd_mb: int = 0
    generations: str = "V1,V2"
    zones: tuple[str, ...] = ("1", "2", "3")
    restricted_zones: tuple[str, ...] = ()
    restricted: bool = False
    """Whether the size is restricted in the whole location."""
    confidential: str = ""
    """Kind of confidential computing: ``SNP``."""
    constrained: int = 0
    """Available vCPUs of a constrained size; 0: all."""

    def resource(self, location: str) -> dict[str, Any]:
        capabilities = {
            "vCPUs": self.vcpus,
            "vCPUsAvailable": self.constrained or self.vcpus,
            "MemoryGB": self.memory,
            "CpuArchitectureType": "Arm64" if self.arm else "x64",
            "LowPriorityCapable": str(self.spot),
            "PremiumIO": str(self.premium),
            "HyperVGenerations": self.generations,
            "MaxResourceVolumeMB": self.local_ssd_mb,
        }
        if self.confidential:
            capabilities["ConfidentialComputingType"] = self.confidential
        if self.gpus:
            capabilities["GPUs"] = self.gpus
        zones = [each for each in LOCATIONS[location][1] if each in self.zones]
        restrictions: list[dict[str, Any]] = []
        info = {"locations": [location]}
        if self.restricted:
            restrictions.append(_restriction("Location", [location], info))
        if self.restricted_zones:
            restrictions.append(_restriction("Zone", [location], {**info, "zones": list(self.restricted_zones)}))
        return {
            "resourceType": "virtualMachines",
            "name": self.name,
            "tier": "Standard",
            "size": self.name.removeprefix("Standard_"),
            "family": self.family,
            "locations": [location],
            "locationInfo": [{"location": location, "zones": zones, "zoneDetails": []}],
            "capabilities": [{"name": name, "value": str(value)} for name, value in capabilities.items()],
            "restrictions": restrictions,
        }


def _restriction(kind: str, values: list[str], info: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "values": values, "restrictionInfo": info, "reasonCode": "NotAvailableForSubscription"}


def _series(pattern: str, family: str, memory: float, vcpus: tuple[int, ...], **more: Any) -> list[SizeSpec]:
    """Return the sizes of one series; ``memory`` is per vCPU."""
    return [
        SizeSpec(name=pattern.format(each), vcpus=each, memory=each * memory, family=family, **more) for each in vcpus
    ]


_USUAL = (2, 4, 8, 16, 32, 48, 64, 96)

SIZES: Mapping[str, SizeSpec] = {
    shape.name: shape
    for shape in (
        *_series("Standard_D{}s_v5", "standardDSv5Family", 4, _USUAL),
        *_series("Standard_D{}as_v5", "standardDASv5Family", 4, _USUAL),
        *_series("Standard_D{}ps_v5", "standardDPSv5Family", 4, (2, 4, 8, 16, 32, 48, 64), arm=True, generations="V2"),
        *_series("Standard_D{}_v5", "standardDv5Family", 4, _USUAL, premium=False),
        *_series("Standard_E{}s_v5", "standardESv5Family", 8, (2, 4, 8, 16, 20, 32, 48, 64)),
        *_series("Standard_E{}as_v5", "standardEASv5Family", 8, (2, 4, 8, 16, 20, 32, 48, 64)),
        *_series("Standard_F{}s_v2", "standardFSv2Family", 2, (2, 4, 8, 16, 32, 48, 64, 72), local_ssd_mb=16384),
        *_series("Standard_D{}s_v6", "standardDSv6Family", 4, _USUAL, generations="V2", restricted=True),
        *_series("Standard_L{}s_v3", "standardLSv3Family", 8, (8, 16, 32, 48, 64, 80), local_ssd_mb=81920),
        SizeSpec(name="Standard_B2s", vcpus=2, memory=4, family="standardBSFamily", spot=False, local_ssd_mb=8192),
        SizeSpec(name="Standard_B2ms", vcpus=2, memory=8, family="standardBSFamily", spot=False, local_ssd_mb=16384),
        SizeSpec(name="Standard_B4ms", vcpus=4, memory=16, family="standardBSFamily", spot=False, local_ssd_mb=32768),
        SizeSpec(name="Standard_DC2as_v5", vcpus=2, memory=8, family="standardDCASv5Family", confidential="SNP"),
        SizeSpec(name="Standard_E16-4s_v5", vcpus=16, memory=128, family="standardESv5Family", constrained=4),
        SizeSpec(name="Standard_NC4as_T4_v3", vcpus=4, memory=28, family="Standard NCASv3_T4 Family", gpus=1, zones=()),
        SizeSpec(
            name="Standard_NC24ads_A100_v4",
            vcpus=24,
            memory=220,
            family="StandardNCADSA100v4Family",
            gpus=1,
            generations="V2",
            restricted_zones=("1", "2"),
        ),
        SizeSpec(name="Standard_A2_v2", vcpus=2, memory=4, family="standardAv2Family", premium=False, generations="V1"),
    )
}

QUOTAS: Mapping[str, int] = {
    "virtualMachines": 25000,
    "cores": 1000,
    "lowPriorityCores": 1000,
    **{shape.family: 500 for shape in SIZES.values()},
}


@attrs.frozen(kw_only=True)
class ImageFacts:
    size_gb: int = 30
    plan: Mapping[str, str] | None = None
    architecture: str = "x64"


IMAGES: Mapping[tuple[str, ...], ImageFacts] = {
    ("Canonical", "ubuntu-24_04-lts", "server"): ImageFacts(),
    ("Canonical", "ubuntu-24_04-lts", "server-gen1"): ImageFacts(),
    ("Canonical", "ubuntu-24_04-lts", "server-arm64"): ImageFacts(architecture="Arm64"),
    ("Canonical", "0001-com-ubuntu-server-jammy", "22_04-lts-gen2"): ImageFacts(),
    ("Debian", "debian-12", "12-gen2"): ImageFacts(),
    ("nvidia", "ngc_azure_17_11", "ngc-base-version-24_4_0_gen2"): ImageFacts(
        size_gb=64,
        plan={"name": "ngc-base-version-24_4_0_gen2", "publisher": "nvidia", "product": "ngc_azure_17_11"},
    ),
}
"""Marketplace images by publisher, offer and SKU."""
