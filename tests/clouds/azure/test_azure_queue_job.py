"""End-to-end jobs with Azure's queue and local instances: command line, SDK, HTTP and real workers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import fsspec
import pytest
from azure.storage.blob import BlobServiceClient
from azurite import Azurite
from fake_server import Fault
from storage_faults import StorageFaults

EXAMPLE = Path(__file__).parents[3] / "examples" / "parallel_addition"
PROGRAM = Path(sys.executable).with_name("cloud-tasks")


def run_job(
    folder: Path, azurite: Azurite, count: int, *, files: str = "", environment: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the example with ``count`` tasks in a folder.

    Args:
        files: Location of task file and results, if not the folder.
        environment: Shell lines at the start of the startup script.
    """
    shutil.copy(EXAMPLE / "worker_addition.py", folder)
    with fsspec.open(f"{files or folder}/tasks.json", "w") as tasks:
        json.dump([{"id": f"task-{n:03d}", "data": {"num1": n, "num2": 1}} for n in range(1, count + 1)], tasks)
    script = f'export ADDITION_OUTPUT_DIR="{files or folder}/results"\n{environment}\n'
    sections: dict[str, Any] = {
        "compute": "local",
        "pricing": "local",
        "queue": "azure",
        "azure": {"queue_poll_seconds": 0.5},
        "local": {"state_dir": str(folder / "state")},
        "run": {
            "job_id": "addition",
            "max_cpu": 2,
            "max_instances": 2,
            "max_runtime": 60,
            "scaling_check_interval": 1,
            "instance_termination_delay": 0,
            "startup_script": f'{script}exec python3 "{folder / "worker_addition.py"}"\n',
        },
    }
    (folder / "config.yml").write_text(json.dumps(sections))  # JSON is YAML
    return subprocess.run(
        [str(PROGRAM), "run", "--config", "config.yml", "--task-file", f"{files or folder}/tasks.json"],
        cwd=folder,
        env={**os.environ, **azurite.environment, "CLOUD_TASKS_CACHE_DIR": str(folder / "cache")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def sums(location: str) -> dict[str, int]:
    """Return the results by task."""
    found: dict[str, int] = {}
    for each in fsspec.open_files(f"{location}/results/*.txt", "r"):
        with each as content:
            found[Path(each.path).stem] = int(content.read())
    return found


def expected_sums(count: int) -> dict[str, int]:
    return {f"task-{n:03d}": n + 1 for n in range(1, count + 1)}


def assert_finished(folder: Path, count: int) -> None:
    """Assert that the database has every task as completed."""
    status = subprocess.run(
        [str(PROGRAM), "status", "--db-file", "addition.db", "--json"],
        cwd=folder,
        capture_output=True,
        check=True,
        timeout=60,
    )
    summary = json.loads(status.stdout)
    assert (summary["total"], summary["counts"]["completed"], summary["finished"]) == (count, count, True)


def test_azure_queue_serves_local_instances_and_leaves_no_queue(azurite: Azurite, tmp_path: Path) -> None:
    result = run_job(tmp_path, azurite, 200)
    assert result.returncode == 0, result.stderr
    assert sums(str(tmp_path)) == expected_sums(200)
    assert_finished(tmp_path, 200)
    assert azurite.queues() == []
    assert azurite.key not in result.stdout + result.stderr


def test_azure_queue_job_survives_faults_before_and_after_effect(azurite: Azurite, tmp_path: Path) -> None:
    faults = StorageFaults(azurite.queue_endpoint)
    # Receiving calls are excluded: a message leased by a lost response returns only minutes later.
    faults.server.fault = Fault(share=0.05, status=503, methods=frozenset({"POST", "PUT", "DELETE"}))
    with faults.server.serving():
        result = run_job(tmp_path, attrs.evolve(azurite, queue_endpoint=faults.endpoint), 100)
    assert result.returncode == 0, result.stderr
    assert faults.server.struck > 0
    assert sums(str(tmp_path)) == expected_sums(100)
    assert_finished(tmp_path, 100)
    assert azurite.queues() == []


def test_azure_queue_job_reads_and_writes_blob_storage(
    azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in azurite.environment.items():
        monkeypatch.setenv(name, value)
    with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
        container = service.create_container("files")
        try:
            result = run_job(tmp_path, azurite, 6, files="az://files/job")
            assert result.returncode == 0, result.stderr
            assert sums("az://files/job") == expected_sums(6)
            assert azurite.queues() == []
        finally:
            container.delete_container()
