"""The first job on Azure, as the guide has it: install, ``setup``, ``run``; installed is this environment."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from arm_fake import SUBSCRIPTION
from arm_process import ArmProcess
from arm_sign_in import signed_in
from azurite import Azurite
from blob_storage import blob_storage
from job_folder import JobFolder
from retail_fake import RetailFake

PROGRAM = """
import asyncio

from cloud_tasks.worker import Worker


def process_task(task_id, task_data, worker_data):
    return False, task_data["number"] ** 2


if __name__ == "__main__":
    asyncio.run(Worker(process_task).start())
"""
ACCOUNT = "cloudtasks4ebacdab40d2bb"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/cloud-tasks"
IDENTITY = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/cloud-tasks-worker"


@pytest.fixture
def job_folder(azurite: Azurite, tmp_path: Path) -> Iterator[JobFolder]:
    """A user's machine, signed in, with a new subscription."""
    storage = {"AZURE_STORAGE_CONNECTION_STRING": azurite.connection_string}
    with (
        signed_in() as sign_in,
        RetailFake() as prices,
        blob_storage(azurite) as blobs,
        ArmProcess(tmp_path / "machines", storage=azurite.connection_string, guest_environment=storage) as arm,
    ):
        # Downloads have a token of the identity that setup makes, and of no other.
        blobs.metadata.identities = {IDENTITY}
        folder = JobFolder(
            tmp_path / "job",
            {
                **sign_in.environment,
                **storage,
                "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
                "CLOUD_TASKS_AZURE_MANAGEMENT_ENDPOINT": arm.url,
                "CLOUD_TASKS_AZURE_PRICES_ENDPOINT": prices.url,
                "CLOUD_TASKS_AZURE_BLOB_ENDPOINT": str(blobs.settings.blob_endpoint),
                "CLOUD_TASKS_AZURE_METADATA_URL": blobs.metadata.url,
                "CLOUD_TASKS_AZURE_OPERATION_POLL_SECONDS": "0.05",
                "CLOUD_TASKS_AZURE_QUEUE_POLL_SECONDS": "0.5",
                "CLOUD_TASKS_CACHE_DIR": str(tmp_path / "cache"),
                "XDG_CONFIG_HOME": str(tmp_path / "config"),
            },
        )
        yield folder
        folder.close()
        assert [each.partition("/")[0] for each in arm.state()["resources"]] == ["storageAccounts"]


def test_first_job_on_azure_needs_setup_and_run(job_folder: JobFolder) -> None:
    (job_folder.folder / "squares.py").write_text(PROGRAM)
    tasks = [{"id": f"square-{number}", "data": {"number": number}} for number in range(20)]
    (job_folder.folder / "tasks.json").write_text(json.dumps(tasks))

    made = job_folder.run("setup", "azure", "--region", "eastus", "--yes")
    assert made.returncode == 0, made.stderr + made.stdout
    ran = job_folder.run("run", "--program", "squares.py", "--task-file", "tasks.json", "--provider", "azure")
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"Completed: +20", ran.stdout), ran.stdout

    again = job_folder.run("setup", "azure", "--yes")
    assert "to make" not in again.stdout, again.stdout
    # Objects of jobs are deleted by the lifecycle rule, not by setup.
    removed = job_folder.run("setup", "azure", "--undo", "--yes")
    assert removed.returncode == 0, removed.stderr
    assert re.findall(r"kept +(.*): it (?:has|contains)", removed.stdout) == [
        "container staging",
        f"storage account {ACCOUNT}",
        "resource group cloud-tasks",
    ]
