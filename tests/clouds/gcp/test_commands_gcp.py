"""Listing, checking and cleanup commands on fakes of Google Cloud."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud_commands import Call, CommandsOfAProvider, Site
from gce_records import Times
from gcp_job_folder import ACCOUNT, PROJECT, GcpJobFolder, gcp_job_folder


@pytest.fixture(scope="module")
def job_folder(tmp_path_factory: pytest.TempPathFactory, emulator: str) -> Iterator[GcpJobFolder]:
    # The tests list what they launched a moment ago.
    folder = tmp_path_factory.mktemp("job_folder")
    with gcp_job_folder(folder, emulator=emulator, times=Times(listing=0.0)) as job_folder:
        yield job_folder


class TestCommandsOfGoogleCloud(CommandsOfAProvider):
    @pytest.fixture
    def site(self, job_folder: GcpJobFolder, tmp_path: Path) -> Site:
        return Site(
            folder=tmp_path,
            sections={"provider": "gcp", "gcp": {"project_id": PROJECT, "service_account": ACCOUNT}},
            run={"region": "us-central1", "boot_disk_types": ["pd-standard"], "min_cpu": 4, "max_cpu": 8},
            environment=job_folder.environment,
            region="us-central1",
            zone="us-central1-a",
            image="debian",
            instance_type="e2-standard-8",
            burstable="^(f1|g1|e2-(micro|small|medium))",
            address="0.005",
            counts_messages=False,
        )

    def test_boot_disk_is_as_large_as_the_image(self, call: Call, site: Site) -> None:
        options = ("plan", "--num-tasks", "2", "--image", "rocky-linux-9")
        plan = call(*options, "--json").data
        assert {offer["boot_disk_gb"] for offer in plan["offers"]} == {20.0}
        note = "Boot disk of 20 GB instead of 10 GB (total_boot_disk_size): image rocky-linux-9-v20251014 needs it"
        assert note in plan["notes"]
        assert note in call(*options).out
        larger = call(*options, "--json", "--total-boot-disk-size", "30").data
        assert {offer["boot_disk_gb"] for offer in larger["offers"]} == {30.0}
        assert not any(each.startswith("Boot disk") for each in larger["notes"])
        default = call("plan", "--num-tasks", "2", "--json").data
        assert {offer["boot_disk_gb"] for offer in default["offers"]} == {10.0}
        disks = [float(each["offers"][0]["price_parts"]["boot_disk"]) for each in (default, plan)]
        assert disks[1] == pytest.approx(disks[0] * 2)

    def test_unknown_image_is_bad_input_before_any_launch(self, call: Call, site: Site) -> None:
        for name in ("no-such-image", "projects/debian-cloud/global/images/none", "projects/odd/path"):
            answer = call("plan", "--num-tasks", "2", "--image", name, code=2)
            assert f'run.image: image "{name}" not found' in answer.err
