"""Mapping of SKU titles to rate keys: patterns for the regular names, tables for the exceptions.

A rate has a short key: ``core/n2``, ``ram/n2/custom``, ``gpu/nvidia-l4``, ``ssd/c4``, ``disk/pd-ssd/capacity``. A title
must match completely, ignoring case: titles of sole tenancy, reservations, commitments, calendar mode and confidential
computing contain the same words, and are not prices of instances.

Sources: the descriptions in the Cloud Billing Catalog and Google's list "SKU groups".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cloud_tasks_gcp.pricing.skus import Sku

__all__ = ["DISK_TITLES", "GPU_TITLES", "SLICE_TITLES", "rate_key"]

_MACHINE = re.compile(
    r"(?P<family>[a-z][0-9]+[a-z0-9]*(?:-[a-z0-9]+)*)"
    r"(?: (?:amd|arm|intel|predefined|memory-optimized))?"
    r"(?P<variant> custom| custom extended)?(?: instance)? (?P<part>core|ram)"
)
"""Pattern of regular machine titles, which new families follow too: ``C2D AMD Instance Core``, ``M3 Memory-optimized
Instance Ram``, ``N2 Custom Extended Instance Ram``."""

_ODD_MACHINES: Mapping[str, str] = {
    "Compute optimized Core": "core/c2",
    "Compute optimized Ram": "ram/c2",
    "Compute optimized Instance Core": "core/c2",
    "Compute optimized Instance Ram": "ram/c2",
    "Memory-optimized Instance Core": "core/m1",
    "Memory-optimized Instance Ram": "ram/m1",
    "Memory Optimized Upgrade Premium for Memory-optimized Instance Core": "core/m2/premium",
    "Memory Optimized Upgrade Premium for Memory-optimized Instance Ram": "ram/m2/premium",
    "Custom Instance Core": "core/n1/custom",
    "Custom Instance Ram": "ram/n1/custom",
    "Custom Extended Instance Ram": "ram/n1/extended",
    "Micro Instance with burstable CPU": "machine/f1-micro",
    "Small Instance with 1 VCPU": "machine/g1-small",
}
"""Titles from before Google named machines by family."""

_LOCAL_SSD = re.compile(r"(?P<family>[a-z][0-9]+[a-z]*)(?: (?:amd|arm|intel))? instance local ssd")
_COMMON_LOCAL_SSD = "ssd backed local storage"

GPU_TITLES: Mapping[str, tuple[str, ...]] = {
    "nvidia-tesla-k80": ("Nvidia Tesla K80 GPU",),
    "nvidia-tesla-p4": ("Nvidia Tesla P4 GPU",),
    "nvidia-tesla-p100": ("Nvidia Tesla P100 GPU",),
    "nvidia-tesla-v100": ("Nvidia Tesla V100 GPU",),
    "nvidia-tesla-t4": ("Nvidia Tesla T4 GPU",),
    "nvidia-l4": ("Nvidia L4 GPU",),
    "nvidia-tesla-a100": ("Nvidia Tesla A100 GPU",),
    "nvidia-a100-80gb": ("Nvidia Tesla A100 80GB GPU", "Nvidia A100 80GB GPU"),
    "nvidia-h100-80gb": ("Nvidia H100 80GB GPU",),
    "nvidia-h100-mega-80gb": ("Nvidia H100 80GB Mega GPU", "Nvidia H100 Mega 80GB GPU", "Nvidia H100 80GB Plus GPU"),
    "nvidia-h200-141gb": ("H200 141GB GPU", "Nvidia H200 141GB GPU"),
    "nvidia-rtx-pro-6000": ("RTX 6000 96GB",),
}
"""Titles of each accelerator type of Compute Engine that is priced per device, in addition to cores and memory."""

SLICE_TITLES: Mapping[str, tuple[str, ...]] = {
    "nvidia-b200": ("A4 Nvidia B200 (1 gpu slice)",),
    "nvidia-gb200": ("A4X Nvidia GB200 (1 gpu slice)",),
}
"""Accelerators whose price includes their share of the instance: cores, memory and local SSD."""

DISK_TITLES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "pd-standard": {"capacity": ("Storage PD Capacity",)},
    "pd-balanced": {"capacity": ("Balanced PD Capacity",)},
    "pd-ssd": {"capacity": ("SSD backed PD Capacity",)},
    "pd-extreme": {"capacity": ("Extreme PD Capacity",), "iops": ("Extreme PD IOPS",)},
    "hyperdisk-balanced": {
        "capacity": ("Hyperdisk Balanced Capacity",),
        "iops": ("Hyperdisk Balanced IOPS",),
        "throughput": ("Hyperdisk Balanced Throughput",),
    },
    "hyperdisk-extreme": {"capacity": ("Hyperdisk Extreme Capacity",), "iops": ("Hyperdisk Extreme IOPS",)},
    "hyperdisk-throughput": {
        "capacity": ("Hyperdisk Throughput Capacity",),
        "throughput": ("Hyperdisk Throughput Throughput Capacity", "Hyperdisk Throughput Throughput"),
    },
    "hyperdisk-ml": {"capacity": ("Hyperdisk ML Capacity",), "throughput": ("Hyperdisk ML Throughput",)},
}
"""Priced parts of each disk type, and their titles."""

_ADDRESSES: Mapping[str, str] = {
    "external ip charge on a standard vm": "address/on-demand",
    "external ip charge on a spot preemptible vm": "address/spot",
}
_MACHINES: Mapping[str, str] = {
    **{title.casefold(): key for title, key in _ODD_MACHINES.items()},
    **{title.casefold(): f"gpu/{kind}" for kind, titles in GPU_TITLES.items() for title in titles},
    **{title.casefold(): f"slice/{kind}" for kind, titles in SLICE_TITLES.items() for title in titles},
}
_DISKS: Mapping[str, str] = {
    title.casefold(): f"disk/{kind}/{part}"
    for kind, parts in DISK_TITLES.items()
    for part, titles in parts.items()
    for title in titles
}


def rate_key(sku: Sku) -> str | None:
    """Return the rate key of a SKU; None when it is not part of an instance's price."""
    title = sku.title.casefold()
    if title == _COMMON_LOCAL_SSD:
        return "ssd"
    if sku.family == "Storage":
        return _DISKS.get(title)
    if sku.family == "Network":
        return _ADDRESSES.get(title)
    if title in _MACHINES:
        return _MACHINES[title]
    ssd = _LOCAL_SSD.fullmatch(title)
    if ssd is not None:
        return f"ssd/{ssd['family']}"
    machine = _MACHINE.fullmatch(title)
    if machine is None:
        return None
    variant = {None: "", " custom": "/custom", " custom extended": "/extended"}[machine["variant"]]
    return f"{machine['part']}/{machine['family']}{variant}"
