"""Tables of machine series and disks, and conversion of API resources."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from google.cloud import compute_v1 as sdk

from cloud_tasks.model import (
    Architecture,
    BootDisk,
    InstanceState,
    InstanceType,
    ProvisioningModel,
)
from cloud_tasks_gcp.compute.families import FAMILIES, boot_disk_types, family_of
from cloud_tasks_gcp.compute.to_model import to_image, to_instance, to_instance_types
from cloud_tasks_gcp.disks import DISKS, disk_problem

RANKS = {
    "Intel Sandy Bridge": 4, "Intel Haswell": 7, "Intel Broadwell": 10, "Intel Cascade Lake": 12, "AMD EPYC Rome": 13,
    "Ampere Altra": 15, "Intel Ice Lake": 16, "AMD EPYC Milan": 17, "Intel Sapphire Rapids": 21, "AMD EPYC Genoa": 22,
    "Intel Emerald Rapids": 25, "AMD EPYC Turin": 26, "Google Axion": 27,
}  # fmt: skip
"""Documented CPU ranks."""

PD = ("pd-standard", "pd-balanced", "pd-ssd")


@pytest.mark.parametrize("series", FAMILIES)
def test_families_have_ranked_cpu_and_known_disks(series: str) -> None:
    family = FAMILIES[series]
    assert family.rank == RANKS[family.cpu]
    assert family.disks
    assert set(family.disks) <= set(DISKS)


@pytest.mark.parametrize(
    ("name", "vcpus", "disks"),
    [
        ("e2-standard-8", 8, PD),
        ("a3-highgpu-8g", 208, ("hyperdisk-balanced", "pd-balanced", "pd-ssd")),
        ("a3-ultragpu-8g", 224, ("hyperdisk-balanced",)),
        ("n1-standard-1", 1, PD),
        ("n2-standard-32", 32, PD),
        ("n2-standard-64", 64, (*PD, "pd-extreme")),
        ("n4-standard-8", 8, ("hyperdisk-balanced",)),
        ("c3-standard-8", 8, ("hyperdisk-balanced", "pd-balanced", "pd-ssd")),
        ("c3-standard-192-metal", 192, ("hyperdisk-balanced",)),
        ("c4a-standard-8", 8, ("hyperdisk-balanced",)),
        ("g2-standard-4", 4, ("pd-balanced", "pd-ssd")),
        ("m3-ultramem-32", 32, ("hyperdisk-balanced", "pd-balanced", "pd-ssd", "pd-extreme")),
        ("zz9-standard-4", 4, ("hyperdisk-balanced",)),
    ],
)
def test_boot_disk_types_are_as_documented(name: str, vcpus: int, disks: tuple[str, ...]) -> None:
    assert boot_disk_types(name, vcpus) == disks


def test_family_of_large_n2_has_newer_cpu() -> None:
    assert family_of("n2-standard-80", 80).cpu == "Intel Cascade Lake"
    assert family_of("n2-standard-96", 96).cpu == "Intel Ice Lake"


def test_family_of_unknown_series_has_no_cpu() -> None:
    assert (family_of("zz9-standard-4").cpu, family_of("zz9-standard-4").rank) == ("", 0)


@pytest.mark.parametrize(
    ("disk", "problem"),
    [
        (BootDisk(disk_type="pd-standard", size_gb=10), ""),
        (BootDisk(disk_type="pd-balanced", size_gb=9.5), ""),
        (
            BootDisk(disk_type="pd-balanced", size_gb=9),
            "a pd-balanced boot disk has 10 to 65,536 GB, not 9",
        ),
        (
            BootDisk(disk_type="pd-extreme", size_gb=10),
            "a pd-extreme boot disk has 500 to 65,536 GB, not 10",
        ),
        (
            BootDisk(disk_type="hyperdisk-balanced", size_gb=10, iops=100),
            "a hyperdisk-balanced boot disk has 2,000 to 160,000 IOPS, not 100",
        ),
        (
            BootDisk(disk_type="hyperdisk-balanced", size_gb=10, throughput_mb_s=10_000),
            "a hyperdisk-balanced boot disk has 140 to 2,400 MiB/s, not 10,000",
        ),
        (
            BootDisk(disk_type="hyperdisk-balanced", size_gb=10, iops=6000),
            "a hyperdisk-balanced boot disk of 10 GB has at most 5,000 IOPS, not 6,000",
        ),
        (
            BootDisk(disk_type="hyperdisk-balanced", size_gb=10, iops=3000, throughput_mb_s=1000),
            "a hyperdisk-balanced boot disk of 1,000 MiB/s has 4,000 to 256,000 IOPS, not 3,000",
        ),
        (
            BootDisk(disk_type="hyperdisk-balanced", size_gb=500, iops=100_000, throughput_mb_s=200),
            "a hyperdisk-balanced boot disk of 200 MiB/s has 800 to 51,200 IOPS, not 100,000",
        ),
        (BootDisk(disk_type="pd-ssd", size_gb=10, iops=100), ""),
    ],
)
def test_disk_problem_detects_invalid_disks(disk: BootDisk, problem: str) -> None:
    assert disk_problem(disk) == problem


def test_disk_problem_refuses_type_of_other_provider() -> None:
    assert '"gp3" is not a boot disk type of Google Cloud; choose from pd-standard' in disk_problem(
        BootDisk(disk_type="gp3", size_gb=10)
    )


# -- machine types --


def machine_type(name: str = "n2-standard-4", **fields: object) -> sdk.MachineType:
    given = {"name": name, "guest_cpus": 4, "memory_mb": 16384, "architecture": "X86_64", **fields}
    return sdk.MachineType(given)


def test_to_instance_types_merges_zones() -> None:
    found = [("z-b", machine_type()), ("z-a", machine_type()), ("z-a", machine_type("n2-standard-8", guest_cpus=8))]
    assert [(each.name, each.zones) for each in to_instance_types(found)] == [
        ("n2-standard-4", ("z-a", "z-b")),
        ("n2-standard-8", ("z-a",)),
    ]


def test_to_instance_types_converts_all_fields() -> None:
    (converted,) = to_instance_types([("z-a", machine_type("t2a-standard-4", architecture="ARM64"))])
    assert converted == InstanceType(
        name="t2a-standard-4",
        vcpus=4,
        memory_gb=16.0,
        architecture=Architecture.ARM64,
        zones=("z-a",),
        boot_disk_types=PD,
        cpu_family="Ampere Altra",
        cpu_rank=15,
    )


def test_to_instance_types_counts_gpus_and_local_ssds() -> None:
    accelerators = [{"guest_accelerator_type": "nvidia-h100-80gb", "guest_accelerator_count": 8}]
    (converted,) = to_instance_types(
        [("z-a", machine_type("a3-highgpu-8g", accelerators=accelerators, bundled_local_ssds={"partition_count": 16}))]
    )
    assert (converted.gpu_type, converted.gpu_count, converted.local_ssd_gb) == ("nvidia-h100-80gb", 8, 6000.0)


def test_to_instance_types_uses_larger_z3_partitions() -> None:
    (converted,) = to_instance_types(
        [("z-a", machine_type("z3-highmem-88", bundled_local_ssds={"partition_count": 12}))]
    )
    assert converted.local_ssd_gb == 36_000.0


def test_to_instance_types_skips_obsolete_types() -> None:
    assert to_instance_types([("z-a", machine_type(deprecated={"state": "OBSOLETE"}))]) == ()
    assert len(to_instance_types([("z-a", machine_type(deprecated={"state": "DEPRECATED"}))])) == 1


# -- instances and images --


def instance(status: str = "RUNNING", **fields: object) -> sdk.Instance:
    place = "https://www.googleapis.com/compute/v1/projects/p/zones/us-central1-f"
    given = {
        "name": "ct-job-1",
        "status": status,
        "zone": place,
        "machine_type": f"{place}/machineTypes/e2-small",
        "creation_timestamp": "2025-06-11T08:00:51.905-07:00",
        "labels": {"cloud-tasks-job": "job", "cloud-tasks-token": "1", "cloud-tasks-run": "r"},
        **fields,
    }
    return sdk.Instance(given)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("PROVISIONING", InstanceState.STARTING),
        ("STAGING", InstanceState.STARTING),
        ("RUNNING", InstanceState.RUNNING),
        ("REPAIRING", InstanceState.STARTING),
        ("STOPPING", InstanceState.STOPPING),
        ("SUSPENDING", InstanceState.STOPPING),
        ("SUSPENDED", InstanceState.STOPPED),
        ("TERMINATED", InstanceState.STOPPED),
        ("A_NEW_STATUS", InstanceState.RUNNING),
    ],
)
def test_to_instance_maps_stopped_states(status: str, state: InstanceState) -> None:
    assert to_instance(instance(status)).state is state


def test_to_instance_has_job_token_and_utc_time() -> None:
    converted = to_instance(instance(scheduling={"provisioning_model": "SPOT"}))
    assert (converted.job_id, converted.client_token, converted.labels["run"]) == ("job", "1", "r")
    assert (converted.zone, converted.instance_type) == ("us-central1-f", "e2-small")
    assert converted.provisioning_model is ProvisioningModel.SPOT
    assert converted.created_at == datetime(2025, 6, 11, 15, 0, 51, 905000, tzinfo=UTC)


def test_to_instance_has_the_start_and_the_reason_of_a_stop() -> None:
    started, why = "2025-06-11T08:00:59.000-07:00", "Instance was\npreempted"
    stopped = to_instance(instance("TERMINATED", last_start_timestamp=started, status_message=why))
    assert stopped.started_at == datetime(2025, 6, 11, 15, 0, 59, tzinfo=UTC)
    assert (stopped.ended_at, stopped.reason) == (None, "Instance was preempted")
    assert to_instance(instance("STAGING")).started_at is None
    assert to_instance(instance("RUNNING", status_message="fine")).reason == ""


def test_to_instance_with_invalid_time_is_listed() -> None:
    found = to_instance(sdk.Instance(name="x", status="RUNNING", creation_timestamp="yesterday"))
    assert (found.instance_id, found.started_at) == ("x", None)


def test_to_instance_of_unmanaged_instance_keeps_labels() -> None:
    converted = to_instance(instance(labels={"team": "others"}))
    assert (converted.job_id, converted.labels) == ("", {"team": "others"})


@pytest.mark.parametrize(
    ("interface", "address"),
    [
        ({"network_i_p": "10.0.0.2", "access_configs": [{"nat_i_p": "203.0.113.7"}]}, "203.0.113.7"),
        ({"network_i_p": "10.0.0.2"}, "10.0.0.2"),
    ],
)
def test_to_instance_prefers_external_address(interface: dict[str, object], address: str) -> None:
    assert to_instance(instance(network_interfaces=[interface])).address == address


def test_to_image_marks_own_project() -> None:
    image = sdk.Image(name="mine", architecture="ARM64", family="tools")
    own, public = to_image(image, "p", own=True), to_image(image, "debian-cloud", own=False)
    assert (own.owner, public.owner) == ("self", "debian-cloud")
    assert public.uri == "projects/debian-cloud/global/images/mine"
    assert own.architecture is Architecture.ARM64
