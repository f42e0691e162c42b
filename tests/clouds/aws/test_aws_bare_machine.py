"""A program that is shipped to a bare machine of EC2, by signed addresses of S3 that the store verifies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from aws_cloud import CONTROLLER_KEY, REGION, SECRET, AwsCloud, AwsJobFolder, aws_cloud
from bare_machine import TEMPLATE, debian_root
from s3_store import Key, S3Store, s3_store
from shipped_project import write_project


@pytest.fixture
def store() -> Iterator[S3Store]:
    with s3_store() as found:
        found.keys[CONTROLLER_KEY] = Key(SECRET)
        yield found


@pytest.fixture
def bare_cloud(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsCloud]:
    monkeypatch.setenv(TEMPLATE, str(debian_root(request.param)))
    (tmp_path / "aws").mkdir()
    with aws_cloud(tmp_path / "aws") as cloud:
        yield cloud


@pytest.fixture
def bare_job(bare_cloud: AwsCloud, store: S3Store, cache: Path, tmp_path: Path) -> Iterator[AwsJobFolder]:
    """A project, whose job is not configured yet."""
    environment = {**bare_cloud.environment(cache), "AWS_ENDPOINT_URL_S3": store.server.url}
    job_folder = AwsJobFolder(tmp_path / "job", environment)
    write_project(job_folder.folder, tasks=50)
    yield job_folder
    job_folder.close()


def run(job: AwsJobFolder, store: S3Store, cloud: AwsCloud, *, image: str | None = None) -> None:
    """Run the job to its end."""
    configure(job, store, image=image)
    assert job.run_job("--task-file", "tasks.json") == 0, job.log()
    assert job.status("craters")["counts"]["completed"] == 50
    assert cloud.overlay.alive() == []


def configure(job: AwsJobFolder, store: S3Store, *, image: str | None = None) -> None:
    job.configure(
        job_id="craters",
        startup_script=None,
        program="find_craters.py",
        staging=f"s3://{store.bucket}/staging",
        max_instances=1,
        image=image,
    )


@pytest.mark.parametrize("bare_cloud", ["bookworm"], indirect=True)
def test_program_runs_on_a_bare_machine_of_ec2(bare_cloud: AwsCloud, bare_job: AwsJobFolder, store: S3Store) -> None:
    run(bare_job, store, bare_cloud)
    assert "started: download" in bare_job.log()
    # An instance has no permission for the bucket: its addresses are signed.
    assert "s3:GetObject" in store.used


@pytest.mark.parametrize("bare_cloud", ["trixie"], indirect=True)
def test_program_runs_on_an_image_that_was_built_and_downloads_its_code_only(
    bare_cloud: AwsCloud, bare_job: AwsJobFolder, store: S3Store
) -> None:
    configure(bare_job, store)
    build = bare_job.start("image", "build", "--config", "config.yml", "--region", REGION)
    assert build.wait(240) == 0, bare_job.log()
    assert bare_cloud.overlay.alive() == []
    assert store.downloads
    assert not [name for name in store.downloads if name.startswith("staging/code-")]
    store.downloads.clear()
    printed = (bare_job.folder / "out.log").read_text()
    run(bare_job, store, bare_cloud, image=yaml.safe_load(printed)["run"]["image"])
    (code,) = store.downloads
    assert code.startswith("staging/code-")
    assert bare_cloud.called(by_controller=True) >= {"ec2:StopInstances", "ec2:CreateImage"}
