"""Headroom by the quotas of a project, and the limiting quota."""

from __future__ import annotations

from datetime import UTC, datetime

import attrs
import pytest
from google.cloud import compute_v1 as sdk

from cloud_tasks.model import (
    Architecture,
    BootDisk,
    Headroom,
    InstanceType,
    Offer,
    PriceBreakdown,
    ProvisioningModel,
)
from cloud_tasks_gcp.compute.families import FAMILIES
from cloud_tasks_gcp.compute.quotas import headroom
from cloud_tasks_gcp.disks import DISKS

FREE = {
    "CPUS": 24.0, "N2_CPUS": 20.0, "PREEMPTIBLE_CPUS": 0.0, "INSTANCES": 100.0, "IN_USE_ADDRESSES": 8.0,
    "DISKS_TOTAL_GB": 1000.0, "SSD_TOTAL_GB": 45.0, "NVIDIA_L4_GPUS": 1.0, "PREEMPTIBLE_NVIDIA_L4_GPUS": 3.0,
}  # fmt: skip
METRICS = frozenset(sdk.Quota.Metric.__members__)
"""Quota metrics of the API."""
PROJECT = {"CPUS_ALL_REGIONS": 200.0, "GPUS_ALL_REGIONS": 2.0}


def offer(name: str, vcpus: int = 4, *, disk: str = "pd-standard", spot: bool = False, gpus: int = 0) -> Offer:
    return Offer(
        instance_type=InstanceType(
            name=name,
            vcpus=vcpus,
            memory_gb=4.0 * vcpus,
            architecture=Architecture.X86_64,
            zones=("z-a",),
            gpu_count=gpus,
            gpu_type="nvidia-l4" if gpus else "",
        ),
        zone="z-a",
        provisioning_model=ProvisioningModel.SPOT if spot else ProvisioningModel.ON_DEMAND,
        boot_disk=BootDisk(disk_type=disk, size_gb=10),
        price=PriceBreakdown(),
        priced_at=datetime(2025, 7, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("requested", "external", "instances", "limited_by"),
    [
        (offer("e2-standard-4"), True, 6, "CPUS"),
        (offer("e2-standard-2", 2), True, 8, "IN_USE_ADDRESSES"),
        (offer("e2-standard-2", 2), False, 12, "CPUS"),
        (offer("n2-standard-4"), True, 5, "N2_CPUS"),
        (offer("n2-standard-4", disk="pd-ssd"), True, 4, "SSD_TOTAL_GB"),
        (offer("n2-standard-32", 32), True, 0, "N2_CPUS"),
        (offer("c4-standard-96", 96), False, 2, "CPUS_ALL_REGIONS"),
        (offer("e2-standard-4", spot=True), True, 6, "CPUS"),
        (offer("g2-standard-4", gpus=1), True, 1, "NVIDIA_L4_GPUS"),
        (offer("g2-standard-4", gpus=1, spot=True), True, 2, "GPUS_ALL_REGIONS"),
    ],
)
def test_headroom_is_limited_by_scarcest_quota(
    requested: Offer, external: bool, instances: int, limited_by: str
) -> None:
    answer = headroom(requested, region=FREE, project=PROJECT, external_address=external)
    assert answer == Headroom(instances=instances, limited_by=limited_by)


def test_headroom_of_spot_uses_preemptible_quota_if_available() -> None:
    free = {**FREE, "PREEMPTIBLE_CPUS": 8.0}
    answer = headroom(offer("n2-standard-4", spot=True), region=free, project=PROJECT, external_address=True)
    assert answer == Headroom(instances=2, limited_by="PREEMPTIBLE_CPUS")


@pytest.mark.parametrize("metric", ["HDB_TOTAL_GB", "HDB_TOTAL_IOPS", "HDB_TOTAL_THROUGHPUT"])
def test_headroom_counts_hyperdisk_size_iops_and_throughput(metric: str) -> None:
    each = {"HDB_TOTAL_GB": 10.0, "HDB_TOTAL_IOPS": 3000.0, "HDB_TOTAL_THROUGHPUT": 140.0}
    free = {name: amount * (3 if name == metric else 9) for name, amount in each.items()}
    answer = headroom(
        offer("c4-standard-4", disk="hyperdisk-balanced"), region=free, project={}, external_address=False
    )
    assert answer == Headroom(instances=3, limited_by=metric)


def test_quota_metrics_of_tables_exist_in_api() -> None:
    known = set(METRICS)
    families = {family.quota for family in FAMILIES.values() if family.quota is not None}
    disks = {name for kind in DISKS.values() for name in (kind.quota, kind.iops_quota, kind.throughput_quota) if name}
    assert (families | disks) - known == set()


@pytest.mark.parametrize(
    ("gpu_type", "metric"),
    [
        ("nvidia-tesla-t4", "PREEMPTIBLE_NVIDIA_T4_GPUS"),
        ("nvidia-tesla-a100", "PREEMPTIBLE_NVIDIA_A100_GPUS"),
        ("nvidia-a100-80gb", "PREEMPTIBLE_NVIDIA_A100_80GB_GPUS"),
        ("nvidia-h100-80gb", "PREEMPTIBLE_NVIDIA_H100_GPUS"),
    ],
)
def test_headroom_uses_gpu_metric_of_api(gpu_type: str, metric: str) -> None:
    assert metric in METRICS
    requested = offer("a3-highgpu-1g", gpus=1, spot=True)
    requested = attrs.evolve(requested, instance_type=attrs.evolve(requested.instance_type, gpu_type=gpu_type))
    answer = headroom(requested, region={metric: 2.0}, project={}, external_address=False)
    assert answer == Headroom(instances=2, limited_by=metric)


def test_headroom_without_quotas_is_none() -> None:
    assert headroom(offer("e2-standard-4"), region={}, project={}, external_address=True) is None


def test_headroom_counts_local_ssd() -> None:
    requested = offer("c3-standard-4-lssd")
    requested = attrs.evolve(requested, instance_type=attrs.evolve(requested.instance_type, local_ssd_gb=375.0))
    free = {"LOCAL_SSD_TOTAL_GB": 800.0, "INSTANCES": 10.0}
    answer = headroom(requested, region=free, project={}, external_address=False)
    assert answer == Headroom(instances=2, limited_by="LOCAL_SSD_TOTAL_GB")
