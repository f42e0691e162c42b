"""Instance types, CPU families and disks: pure functions, over every type in moto's data."""

from __future__ import annotations

from typing import Any

import pytest

from cloud_tasks.model import Architecture, BootDisk
from cloud_tasks_aws.compute.cpu import RANKS, cpu_family
from cloud_tasks_aws.compute.disks import BOOT_DISK_TYPES, disk_problem, ebs_block
from cloud_tasks_aws.compute.instance_types import instance_type, needed_part


@pytest.fixture(scope="module")
def descriptions() -> dict[str, Any]:
    """Descriptions in the format of `DescribeInstanceTypes`."""
    pytest.importorskip("moto", reason="pip install 'moto[server]'")
    from moto.ec2.models.instance_types import INSTANCE_TYPES

    return dict(INSTANCE_TYPES)


def test_instance_type_converts_every_usable_type(descriptions: dict[str, Any]) -> None:
    converted = [instance_type(each, ["us-east-1b", "us-east-1a"]) for each in descriptions.values()]
    usable = [each for each in converted if each is not None]
    assert len(usable) > 1000
    assert all(each.vcpus >= 1 and each.memory_gb > 0 for each in usable)
    assert {each.zones for each in usable} == {("us-east-1a", "us-east-1b")}
    assert {each.architecture for each in usable} == set(Architecture)


def test_needed_part_contains_every_field_read(descriptions: dict[str, Any]) -> None:
    for each in descriptions.values():
        assert instance_type(needed_part(each), ["a"]) == instance_type(each, ["a"])


def test_instance_type_excludes_macs_and_types_without_on_demand(descriptions: dict[str, Any]) -> None:
    assert instance_type(descriptions["mac1.metal"], ["a"]) is None
    assert instance_type({**descriptions["m5.large"], "SupportedUsageClasses": ["capacity-block"]}, ["a"]) is None
    assert instance_type({**descriptions["m5.large"], "SupportedRootDeviceTypes": ["instance-store"]}, ["a"]) is None


def test_instance_type_has_gpu_name_and_count(descriptions: dict[str, Any]) -> None:
    found = instance_type(descriptions["p4d.24xlarge"], ["a"])
    assert found is not None
    assert (found.gpu_count, found.gpu_type, found.local_ssd_gb) == (8, "A100", 8000.0)
    assert "8 x NVIDIA A100" in found.description


def test_instance_type_sizes_are_in_gb(descriptions: dict[str, Any]) -> None:
    found = instance_type(descriptions["c5d.large"], ["a"])
    assert found is not None
    assert (found.vcpus, found.memory_gb, found.local_ssd_gb) == (2, 4.0, 50.0)


@pytest.mark.parametrize(
    ("name", "manufacturer", "family"),
    [
        ("c1.medium", "Intel", "Intel Generic"),
        ("m4.large", "Intel", "Intel Haswell"),
        ("r4.large", "Intel", "Intel Broadwell"),
        ("c5.large", "Intel", "Intel Skylake"),
        ("m5n.large", "Intel", "Intel Cascade Lake"),
        ("m6i.large", "Intel", "Intel Ice Lake"),
        ("m7i-flex.large", "Intel", "Intel Sapphire Rapids"),
        ("i7ie.large", "Intel", "Intel Emerald Rapids"),
        ("c8i.large", "Intel", "Intel Granite Rapids"),
        ("u7i-12tb.224xlarge", "Intel", "Intel Sapphire Rapids"),
        ("m5a.large", "AMD", "AMD Naples"),
        ("c5a.large", "AMD", "AMD Rome"),
        ("m6a.large", "AMD", "AMD Milan"),
        ("hpc7a.96xlarge", "AMD", "AMD Genoa"),
        ("m8a.large", "AMD", "AMD Turin"),
        ("a1.large", "AWS", "AWS Graviton"),
        ("t4g.small", "AWS", "AWS Graviton2"),
        ("x2gd.large", "AWS", "AWS Graviton2"),
        ("c7g.large", "Amazon Web Services", "AWS Graviton3"),
        ("c7gn.large", "AWS", "AWS Graviton3E"),
        ("r8g.large", "AWS", "AWS Graviton4"),
        ("p6-b200.48xlarge", "Intel", "Intel Emerald Rapids"),
        ("q1.large", "Unknown", ""),
    ],
)
def test_cpu_family_follows_the_type_name(name: str, manufacturer: str, family: str) -> None:
    assert cpu_family(name, manufacturer) == family
    assert family == "" or RANKS[family] > 0


def test_cpu_family_is_known_for_nearly_every_type(descriptions: dict[str, Any]) -> None:
    converted = [instance_type(each, ["a"]) for each in descriptions.values()]
    unknown = sorted({each.name.partition(".")[0] for each in converted if each is not None and each.cpu_rank == 0})
    assert set(unknown) <= {"g7", "g7e", "p6-b300"}


@pytest.mark.parametrize(
    "disk",
    [
        BootDisk(disk_type="gp3", size_gb=10),
        BootDisk(disk_type="", size_gb=10),
        BootDisk(disk_type="gp3", size_gb=100, iops=16_000, throughput_mb_s=1_000),
        BootDisk(disk_type="gp2", size_gb=10),
        BootDisk(disk_type="io2", size_gb=10, iops=5_000),
        BootDisk(disk_type="io1", size_gb=10, iops=500),
    ],
)
def test_disk_problem_accepts_valid_disks(disk: BootDisk) -> None:
    assert disk_problem(disk) is None


@pytest.mark.parametrize(
    ("disk", "reason"),
    [
        (BootDisk(disk_type="gp9", size_gb=10), "unknown boot disk type"),
        (BootDisk(disk_type="gp2", size_gb=20_000), "maximum size is 16,384 GB"),
        (BootDisk(disk_type="gp2", size_gb=10, iops=4_000), "boot_disk_iops cannot be configured"),
        (BootDisk(disk_type="io2", size_gb=10), "needs boot_disk_iops"),
        (BootDisk(disk_type="io1", size_gb=10, iops=5_000), "100 to 500"),
        (BootDisk(disk_type="gp3", size_gb=10, iops=100), "3000 to 5000"),
        (BootDisk(disk_type="gp3", size_gb=10, throughput_mb_s=900), "125 to 750"),
        (
            BootDisk(disk_type="io2", size_gb=10, iops=5_000, throughput_mb_s=200),
            "boot_disk_throughput cannot be configured",
        ),
    ],
)
def test_disk_problem_names_the_limits(disk: BootDisk, reason: str) -> None:
    problem = disk_problem(disk)
    assert problem is not None
    assert reason in problem


def test_ebs_block_fits_the_image_and_is_deleted_with_the_instance() -> None:
    block = ebs_block(BootDisk(disk_type="gp3", size_gb=7.2, iops=3_000), image_gb=8, encrypted=True)
    assert block == {
        "VolumeSize": 8,
        "VolumeType": "gp3",
        "DeleteOnTermination": True,
        "Iops": 3_000,
        "Encrypted": True,
    }


def test_boot_disk_types_start_with_the_cheapest() -> None:
    assert BOOT_DISK_TYPES[0] == "gp3"
