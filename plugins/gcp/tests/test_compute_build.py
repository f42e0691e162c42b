"""Instance resources, startup scripts and labels of launches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from google.cloud import compute_v1 as sdk

from cloud_tasks.errors import InputError
from cloud_tasks.model import (
    Architecture,
    BootDisk,
    InstanceType,
    LaunchRequest,
    Offer,
    PriceBreakdown,
    ProvisioningModel,
)
from cloud_tasks.plugin import boot_script
from cloud_tasks.registry import Registry
from cloud_tasks_gcp.compute.build import instance_resource
from cloud_tasks_gcp.compute.labels import instance_name, job_filter, label_value, labels_of, own_labels
from cloud_tasks_gcp.compute.launch_check import MAX_BYTES
from cloud_tasks_gcp.disks import disk_problem, provisioned
from cloud_tasks_gcp.settings import GcpSettings

TYPE = InstanceType(
    name="n2-standard-4",
    vcpus=4,
    memory_gb=16.0,
    architecture=Architecture.X86_64,
    zones=("us-central1-f",),
    boot_disk_types=("pd-standard", "pd-balanced"),
)
OFFER = Offer(
    instance_type=TYPE,
    zone="us-central1-f",
    provisioning_model=ProvisioningModel.ON_DEMAND,
    boot_disk=BootDisk(disk_type="pd-balanced", size_gb=20.5, iops=4000, throughput_mb_s=200),
    price=PriceBreakdown(),
    priced_at=datetime(2025, 7, 1, tzinfo=UTC),
)
REQUEST = LaunchRequest(
    client_token="4jusrwvupyetlyvej11cszf32",
    job_id="parallel-addition-job",
    offer=OFFER,
    startup_script="#!/bin/bash\necho hello\n",
    labels={"run": "run-1", "owner": "sam", "expires": "1750000000"},
)
IMAGE = "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64"


def built(request: LaunchRequest = REQUEST, **settings: Any) -> sdk.Instance:
    return instance_resource(request, GcpSettings(**settings), image=IMAGE, region="us-central1")


def spot(request: LaunchRequest) -> LaunchRequest:
    return attrs.evolve(request, offer=attrs.evolve(request.offer, provisioning_model=ProvisioningModel.SPOT))


def checked(**changes: Any) -> None:
    check = Registry(only=["gcp"]).compute("gcp").check_launch
    assert check is not None
    check(GcpSettings(), attrs.evolve(REQUEST, **changes))


@pytest.mark.parametrize("character", ["x", "é"])
def test_check_launch_limits_startup_script_to_metadata_size(character: str) -> None:
    checked()
    room = MAX_BYTES - len(boot_script("#!/bin/bash\n").encode())
    fits = "#!/bin/bash\n" + character * (room // len(character.encode()))
    checked(startup_script=fits)
    assert built(attrs.evolve(REQUEST, startup_script=fits)).metadata.items[0].value == boot_script(fits)
    too_long = attrs.evolve(REQUEST, startup_script=fits + character)
    for attempt in (lambda: checked(startup_script=fits + character), lambda: built(too_long)):
        with pytest.raises(InputError, match=f"run.startup_script.* more than Google Cloud's limit of {MAX_BYTES:,}"):
            attempt()


def test_check_launch_refuses_invalid_boot_disk() -> None:
    offer = attrs.evolve(OFFER, boot_disk=BootDisk(disk_type="floppy", size_gb=1))
    with pytest.raises(InputError, match="floppy"):
        checked(offer=offer)


def test_instance_resource_name_has_job_and_token() -> None:
    assert built().name == "ct-parallel-addition-job-4jusrwvupyetlyvej11cszf32"


def test_instance_name_truncates_job_not_token() -> None:
    name = instance_name(attrs.evolve(REQUEST, job_id="j" * 60, client_token="t" * 32))
    assert name == f"ct-{'j' * 27}-{'t' * 32}"
    assert len(name) == 63


def test_instance_resource_has_machine_type_script_and_account() -> None:
    instance = built(service_account="worker@p.iam.gserviceaccount.com")
    assert instance.machine_type == "zones/us-central1-f/machineTypes/n2-standard-4"
    assert [(item.key, item.value) for item in instance.metadata.items] == [
        ("startup-script", boot_script(REQUEST.startup_script))
    ]
    (account,) = instance.service_accounts
    assert account.email == "worker@p.iam.gserviceaccount.com"
    assert list(account.scopes) == ["https://www.googleapis.com/auth/cloud-platform"]


def test_startup_script_powers_off_after_worker_without_lifetime_timer() -> None:
    request = attrs.evolve(REQUEST, startup_script="echo hello\n", max_lifetime=timedelta(hours=1))
    (item,) = built(request).metadata.items
    assert item.value.startswith("#!/bin/bash\n")
    assert "CLOUD_TASKS_POWER_OFF_COMMAND='shutdown -h +1'" in item.value
    assert 'cloud-tasks "$$" "" ""' in item.value


def test_instance_resource_boot_disk_is_auto_deleted() -> None:
    (disk,) = built().disks
    assert disk.boot
    assert disk.auto_delete
    parameters = disk.initialize_params
    assert parameters.source_image == IMAGE
    assert parameters.disk_type == "zones/us-central1-f/diskTypes/pd-balanced"
    assert parameters.disk_size_gb == 21
    assert dict(parameters.labels) == labels_of(REQUEST)


def performance(disk: BootDisk) -> tuple[int, int]:
    """Return requested IOPS and MiB/s of the boot disk; 0 for an unset value."""
    parameters = built(attrs.evolve(REQUEST, offer=attrs.evolve(OFFER, boot_disk=disk))).disks[0].initialize_params
    return parameters.provisioned_iops, parameters.provisioned_throughput


@pytest.mark.parametrize(
    ("disk_type", "expected"),
    [("pd-balanced", (0, 0)), ("pd-extreme", (4000, 0)), ("hyperdisk-balanced", (4000, 200))],
)
def test_instance_resource_provisions_requested_performance(disk_type: str, expected: tuple[int, int]) -> None:
    assert performance(attrs.evolve(OFFER.boot_disk, disk_type=disk_type)) == expected


@pytest.mark.parametrize(
    ("disk", "expected"),
    [
        (BootDisk(disk_type="pd-standard", size_gb=10), (0, 0)),
        (BootDisk(disk_type="pd-extreme", size_gb=500), (10_000, 0)),
        (BootDisk(disk_type="hyperdisk-balanced", size_gb=10), (3_000, 140)),
        (BootDisk(disk_type="hyperdisk-balanced", size_gb=4), (2_000, 140)),
        (BootDisk(disk_type="hyperdisk-balanced", size_gb=500, iops=100_000), (100_000, 391)),
        (BootDisk(disk_type="hyperdisk-balanced", size_gb=100, throughput_mb_s=1_000), (4_000, 1_000)),
    ],
    ids=lambda disk: str(disk),
)
def test_instance_resource_provisions_default_performance_as_priced(disk: BootDisk, expected: tuple[int, int]) -> None:
    assert performance(disk) == expected
    assert tuple(each or 0 for each in provisioned(disk)) == expected
    assert disk_problem(disk) == ""


def test_scheduling_deletes_reclaimed_spot_instance() -> None:
    scheduling = built(spot(REQUEST)).scheduling
    assert scheduling.provisioning_model == "SPOT"
    assert scheduling.instance_termination_action == "DELETE"
    assert scheduling.on_host_maintenance == "TERMINATE"
    assert not scheduling.automatic_restart


def test_scheduling_without_lifetime_sets_no_run_duration() -> None:
    scheduling = built().scheduling
    assert scheduling.provisioning_model == "STANDARD"
    assert "max_run_duration" not in scheduling
    assert scheduling.instance_termination_action == ""
    assert scheduling.on_host_maintenance == ""


@pytest.mark.parametrize(
    ("lifetime", "seconds"),
    [
        (timedelta(seconds=1), 30),
        (timedelta(minutes=90), 5400),
        (timedelta(seconds=60.2), 61),
        (timedelta(days=365), 120 * 86400),
    ],
)
def test_scheduling_sets_max_run_duration(lifetime: timedelta, seconds: int) -> None:
    scheduling = built(attrs.evolve(REQUEST, max_lifetime=lifetime)).scheduling
    assert scheduling.max_run_duration.seconds == seconds
    assert scheduling.instance_termination_action == "DELETE"


@pytest.mark.parametrize(
    "change",
    [
        {"name": "g2-standard-4", "gpu_count": 1},
        {"name": "c3-standard-192-metal"},
        {"name": "z3-highmem-88-highlssd", "local_ssd_gb": 36_000},
    ],
)
def test_scheduling_terminates_unmigratable_instances_on_maintenance(change: dict[str, Any]) -> None:
    offer = attrs.evolve(OFFER, instance_type=attrs.evolve(TYPE, **change))
    assert built(attrs.evolve(REQUEST, offer=offer)).scheduling.on_host_maintenance == "TERMINATE"


@pytest.mark.parametrize(
    ("settings", "network", "subnetwork"),
    [
        ({}, "global/networks/default", ""),
        ({"network": "vpc"}, "global/networks/vpc", ""),
        ({"subnetwork": "sub"}, "", "regions/us-central1/subnetworks/sub"),
        ({"network": "projects/host/global/networks/vpc"}, "projects/host/global/networks/vpc", ""),
        ({"network": "vpc", "subnetwork": "sub"}, "global/networks/vpc", "regions/us-central1/subnetworks/sub"),
    ],
)
def test_network_interface_accepts_name_or_path(settings: dict[str, Any], network: str, subnetwork: str) -> None:
    (interface,) = built(**settings).network_interfaces
    assert (interface.network, interface.subnetwork) == (network, subnetwork)


def test_network_interface_has_external_address_unless_disabled() -> None:
    assert [access.type_ for access in built().network_interfaces[0].access_configs] == ["ONE_TO_ONE_NAT"]
    assert list(built(external_address=False).network_interfaces[0].access_configs) == []


def test_instance_resource_sets_tags_and_shielded_options() -> None:
    plain = built()
    assert "tags" not in plain
    assert "shielded_instance_config" not in plain
    special = built(tags=("worker", "batch"), shielded_secure_boot=True, shielded_vtpm=False)
    assert list(special.tags.items) == ["worker", "batch"]
    shield = special.shielded_instance_config
    assert (shield.enable_secure_boot, shield.enable_vtpm) == (True, False)
    assert "enable_integrity_monitoring" not in shield


@pytest.mark.parametrize(
    ("text", "value"),
    [("sam", "sam"), ("Sam Doe@host", "sam-doe-host"), ("é", "-"), ("x" * 70, "x" * 63), ("", "")],
)
def test_label_value_is_valid_for_any_text(text: str, value: str) -> None:
    assert label_value(text) == value


def test_own_labels_restores_request_keys() -> None:
    found = own_labels(labels_of(REQUEST))
    assert dict(REQUEST.labels).items() <= found.items()
    assert found["job"] == REQUEST.job_id
    assert found["token"] == REQUEST.client_token


def test_job_filter_selects_one_job_or_all_managed() -> None:
    assert job_filter("job-1") == 'labels.cloud-tasks-job="job-1"'
    assert job_filter(None) == "labels.cloud-tasks-job:*"
