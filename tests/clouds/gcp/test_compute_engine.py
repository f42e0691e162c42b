"""Compute Engine through the real SDK: what there is, launches side by side, complete listings."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest
from cloud_wire import Fault
from gce_fake import GceFake
from gce_records import StockOut, Times
from gce_requests import offer, opened, remaining, wanted
from structlog.testing import capture_logs

from cloud_tasks.errors import InputError, LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import Architecture, BootDisk, Headroom, InstanceState
from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks.registry import Registry
from cloud_tasks_gcp.settings import GcpSettings


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[GceFake]:
    with GceFake(tmp_path / "gce", page_size=5, guest_environment={"NOTES": str(tmp_path)}) as fake:
        yield fake


@pytest.fixture
def compute(fake: GceFake) -> Iterator[Compute]:
    with opened(fake) as compute:
        yield compute


# -- what there is --


def test_a_type_is_known_in_exactly_the_zones_that_have_it(compute: Compute) -> None:
    types = {each.name: each for each in compute.instance_types()}
    assert types["e2-standard-8"].zones == tuple(f"us-central1-{letter}" for letter in "abcf")
    assert types["t2a-standard-4"].zones == tuple(f"us-central1-{letter}" for letter in "abf")
    assert types["t2a-standard-4"].architecture is Architecture.ARM64
    assert (types["g2-standard-24"].gpu_type, types["g2-standard-24"].gpu_count) == ("nvidia-l4", 2)
    assert types["c3-standard-8-lssd"].local_ssd_gb == 750.0
    assert {name.partition("-")[0] for name in types} >= {"n1", "n2", "n2d", "n4", "e2", "c2", "c2d", "c3", "c3d", "c4"}


def test_a_region_that_is_unknown_or_missing_is_the_users_to_correct(fake: GceFake) -> None:
    backend = Registry(only=["gcp"]).compute("gcp")
    settings = GcpSettings(project_id="stand-in", compute_endpoint=fake.url)
    with (
        backend.open(settings, ComputeContext(job_id="job", region="mars-north1")) as compute,
        pytest.raises(InputError, match='no region "mars-north1"'),
    ):
        compute.instance_types()
    with (
        backend.open(settings, ComputeContext(job_id="job")) as compute,
        pytest.raises(InputError, match="no region is given"),
    ):
        compute.instance_types()


def test_a_project_that_is_not_there_is_told(fake: GceFake) -> None:
    settings = GcpSettings(project_id="nobodys", compute_endpoint=fake.url)
    backend = Registry(only=["gcp"]).compute("gcp")
    with (
        backend.open(settings, ComputeContext(job_id="job")) as compute,
        pytest.raises(ProviderError, match="projects/nobodys"),
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
def test_an_image_may_be_named_in_any_usual_way(
    fake: GceFake, compute: Compute, image: str | None, source: str
) -> None:
    compute.launch(wanted(image=image))
    (instance,) = fake.cloud.instances.values()
    assert instance.body["disks"][0]["initializeParams"]["sourceImage"] == source


def test_an_arm_machine_gets_an_arm_image(fake: GceFake, compute: Compute) -> None:
    arm = offer("t2a-standard-2")
    arm = attrs.evolve(arm, instance_type=attrs.evolve(arm.instance_type, architecture=Architecture.ARM64))
    compute.launch(wanted(arm))
    (instance,) = fake.cloud.instances.values()
    assert instance.body["disks"][0]["initializeParams"]["sourceImage"].endswith("/ubuntu-2404-noble-arm64-v20251021")


def test_the_default_image_is_told_once_and_is_the_same_for_all_machines(fake: GceFake, compute: Compute) -> None:
    with capture_logs() as told:
        compute.launch(wanted())
        compute.launch(wanted())
    images = {each.body["disks"][0]["initializeParams"]["sourceImage"] for each in fake.cloud.instances.values()}
    assert [each["event"] for each in told] == [
        f"Using current default image: https://www.googleapis.com/compute/v1/{image}" for image in images
    ]


def test_a_default_image_that_cannot_be_looked_up_is_left_to_compute_engine(fake: GceFake, compute: Compute) -> None:
    others = tuple(each for each in fake.cloud.catalog.images if each["project"] != "ubuntu-os-cloud")
    fake.cloud.catalog = attrs.evolve(fake.cloud.catalog, images=others)
    with pytest.raises(LaunchRefusedError, match="family/ubuntu-2404-lts-amd64"):
        compute.launch(wanted())


def test_an_image_that_is_nowhere_is_bad_input_that_names_the_setting(compute: Compute) -> None:
    with pytest.raises(InputError, match=r'run\.image: there is no image "windows-95".*list-images'):
        compute.launch(wanted(image="windows-95"))


# -- launching --


def test_launches_from_several_threads_run_side_by_side(fake: GceFake, compute: Compute) -> None:
    fake.cloud.times = Times(provision=1.0)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(compute.launch, [wanted() for _ in range(8)]))
    assert fake.cloud.most_inserts_at_once() == 8


def test_an_insertion_whose_answer_was_lost_is_not_made_twice(fake: GceFake, compute: Compute) -> None:
    request = wanted()
    fake.wire.fault = Fault(share=1.0, after_effect=1.0, methods=frozenset({"POST"}), status=None)
    with pytest.raises(ProviderError) as lost:
        compute.launch(request)
    assert lost.value.transient
    assert not isinstance(lost.value, LaunchRefusedError)
    fake.wire.fault = None
    launched = compute.launch(request)
    assert [record.name for record in fake.cloud.inserts] == [launched.instance_id]


def test_a_token_names_its_instance_even_when_its_request_is_forgotten(fake: GceFake, compute: Compute) -> None:
    request = wanted()
    first = compute.launch(request)
    fake.cloud.forget_requests()
    assert compute.launch(request) == first
    assert remaining(fake) == ([first.instance_id], [first.instance_id])


def test_a_zone_that_has_none_left_is_refused_without_remains_and_another_is_not(
    fake: GceFake, compute: Compute
) -> None:
    fake.cloud.stock_outs = [StockOut(zone="us-central1-a", machine_type="e2-*", purchase="spot")]
    with pytest.raises(LaunchRefusedError) as refused:
        compute.launch(wanted(offer(spot=True)))
    assert (refused.value.scope, refused.value.reason) == (RefusalScope.OFFER, "ZONE_RESOURCE_POOL_EXHAUSTED")
    assert remaining(fake) == ([], [])
    assert compute.launch(wanted(offer(spot=True, zone="us-central1-b"))).zone == "us-central1-b"
    assert compute.launch(wanted(offer())).zone == "us-central1-a"


def test_what_was_started_and_is_gone_is_not_started_again(fake: GceFake, compute: Compute) -> None:
    request = wanted()
    name = compute.launch(request).instance_id
    compute.terminate([name])
    assert compute.launch(request).state is InstanceState.TERMINATED
    assert remaining(fake) == ([], [])


def test_a_disk_that_would_be_refused_is_refused_before_it_is_asked_for(fake: GceFake, compute: Compute) -> None:
    extreme = attrs.evolve(offer(), boot_disk=BootDisk(disk_type="pd-extreme", size_gb=10))
    with pytest.raises(LaunchRefusedError, match="500") as refused:
        compute.launch(wanted(extreme))
    assert refused.value.scope is RefusalScope.INSTANCE_TYPE
    assert fake.cloud.inserts == []


def test_headroom_shrinks_with_what_runs(fake: GceFake, compute: Compute) -> None:
    fake.cloud.quotas["us-central1"]["CPUS"] = 6
    compute.launch(wanted())
    assert compute.headroom(offer()) == Headroom(instances=2, limited_by="CPUS")


def test_settings_reach_the_instance(fake: GceFake) -> None:
    with opened(
        fake, tags=("batch",), external_address=False, subnetwork="inner", shielded_secure_boot=True
    ) as compute:
        launched = compute.launch(wanted())
    (instance,) = fake.cloud.instances.values()
    assert instance.body["tags"]["items"] == ["batch"]
    assert instance.body["networkInterfaces"] == [{"subnetwork": "regions/us-central1/subnetworks/inner"}]
    assert instance.body["shieldedInstanceConfig"]["enableSecureBoot"] is True
    assert launched.address.startswith("10.")


# -- listing --


def test_a_zone_that_does_not_answer_makes_the_listing_fail(fake: GceFake, compute: Compute) -> None:
    compute.launch(wanted())
    fake.unreachable_zones = {"us-central1-f"}
    with pytest.raises(ProviderError, match="us-central1-f") as failed:
        compute.instances("job")
    assert failed.value.transient
    with pytest.raises(ProviderError):
        compute.terminate(["ct-job-unknown"])


def test_a_listing_takes_one_call_a_page_and_none_per_instance(fake: GceFake, compute: Compute) -> None:
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(compute.launch, [wanted() for _ in range(12)]))
    before = len(fake.wire.calls)
    assert len(compute.instances("job")) == 12
    assert len(fake.wire.calls) - before == 3


def test_the_boot_disks_type_is_listed(compute: Compute) -> None:
    compute.launch(wanted())
    (listed,) = compute.instances("job")
    assert listed.boot_disk_type == "pd-balanced"
