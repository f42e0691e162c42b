"""End-to-end jobs against the Azure fakes: command line, SDKs, HTTP and real workers."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from azure_desk import AzureCloud, AzureDesk, azure_cloud
from azurite import Azurite
from sqs_emulator import sqs_server

from cloud_tasks.testing import eventually


@pytest.fixture
def cloud(azurite: Azurite, tmp_path: Path) -> Iterator[AzureCloud]:
    with azure_cloud(tmp_path, azurite) as running:
        yield running


@pytest.fixture
def desk(cloud: AzureCloud, tmp_path: Path) -> Iterator[AzureDesk]:
    desk = AzureDesk(tmp_path / "desk", cloud)
    yield desk
    desk.close()


def wait_while_running(process: subprocess.Popen[str], condition: Callable[[], object], timeout: float = 90.0) -> None:
    """Wait for a condition while a process runs."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, "the process exited early"
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def assert_complete(desk: AzureDesk, cloud: AzureCloud, count: int) -> None:
    """Assert that every task is counted once, and no VM, resource, group or queue exists."""
    assert desk.sums() == {f"task-{number:05d}": number + 1 for number in range(1, count + 1)}
    status = desk.status()
    counts = {name: each for name, each in status["counts"].items() if each}
    assert (status["total"], counts, status["finished"]) == (count, {"completed": count}, True)
    eventually(lambda: cloud.left() == {}, patience=timedelta(seconds=30))


def test_azure_job_completes_and_leaves_no_resources(desk: AzureDesk, cloud: AzureCloud) -> None:
    desk.configure()
    desk.tasks(200)
    assert desk.run_job("--task-file", "tasks.json") == 0, desk.log()
    assert_complete(desk, cloud, 200)
    assert cloud.storage.key not in desk.log() + (desk.folder / "out.log").read_text()
    assert cloud.storage.key.encode() not in (desk.folder / "addition.db").read_bytes()


def test_azure_job_survives_evictions_faults_and_controller_kill(desk: AzureDesk, cloud: AzureCloud) -> None:
    desk.configure(environment="export ADDITION_TASK_DELAY=0.1", use_spot=True, max_losses=50, min_instances=2)
    desk.tasks(150)
    cloud.arm.stock_out({"zone": "eastus-1", "purchase": "spot"})
    cloud.inject_faults(0.03)
    controller = desk.start("--task-file", "tasks.json")
    wait_while_running(controller, lambda: desk.done() >= 10)
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    evicted = cloud.arm.evict(oldest=1)
    assert desk.run_job("--continue") == 0, desk.log()
    cloud.inject_faults(0)
    assert len(evicted) == 1
    assert_complete(desk, cloud, 150)
    running = {each["zone"] for each in cloud.arm.state()["creations"] if each["outcome"] == "running"}
    assert "eastus-1" not in running


def test_azure_instances_use_the_queue_of_another_cloud(azurite: Azurite, tmp_path: Path) -> None:
    with sqs_server() as address:
        keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "test-only-key"}
        queue: dict[str, str] = {"AWS_ENDPOINT_URL_SQS": address, **keys}
        with azure_cloud(tmp_path, azurite, guest_environment=queue) as cloud:
            desk = AzureDesk(tmp_path / "desk", cloud)
            desk.environment |= queue
            desk.configure(sections={"queue": "aws", "aws": {"region": "us-east-1"}})
            desk.tasks(100)
            assert desk.run_job("--task-file", "tasks.json") == 0, desk.log()
            assert_complete(desk, cloud, 100)
            assert cloud.faults.wire.calls == [], "the queue of Azure was called"
            assert {each["outcome"] for each in cloud.arm.state()["creations"]} == {"running"}
