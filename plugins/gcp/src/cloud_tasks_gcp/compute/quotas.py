"""Headroom: how many more instances the project's quotas allow. Pure, from the quotas of `regions.get` and
`projects.get`.

Source: "Allocation quotas" and "Spot VMs" in the Compute Engine documentation. Newer series have per-series quotas in
Cloud Quotas only, so the headroom is an upper bound for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cloud_tasks.model import BootDisk, Headroom, InstanceType, Offer, ProvisioningModel
from cloud_tasks.plugin.kit import headroom_within
from cloud_tasks_gcp.compute.families import family_of
from cloud_tasks_gcp.disks import DISKS, disk_gb, provisioned

__all__ = ["headroom"]

Free = Mapping[str, float]
"""Unused part of each quota metric: limit minus usage."""


def headroom(offer: Offer, *, region: Free, project: Free, external_address: bool) -> Headroom | None:
    """Return the maximum number of instances that all quotas allow, and the limiting quota; None without any known
    quota.

    Args:
        region: Unused regional quotas.
        project: Unused global quotas.
        external_address: Whether instances have an external address.
    """
    overall = {name: amount for name, amount in project.items() if name.endswith("_ALL_REGIONS")}
    return headroom_within([*_needs(offer, region, external_address), *_global_needs(offer)], {**region, **overall})


def _needs(offer: Offer, region: Free, external_address: bool) -> Iterator[tuple[str, float]]:
    """Yield each metric with its use by one instance."""
    instance_type = offer.instance_type
    spot = offer.provisioning_model is ProvisioningModel.SPOT
    yield "INSTANCES", 1
    if external_address:
        yield "IN_USE_ADDRESSES", 1
    cpus = family_of(instance_type.name, instance_type.vcpus).quota
    # Without a quota for preemptible CPUs, spot instances count against the standard quota.
    if spot and region.get("PREEMPTIBLE_CPUS", 0) > 0:
        yield "PREEMPTIBLE_CPUS", instance_type.vcpus
    elif cpus is not None:
        yield cpus, instance_type.vcpus
    yield from _gpu_needs(instance_type, spot)
    if instance_type.local_ssd_gb:
        yield ("PREEMPTIBLE_LOCAL_SSD_GB" if spot else "LOCAL_SSD_TOTAL_GB"), instance_type.local_ssd_gb
    yield from _disk_needs(offer.boot_disk)


def _disk_needs(disk: BootDisk) -> Iterator[tuple[str, float]]:
    kind = DISKS.get(disk.disk_type)
    if kind is None:
        return
    yield kind.quota, disk_gb(disk)
    iops, throughput = provisioned(disk)
    if iops is not None:
        yield kind.iops_quota, iops
    if throughput is not None:
        yield kind.throughput_quota, throughput


def _gpu_needs(instance_type: InstanceType, spot: bool) -> Iterator[tuple[str, float]]:
    if instance_type.gpu_count:
        metric = instance_type.gpu_type.replace("-", "_").upper().replace("NVIDIA_TESLA_", "NVIDIA_")
        metric = metric.replace("_H100_80GB", "_H100")
        yield f"{'PREEMPTIBLE_' if spot else ''}{metric}_GPUS", instance_type.gpu_count


def _global_needs(offer: Offer) -> Iterator[tuple[str, float]]:
    yield "CPUS_ALL_REGIONS", offer.instance_type.vcpus
    if offer.instance_type.gpu_count:
        yield "GPUS_ALL_REGIONS", offer.instance_type.gpu_count
