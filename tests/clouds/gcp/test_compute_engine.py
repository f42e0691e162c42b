"""Compute Engine with the real SDK: catalog, parallel launches, complete listings."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest
from fake_server import Fault
from gce_fake import GceFake
from gce_records import StockOut, Times
from gce_requests import launch_request, offer, open_compute, remaining
from structlog.testing import capture_logs

from cloud_tasks.errors import InputError, LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import Architecture, BootDisk, Headroom, InstanceState
from cloud_tasks.plugin import Compute, ComputeContext, ImageLookup, LocatedCompute
from cloud_tasks.registry import Registry
from cloud_tasks.testing import eventually
from cloud_tasks_gcp.settings import GcpSettings


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[GceFake]:
    with GceFake(tmp_path / "gce", page_size=5, guest_environment={"NOTES": str(tmp_path)}) as fake:
        yield fake


@pytest.fixture
def compute(fake: GceFake) -> Iterator[Compute]:
    with open_compute(fake) as compute:
        yield compute


# -- catalog --


def test_instance_types_have_exact_zones(compute: Compute) -> None:
    types = {each.name: each for each in compute.instance_types()}
    assert types["e2-standard-8"].zones == tuple(f"us-central1-{letter}" for letter in "abcf")
    assert types["t2a-standard-4"].zones == tuple(f"us-central1-{letter}" for letter in "abf")
    assert types["t2a-standard-4"].architecture is Architecture.ARM64
    assert (types["g2-standard-24"].gpu_type, types["g2-standard-24"].gpu_count) == ("nvidia-l4", 2)
    assert types["c3-standard-8-lssd"].local_ssd_gb == 750.0
    assert {name.partition("-")[0] for name in types} >= {"n1", "n2", "n2d", "n4", "e2", "c2", "c2d", "c3", "c3d", "c4"}


def test_instance_types_with_unknown_or_missing_region_raises_input_error(fake: GceFake) -> None:
    backend = Registry(only=["gcp"]).compute("gcp")
    settings = GcpSettings(project_id="fake-project", compute_endpoint=fake.url)
    with (
        backend.open(settings, ComputeContext(job_id="job", region="mars-north1")) as compute,
        pytest.raises(InputError, match='region "mars-north1" not found'),
    ):
        compute.instance_types()
    with (
        backend.open(settings, ComputeContext(job_id="job")) as compute,
        pytest.raises(InputError, match="no region set"),
    ):
        compute.instance_types()


def test_instances_of_unknown_project_raises(fake: GceFake) -> None:
    settings = GcpSettings(project_id="unknown-project", compute_endpoint=fake.url)
    backend = Registry(only=["gcp"]).compute("gcp")
    with (
        backend.open(settings, ComputeContext(job_id="job")) as compute,
        pytest.raises(ProviderError, match="cannot list instances: project unknown-project does not exist"),
    ):
        compute.instances("job")


@pytest.mark.parametrize(
    ("image", "source"),
    [
        (None, "projects/ubuntu-os-cloud/global/images/ubuntu-2404-noble-amd64-v20251021"),
        ("debian-12", "projects/debian-cloud/global/images/family/debian-12"),
        ("debian-12-bookworm-v20251014", "projects/debian-cloud/global/images/debian-12-bookworm-v20251014"),
        ("rocky-linux-cloud/rocky-linux-9", "projects/rocky-linux-cloud/global/images/family/rocky-linux-9"),
        (
            "https://www.googleapis.com/compute/v1/projects/debian-cloud/global/images/family/debian-12",
            "projects/debian-cloud/global/images/family/debian-12",
        ),
    ],
)
def test_launch_accepts_image_names_families_and_urls(
    fake: GceFake, compute: Compute, image: str | None, source: str
) -> None:
    request = launch_request(image=image)
    disk = attrs.evolve(request.offer.boot_disk, size_gb=20.0)
    compute.launch(attrs.evolve(request, offer=attrs.evolve(request.offer, boot_disk=disk)))
    (instance,) = fake.cloud.instances.values()
    assert instance.body["disks"][0]["initializeParams"]["sourceImage"] == source


def test_launch_of_arm_instance_uses_arm_image(fake: GceFake, compute: Compute) -> None:
    arm = offer("t2a-standard-2")
    arm = attrs.evolve(arm, instance_type=attrs.evolve(arm.instance_type, architecture=Architecture.ARM64))
    compute.launch(launch_request(arm))
    (instance,) = fake.cloud.instances.values()
    assert instance.body["disks"][0]["initializeParams"]["sourceImage"].endswith("/ubuntu-2404-noble-arm64-v20251021")


def test_launch_logs_default_image_once(fake: GceFake, compute: Compute) -> None:
    with capture_logs() as logs:
        compute.launch(launch_request())
        compute.launch(launch_request())
    images = {each.body["disks"][0]["initializeParams"]["sourceImage"] for each in fake.cloud.instances.values()}
    assert [each["event"] for each in logs] == [
        f"Using current default image: https://www.googleapis.com/compute/v1/{image}" for image in images
    ]


def test_launch_passes_unresolved_default_image_to_compute_engine(fake: GceFake, compute: Compute) -> None:
    others = tuple(each for each in fake.cloud.catalog.images if each["project"] != "ubuntu-os-cloud")
    fake.cloud.catalog = attrs.evolve(fake.cloud.catalog, images=others)
    with pytest.raises(LaunchRefusedError, match="family/ubuntu-2404-lts-amd64"):
        compute.launch(launch_request())


def test_launch_with_unknown_image_raises_input_error(compute: Compute) -> None:
    with pytest.raises(InputError, match=r'run\.image: image "windows-95" not found.*list-images'):
        compute.launch(launch_request(image="windows-95"))


def test_instance_types_leave_out_ai_zones_unless_asked_for(fake: GceFake) -> None:
    zone = "us-central1-ai1a"
    catalog = fake.cloud.catalog
    regions = {**catalog.regions, "us-central1": ("us-central1-a", zone)}
    types = {each: {"e2-small": catalog.types["us-central1-a"]["e2-small"]} for each in regions["us-central1"]}
    fake.cloud.catalog = attrs.evolve(catalog, regions=regions, types=types)
    settings = GcpSettings(project_id="fake-project", compute_endpoint=fake.url)
    found = {}
    for asked in (None, zone):
        context = ComputeContext(job_id="job", region="us-central1", zone=asked)
        with Registry(only=["gcp"]).compute("gcp").open(settings, context) as compute:
            found[asked] = [each.zones for each in compute.instance_types()]
    assert found == {None: [("us-central1-a",)], zone: [("us-central1-a", zone)]}


def test_find_image_of_another_architecture_raises_input_error(compute: Compute) -> None:
    assert isinstance(compute, ImageLookup)
    found = compute.find_image("debian-12-arm64", Architecture.ARM64)
    assert found is not None
    assert found.architecture is Architecture.ARM64
    with pytest.raises(InputError, match=r'run\.image: image "debian-12-arm64" is for arm64.* set run\.architecture'):
        compute.find_image("debian-12-arm64", Architecture.X86_64)


@pytest.mark.parametrize("architecture", Architecture)
def test_find_image_without_architecture_fits_any(compute: Compute, architecture: Architecture) -> None:
    assert isinstance(compute, ImageLookup)
    found = compute.find_image("own-image", architecture)
    assert found is not None
    assert (found.name, found.architecture) == ("own-image", architecture)


def test_find_image_that_is_obsolete_raises_input_error_with_its_successor(compute: Compute) -> None:
    assert isinstance(compute, ImageLookup)
    with pytest.raises(
        InputError, match=r'run\.image: image "ubuntu-1804-bionic-v20200101" is obsolete.*/ubuntu-1804-lts'
    ):
        compute.find_image("ubuntu-1804-bionic-v20200101", Architecture.X86_64)


# -- launching --


@pytest.mark.parametrize(
    ("name", "facts", "spot"),
    [
        ("z3-highmem-88-highlssd", {"vcpus": 88, "local_ssd_gb": 36_000.0}, False),
        ("z3-highmem-88-highlssd", {"vcpus": 88, "local_ssd_gb": 36_000.0}, True),
        ("a2-highgpu-1g", {"vcpus": 12, "gpu_count": 1, "gpu_type": "nvidia-tesla-a100"}, False),
        ("a3-highgpu-1g", {"vcpus": 26, "gpu_count": 1, "gpu_type": "nvidia-h100-80gb"}, True),
    ],
)
def test_launch_of_types_that_cannot_migrate_is_accepted(
    fake: GceFake, compute: Compute, name: str, facts: dict[str, Any], spot: bool
) -> None:
    wanted = offer(name, spot=spot)
    wanted = attrs.evolve(wanted, instance_type=attrs.evolve(wanted.instance_type, **facts))
    assert compute.launch(launch_request(wanted)).instance_type == name


def test_launch_with_account_that_may_not_be_used_has_advice(fake: GceFake) -> None:
    fake.cloud.denied_accounts = {"w@fake-project.iam.gserviceaccount.com"}
    with (
        open_compute(fake, service_account="w@fake-project.iam.gserviceaccount.com") as compute,
        pytest.raises(LaunchRefusedError, match=r"roles/iam\.serviceAccountUser") as refused,
    ):
        compute.launch(launch_request())
    assert refused.value.scope is RefusalScope.ACCOUNT
    assert remaining(fake) == ([], [])


def test_launch_runs_in_parallel(fake: GceFake, compute: Compute) -> None:
    fake.cloud.times = Times(provision=1.0)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(compute.launch, [launch_request() for _ in range(8)]))
    assert fake.cloud.most_inserts_at_once() == 8


def test_launch_after_lost_response_creates_no_duplicate(fake: GceFake, compute: Compute) -> None:
    request = launch_request()
    fake.server.fault = Fault(share=1.0, after_effect=1.0, methods=frozenset({"POST"}), status=None)
    with pytest.raises(ProviderError) as lost:
        compute.launch(request)
    assert lost.value.transient
    assert not isinstance(lost.value, LaunchRefusedError)
    fake.server.fault = None
    launched = compute.launch(request)
    assert [record.name for record in fake.cloud.inserts] == [launched.instance_id]


def test_launch_with_same_token_returns_same_instance(fake: GceFake, compute: Compute) -> None:
    request = launch_request()
    first = compute.launch(request)
    fake.cloud.forget_requests()
    assert compute.launch(request) == first
    assert remaining(fake) == ([first.instance_id], [first.instance_id])


def test_launch_in_stocked_out_zone_is_refused_without_leftovers(fake: GceFake, compute: Compute) -> None:
    fake.cloud.stock_outs = [StockOut(zone="us-central1-a", machine_type="e2-*", provisioning_model="spot")]
    with pytest.raises(LaunchRefusedError) as refused:
        compute.launch(launch_request(offer(spot=True)))
    assert (refused.value.scope, refused.value.reason) == (RefusalScope.OFFER, "ZONE_RESOURCE_POOL_EXHAUSTED")
    assert remaining(fake) == ([], [])
    assert compute.launch(launch_request(offer(spot=True, zone="us-central1-b"))).zone == "us-central1-b"
    assert compute.launch(launch_request(offer())).zone == "us-central1-a"


def test_launch_with_token_of_terminated_instance_starts_none(fake: GceFake, compute: Compute) -> None:
    request = launch_request()
    name = compute.launch(request).instance_id
    compute.terminate([name])
    assert compute.launch(request).state is InstanceState.TERMINATED
    assert remaining(fake) == ([], [])


def test_launch_refuses_invalid_disk_before_any_call(fake: GceFake, compute: Compute) -> None:
    extreme = attrs.evolve(offer(), boot_disk=BootDisk(disk_type="pd-extreme", size_gb=10))
    with pytest.raises(LaunchRefusedError, match="500") as refused:
        compute.launch(launch_request(extreme))
    assert refused.value.scope is RefusalScope.INSTANCE_TYPE
    assert fake.cloud.inserts == []


def test_headroom_counts_running_instances(fake: GceFake, compute: Compute) -> None:
    fake.cloud.quotas["us-central1"]["CPUS"] = 6
    compute.launch(launch_request())
    assert compute.headroom(offer()) == Headroom(instances=2, limited_by="CPUS")


def test_launch_applies_settings(fake: GceFake) -> None:
    with open_compute(
        fake, tags=("batch",), external_address=False, subnetwork="inner", shielded_secure_boot=True
    ) as compute:
        launched = compute.launch(launch_request())
    (instance,) = fake.cloud.instances.values()
    assert instance.body["tags"]["items"] == ["batch"]
    assert instance.body["networkInterfaces"] == [{"subnetwork": "regions/us-central1/subnetworks/inner"}]
    assert instance.body["shieldedInstanceConfig"]["enableSecureBoot"] is True
    assert launched.address.startswith("10.")


# -- listing --


def test_instances_with_unreachable_zone_raises(fake: GceFake, compute: Compute) -> None:
    compute.launch(launch_request())
    fake.unreachable_zones = {"us-central1-f"}
    with pytest.raises(ProviderError, match="us-central1-f") as failed:
        compute.instances("job")
    assert failed.value.transient
    with pytest.raises(ProviderError):
        compute.terminate(["ct-job-unknown"])


def test_instances_leaves_out_an_unreachable_zone_of_another_region(fake: GceFake, compute: Compute) -> None:
    name = compute.launch(launch_request()).instance_id
    fake.unreachable_zones = {"europe-west1-b"}
    for _ in range(2):
        assert [each.instance_id for each in compute.instances("job")] == [name]
    assert [each.instance_id for each in compute.instances(None)] == [name]
    eventually(lambda: "started" in compute.console_log(name))
    compute.terminate([name])
    assert compute.instances("job") == ()


@pytest.mark.parametrize("source", ["launched", "recorded", "listed"])
def test_instances_requires_the_zones_of_the_jobs_instances(fake: GceFake, compute: Compute, source: str) -> None:
    zone = "europe-west1-b"
    with open_compute(fake) as earlier:
        launcher = compute if source == "launched" else earlier
        name = launcher.launch(launch_request(offer(zone=zone))).instance_id
    if source == "recorded":
        assert isinstance(compute, LocatedCompute)
        compute.note_zones({name: zone})
    elif source == "listed":
        compute.instances("job")
    fake.unreachable_zones = {zone}
    with pytest.raises(ProviderError, match=zone):
        compute.instances("job")


def test_instances_of_a_job_without_a_region_requires_every_zone(fake: GceFake) -> None:
    fake.unreachable_zones = {"europe-west1-b"}
    settings = GcpSettings(project_id="fake-project", compute_endpoint=fake.url)
    with Registry(only=["gcp"]).compute("gcp").open(settings, ComputeContext(job_id="")) as compute:
        assert compute.instances(None) == ()
        with pytest.raises(ProviderError, match="europe-west1-b"):
            compute.instances("job")


def test_instances_makes_one_call_per_page(fake: GceFake, compute: Compute) -> None:
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(compute.launch, [launch_request() for _ in range(12)]))
    before = len(fake.server.calls)
    assert len(compute.instances("job")) == 12
    assert len(fake.server.calls) - before == 3


def test_instances_have_boot_disk_type(compute: Compute) -> None:
    compute.launch(launch_request())
    (listed,) = compute.instances("job")
    assert listed.boot_disk_type == "pd-balanced"
