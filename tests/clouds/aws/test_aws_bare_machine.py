"""A program that is shipped to a bare machine of EC2, by signed addresses of S3 that the store verifies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_cloud import CONTROLLER_KEY, SECRET, AwsCloud, AwsJobFolder, aws_cloud
from bare_machine import TEMPLATE, debian_root
from s3_store import Key, S3Store, s3_store
from shipped_project import write_project


@pytest.fixture
def store() -> Iterator[S3Store]:
    with s3_store() as found:
        found.keys[CONTROLLER_KEY] = Key(SECRET)
        yield found


@pytest.fixture(params=["bookworm", "trixie"])
def bare_cloud(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsCloud]:
    monkeypatch.setenv(TEMPLATE, str(debian_root(request.param)))
    (tmp_path / "aws").mkdir()
    with aws_cloud(tmp_path / "aws") as cloud:
        yield cloud


def test_program_runs_on_a_bare_machine_of_ec2(
    bare_cloud: AwsCloud, store: S3Store, cache: Path, tmp_path: Path
) -> None:
    environment = {**bare_cloud.environment(cache), "AWS_ENDPOINT_URL_S3": store.server.url}
    job_folder = AwsJobFolder(tmp_path / "job", environment)
    write_project(job_folder.folder, tasks=50)
    job_folder.configure(
        job_id="craters",
        startup_script=None,
        program="find_craters.py",
        staging=f"s3://{store.bucket}/staging",
        max_instances=1,
    )
    assert job_folder.run_job("--task-file", "tasks.json") == 0, job_folder.log()
    assert job_folder.status("craters")["counts"]["completed"] == 50
    assert "started: download" in job_folder.log()
    assert bare_cloud.overlay.alive() == []
    # An instance has no permission for the bucket: its addresses are signed.
    assert "s3:GetObject" in store.used
    job_folder.close()
