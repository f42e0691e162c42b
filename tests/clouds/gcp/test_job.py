"""A complete job with its files in Cloud Storage, on fakes of Google Cloud."""

from __future__ import annotations

import gzip
import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from gcp_job_folder import REFERENCE_OPTIONS, GcpJobFolder, gcp_job_folder
from storage_emulator import permissions, recorded, storage_emulator

OBJECT_USER = {"objects.create", "objects.get", "objects.list"}
"""Permissions of roles/storage.objectUser that a job uses."""
DENIED = "buckets.get"
"""Not in that role: a job requests it, and works without."""


@pytest.fixture
def job_folder(tmp_path: Path, emulator: str) -> Iterator[GcpJobFolder]:
    with gcp_job_folder(tmp_path, emulator=emulator) as job_folder:
        yield job_folder


def test_job_with_task_file_and_results_in_cloud_storage(job_folder: GcpJobFolder) -> None:
    with storage_emulator("bucket") as storage, recorded(storage) as (proxy, calls):
        put(storage, "jobs/tasks.json.gz", gzip.compress(job_folder.tasks(3).read_bytes()))
        # The emulator's address, and a switch that keeps google-auth from looking for credentials.
        variables = {"STORAGE_EMULATOR_HOST": proxy, "NO_GCE_CHECK": "true"}
        job_folder.environment |= variables
        config = job_folder.configure(
            environment="\n".join(f"export {name}={value}" for name, value in variables.items())
            + "\nexport ADDITION_OUTPUT_DIR=gs://bucket/sums",
            scaling_check_interval=1,
            instance_termination_delay=0,
            max_result_bytes=10,
            result_store="gs://bucket/long-results",
            log_store="gs://bucket/logs",
        )
        options = [*REFERENCE_OPTIONS, "--max-instances", "1"]
        ran = job_folder.run("run", "--config", str(config), "--task-file", "gs://bucket/jobs/tasks.json.gz", *options)
        assert ran.returncode == 0, ran.stderr
        assert job_folder.status()["counts"]["completed"] == 3, ran.stderr
        assert get(storage, "sums/task-00003.txt") == b"4\n"
        assert json.loads(get(storage, "long-results/task-00003.1.json")) == "gs://bucket/sums/task-00003.txt"
        needed = permissions(calls)
        assert set(needed.values()) == OBJECT_USER | {DENIED}, needed


def put(storage: str, name: str, content: bytes) -> None:
    """Store an object."""
    address = f"{storage}/upload/storage/v1/b/bucket/o?uploadType=media&name={urllib.parse.quote(name, safe='')}"
    with urllib.request.urlopen(urllib.request.Request(address, data=content, method="POST"), timeout=20) as answer:
        answer.read()


def get(storage: str, name: str) -> bytes:
    """Return the content of an object."""
    address = f"{storage}/download/storage/v1/b/bucket/o/{urllib.parse.quote(name, safe='')}?alt=media"
    with urllib.request.urlopen(address, timeout=20) as answer:
        content: bytes = answer.read()
        return content
