"""A program that is shipped to a bare machine of Azure, by tokens of its managed identity that the store verifies."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure_job_folder import AzureCloud, AzureJobFolder, azure_cloud
from azurite import Azurite
from bare_machine import TEMPLATE, debian_root
from blob_storage import BlobStorage, blob_storage
from shipped_project import write_project


@pytest.fixture
def store(azurite: Azurite) -> Iterator[BlobStorage]:
    with blob_storage(azurite) as found:
        yield found


@pytest.fixture(params=["bookworm", "trixie"])
def bare_cloud(
    request: pytest.FixtureRequest, tmp_path: Path, azurite: Azurite, monkeypatch: pytest.MonkeyPatch
) -> Iterator[AzureCloud]:
    monkeypatch.setenv(TEMPLATE, str(debian_root(request.param)))
    with azure_cloud(tmp_path / "azure", azurite) as cloud:
        yield cloud


def test_program_runs_on_a_bare_machine_of_azure(bare_cloud: AzureCloud, store: BlobStorage, tmp_path: Path) -> None:
    container = f"craters-{uuid.uuid4().hex[:8]}"
    store.create(container)
    store.metadata.identities = None
    job = AzureJobFolder(tmp_path / "job", bare_cloud)
    write_project(job.folder, tasks=50)
    job.configure(
        job_id="craters",
        startup_script=None,
        program="find_craters.py",
        staging=f"az://{container}/staging",
        max_instances=1,
        azure={"blob_endpoint": store.settings.blob_endpoint, "metadata_url": store.metadata.url},
    )
    assert job.run_job("--task-file", "tasks.json") == 0, job.log()
    assert job.status("craters")["counts"]["completed"] == 50
    assert "started: download" in job.log()
    assert bare_cloud.arm.state()["instances"] == []
    assert store.reads, "the instance downloaded nothing with a token"
    job.close()
