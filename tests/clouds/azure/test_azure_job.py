"""End-to-end jobs against the Azure fakes: command line, SDKs, HTTP and real workers."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from azure_job_folder import AzureCloud, AzureJobFolder, azure_cloud
from azurite import Azurite
from sqs_emulator import sqs_server

from cloud_tasks.testing import eventually


@pytest.fixture
def cloud(azurite: Azurite, tmp_path: Path) -> Iterator[AzureCloud]:
    with azure_cloud(tmp_path, azurite) as running:
        yield running


@pytest.fixture
def job_folder(cloud: AzureCloud, tmp_path: Path) -> Iterator[AzureJobFolder]:
    job_folder = AzureJobFolder(tmp_path / "job_folder", cloud)
    yield job_folder
    job_folder.close()


def wait_while_running(process: subprocess.Popen[str], condition: Callable[[], object], timeout: float = 90.0) -> None:
    """Wait for a condition while a process runs."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, "the process exited early"
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def assert_complete(job_folder: AzureJobFolder, cloud: AzureCloud, count: int) -> None:
    """Assert that every task is counted once, and no VM, resource, group or queue exists."""
    assert job_folder.sums() == {f"task-{number:05d}": number + 1 for number in range(1, count + 1)}
    status = job_folder.status()
    counts = {name: each for name, each in status["counts"].items() if each}
    assert (status["total"], counts, status["finished"]) == (count, {"completed": count}, True)
    eventually(lambda: cloud.left() == {}, patience=timedelta(seconds=30))


def test_azure_job_completes_and_leaves_no_resources(job_folder: AzureJobFolder, cloud: AzureCloud) -> None:
    job_folder.configure()
    job_folder.tasks(100)
    assert job_folder.run_job("--task-file", "tasks.json") == 0, job_folder.log()
    assert_complete(job_folder, cloud, 100)
    assert cloud.storage.key not in job_folder.log() + (job_folder.folder / "out.log").read_text()
    assert cloud.storage.key.encode() not in (job_folder.folder / "addition.db").read_bytes()


def test_azure_job_survives_evictions_faults_and_controller_kill(job_folder: AzureJobFolder, cloud: AzureCloud) -> None:
    job_folder.configure(environment="export ADDITION_TASK_DELAY=0.1", use_spot=True, max_losses=50, min_instances=2)
    job_folder.tasks(100)
    cloud.arm.stock_out({"zone": "eastus-1", "provisioning_model": "spot"})
    cloud.inject_faults(0.03)
    controller = job_folder.start("--task-file", "tasks.json")
    wait_while_running(controller, lambda: job_folder.done() >= 10)
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    evicted = cloud.arm.evict(oldest=1)
    assert job_folder.run_job("--continue") == 0, job_folder.log()
    cloud.inject_faults(0)
    assert len(evicted) == 1
    assert_complete(job_folder, cloud, 100)
    running = {each["zone"] for each in cloud.arm.state()["creations"] if each["outcome"] == "running"}
    assert "eastus-1" not in running


def test_azure_evicted_worker_releases_tasks_and_approves_the_eviction(
    job_folder: AzureJobFolder, cloud: AzureCloud
) -> None:
    # Far longer than the test: only an approval ends the notice.
    cloud.arm.times(preemption=600)
    job_folder.configure(environment="export ADDITION_TASK_DELAY=1", use_spot=True, min_total_cpus=4)
    job_folder.tasks(28)
    job = job_folder.start("--task-file", "tasks.json")
    wait_while_running(job, lambda: job_folder.done() >= 4)
    (evicted,) = cloud.arm.evict(oldest=1)
    wait_while_running(job, lambda: evicted in cloud.arm.state()["approved"])
    assert job.wait(240) == 0, job_folder.log()
    assert_complete(job_folder, cloud, 28)
    assert len(cloud.arm.state()["creations"]) >= 2


def test_azure_instances_use_the_queue_of_another_cloud(azurite: Azurite, tmp_path: Path) -> None:
    with sqs_server() as address:
        keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "test-only-key"}
        queue: dict[str, str] = {"AWS_ENDPOINT_URL_SQS": address, **keys}
        with azure_cloud(tmp_path, azurite, guest_environment=queue) as cloud:
            job_folder = AzureJobFolder(tmp_path / "job_folder", cloud)
            job_folder.environment |= queue
            job_folder.configure(sections={"queue": "aws", "aws": {"region": "us-east-1"}})
            job_folder.tasks(40)
            assert job_folder.run_job("--task-file", "tasks.json") == 0, job_folder.log()
            assert_complete(job_folder, cloud, 40)
            assert cloud.faults.server.calls == [], "the queue of Azure was called"
            assert {each["outcome"] for each in cloud.arm.state()["creations"]} == {"running"}
