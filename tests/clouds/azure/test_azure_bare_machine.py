"""A program that is shipped to a bare machine of Azure, by tokens of its managed identity that the store verifies."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from azure_job_folder import AzureCloud, AzureJobFolder, azure_cloud
from azurite import Azurite
from bare_machine import TEMPLATE, debian_root
from blob_storage import BlobStorage, blob_storage
from shipped_project import write_project


@pytest.fixture
def store(azurite: Azurite) -> Iterator[BlobStorage]:
    with blob_storage(azurite) as found:
        yield found


@contextmanager
def bare_cloud(suite: str, folder: Path, azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureCloud]:
    monkeypatch.setenv(TEMPLATE, str(debian_root(suite)))
    with azure_cloud(folder, azurite) as cloud:
        yield cloud


@contextmanager
def shipped_job(folder: Path, cloud: AzureCloud, store: BlobStorage) -> Iterator[Callable[..., AzureJobFolder]]:
    """Yield a function that writes the configuration of a job with a project of its own."""
    container = f"craters-{uuid.uuid4().hex[:8]}"
    store.create(container)
    store.metadata.identities = None
    job = AzureJobFolder(folder, cloud)
    write_project(job.folder, tasks=50)

    def configured(**run: Any) -> AzureJobFolder:
        job.configure(
            startup_script=None,
            program="find_craters.py",
            staging=f"az://{container}/staging",
            max_instances=1,
            azure={"blob_endpoint": store.settings.blob_endpoint, "metadata_url": store.metadata.url},
            **{"job_id": "craters", **run},
        )
        return job

    yield configured
    job.close()


def test_program_runs_on_a_bare_machine_of_azure(
    tmp_path: Path, azurite: Azurite, store: BlobStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        bare_cloud("bookworm", tmp_path / "azure", azurite, monkeypatch) as cloud,
        shipped_job(tmp_path / "job", cloud, store) as configured,
    ):
        job = configured()
        assert job.run_job("--task-file", "tasks.json") == 0, job.log()
        assert job.status("craters")["counts"]["completed"] == 50
        assert "started: download" in job.log()
        assert cloud.arm.state()["instances"] == []
        assert store.reads, "the instance downloaded nothing with a token"


def test_image_build_on_azure_leaves_only_the_code_to_download(
    tmp_path: Path, azurite: Azurite, store: BlobStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        bare_cloud("trixie", tmp_path / "azure", azurite, monkeypatch) as cloud,
        shipped_job(tmp_path / "job", cloud, store) as configured,
    ):
        built = configured().run("image", "build", "--config", "config.yml")
        assert built.returncode == 0, built.stderr
        image = yaml.safe_load(built.stdout)["run"]["image"]
        assert not cloud.arm.state()["instances"]
        installed = len(store.reads)
        job = configured(image=image, environment={"UV_OFFLINE": "1"})
        assert job.run_job("--task-file", "tasks.json") == 0, job.log()
        assert job.status("craters")["counts"]["completed"] == 50
        (code,) = (name.rpartition("/")[2] for name in store.reads[installed:])
        assert code.startswith("code-")
        # Another machine: the boot guard neither ended it, nor counted the lifetime of the first.
        (guarded,) = (tmp_path / "azure").rglob("ct-craters-*/root/var/lib/cloud-tasks/boot")
        assert guarded.read_text().startswith("ct-craters-")
