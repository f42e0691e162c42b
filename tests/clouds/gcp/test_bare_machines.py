"""Programs that are shipped to bare machines of Google Cloud: nothing is installed on them but Debian's own Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bare_machine import TEMPLATE, debian_root
from cloud_storage import CloudStorage, cloud_storage
from gcp_job_folder import REFERENCE_OPTIONS, GcpJobFolder, gcp_job_folder
from shipped_project import write_project


@pytest.fixture(scope="module")
def store() -> Iterator[CloudStorage]:
    with cloud_storage() as found:
        yield found


@pytest.fixture
def job_folder(
    tmp_path: Path, emulator: str, store: CloudStorage, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[GcpJobFolder]:
    monkeypatch.setenv(TEMPLATE, str(debian_root(request.param)))
    with gcp_job_folder(tmp_path, emulator=emulator) as folder:
        folder.environment |= {
            "STORAGE_EMULATOR_HOST": store.server.url,
            "CLOUD_TASKS_GCP_METADATA_URL": store.settings.metadata_url,
            "NO_GCE_CHECK": "true",
        }
        yield folder


def configure(folder: GcpJobFolder, emulator: str, **run: object) -> str:
    settings = {
        "job_id": "craters",
        "program": "find_craters.py",
        "staging": "gs://bucket/staging",
        "environment": {"PUBSUB_EMULATOR_HOST": emulator},
        "scaling_check_interval": 1,
        "instance_termination_delay": 0,
        "max_instances": 1,
        **run,
    }
    return str(folder.write_config({"run": settings}))


@pytest.mark.parametrize("job_folder", ["bookworm"], indirect=True)
def test_program_runs_on_a_bare_machine(job_folder: GcpJobFolder, emulator: str) -> None:
    write_project(job_folder.folder, tasks=200)
    config = configure(job_folder, emulator)
    options = [*REFERENCE_OPTIONS, "--max-instances", "1"]
    ran = job_folder.run("run", "--config", config, "--task-file", "tasks.json", *options)
    assert ran.returncode == 0, ran.stderr
    status = job_folder.status("craters")
    assert status["counts"]["completed"] == 200
    assert "Completed: 200" in ran.stdout
    print(ran.stderr)
