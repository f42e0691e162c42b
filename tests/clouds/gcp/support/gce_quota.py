"""Quotas of the fake: usage by running instances, and the quota that a launch would exceed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gce_cloud import Cloud
    from gce_records import Instance

__all__ = ["exceeded", "usage"]

_SERIES = {
    "n2": "N2_CPUS",
    "n2d": "N2D_CPUS",
    "c2": "C2_CPUS",
    "c2d": "C2D_CPUS",
    "c3": "C3_CPUS",
    "t2d": "T2D_CPUS",
    "t2a": "T2A_CPUS",
    "m1": "M1_CPUS",
    "m2": "M2_CPUS",
    "m3": "M3_CPUS",
    "a2": "A2_CPUS",
    "n1": "CPUS",
    "e2": "CPUS",
    "f1": "CPUS",
    "g1": "CPUS",
}
_DISKS = {"pd-standard": "DISKS_TOTAL_GB", "hyperdisk-balanced": "HDB_TOTAL_GB"}


def _usage_of(cloud: Cloud, instance: Instance) -> Counter[str]:
    """Return the usage of one instance by regional quota."""
    used = Counter[str](INSTANCES=1)
    preemptible = cloud.quotas[_region(instance)].get("PREEMPTIBLE_CPUS", 0) > 0
    series = "PREEMPTIBLE_CPUS" if instance.spot and preemptible else _SERIES.get(instance.machine_type.split("-")[0])
    if series:
        used[series] = instance.vcpus
    for disk in instance.disks:
        used[_DISKS.get(disk.type_name, "SSD_TOTAL_GB")] += disk.size_gb
    if any(interface.get("accessConfigs") for interface in instance.body["networkInterfaces"]):
        used["IN_USE_ADDRESSES"] = 1
    return used


def _region(instance: Instance) -> str:
    return instance.zone.rpartition("-")[0]


def usage(cloud: Cloud, region: str | None) -> Iterator[tuple[str, float]]:
    """Yield the usage of each quota of a region; None for the project's global quotas."""
    with cloud.lock:
        if region is None:
            cpus = sum(instance.vcpus for instance in cloud.instances.values())
            yield from {"CPUS_ALL_REGIONS": cpus, "GPUS_ALL_REGIONS": 0}.items()
            return
        total = Counter[str]()
        for instance in cloud.instances.values():
            if _region(instance) == region:
                total.update(_usage_of(cloud, instance))
        yield from total.items()


def exceeded(cloud: Cloud, instance: Instance) -> dict[str, Any] | None:
    """Return the operation error if the instance, already counted, exceeds a quota."""
    region = _region(instance)
    used = dict(usage(cloud, region))
    for metric in _usage_of(cloud, instance):
        limit = cloud.quotas[region].get(metric)
        if limit is not None and used[metric] > limit:
            return _error(metric, limit, f"in region {region}", {"region": region})
    for metric, used_globally in usage(cloud, None):
        limit = cloud.global_quotas.get(metric)
        if limit is not None and used_globally > limit:
            return _error(metric, limit, "globally", {})
    return None


def _error(metric: str, limit: float, where: str, dimensions: dict[str, str]) -> dict[str, Any]:
    name = metric.replace("_", "-") + ("-per-project-region" if dimensions else "-per-project")
    info = {"metricName": f"compute.googleapis.com/{metric.lower()}", "limitName": name, "limit": limit}
    return {
        "code": "QUOTA_EXCEEDED",
        "message": f"Quota '{metric}' exceeded.  Limit: {limit:.1f} {where}.",
        "errorDetails": [{"quotaInfo": {**info, "dimensions": dimensions}}],
    }
