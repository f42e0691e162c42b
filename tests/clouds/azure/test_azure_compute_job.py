"""End-to-end jobs on Azure instances with a local queue: command line, real SDKs, real workers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from arm_fake import SUBSCRIPTION
from arm_process import ArmProcess
from retail_fake import RetailFake

from cloud_tasks.testing import eventually

EXAMPLE = Path(__file__).parents[3] / "examples" / "parallel_addition"
PROGRAM = Path(sys.executable).with_name("cloud-tasks")
TIMEOUT = timedelta(seconds=30)


class JobFolder:
    """A working folder with the example's program and a configuration of the fakes."""

    def __init__(self, folder: Path, arm: ArmProcess, prices: RetailFake) -> None:
        self.folder = folder
        self.arm = arm
        self._prices = prices
        shutil.copy(EXAMPLE / "worker_addition.py", folder)

    def start(self, count: int, *, environment: str = "", **run: Any) -> subprocess.Popen[str]:
        """Start a job with ``count`` tasks; ``run`` adds keys of that section."""
        tasks = [{"id": f"task-{n:03d}", "data": {"num1": n, "num2": 1}} for n in range(1, count + 1)]
        (self.folder / "tasks.json").write_text(json.dumps(tasks))
        script = f'export ADDITION_OUTPUT_DIR="{self.folder / "results"}"\n{environment}\n'
        sections: dict[str, Any] = {
            "compute": "azure",
            "pricing": "azure",
            "queue": "local",
            "run": {
                "job_id": "addition",
                "region": "eastus",
                "min_cpu": 8,
                "max_cpu": 8,
                "max_instances": 3,
                "max_runtime": 30,
                "scaling_check_interval": 1,
                "instance_termination_delay": 0,
                "startup_script": f'{script}exec python3 "{self.folder / "worker_addition.py"}"\n',
                **run,
            },
            "azure": {
                "subscription_id": SUBSCRIPTION,
                "management_endpoint": self.arm.url,
                "prices_endpoint": self._prices.url,
                "operation_poll_seconds": 0.05,
            },
            "local": {"state_dir": str(self.folder / "state")},
        }
        (self.folder / "config.yml").write_text(json.dumps(sections))  # JSON is YAML
        return subprocess.Popen(
            [str(PROGRAM), "run", "--config", "config.yml", "--task-file", "tasks.json"],
            cwd=self.folder,
            env={**os.environ, "CLOUD_TASKS_CACHE_DIR": str(self.folder / "cache")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def left(self) -> list[Any]:
        """Return everything that still exists in the cloud."""
        state = self.arm.state()
        return [*state["instances"], *state["resources"], *state["groups"]]

    def assert_completed(self, job: subprocess.Popen[str], count: int) -> None:
        """Wait for the job and assert that all tasks completed and no resources are left."""
        try:
            _, errors = job.communicate(timeout=200)
        finally:
            job.kill()
        assert job.returncode == 0, errors
        sums = {file.stem: int(file.read_text()) for file in (self.folder / "results").glob("*.txt")}
        assert sums == {f"task-{n:03d}": n + 1 for n in range(1, count + 1)}
        eventually(lambda: self.left() == [], patience=TIMEOUT)


@pytest.fixture
def job_folder(tmp_path: Path) -> Iterator[JobFolder]:
    with RetailFake() as prices, ArmProcess(tmp_path / "machines") as arm:
        yield JobFolder(tmp_path, arm, prices)


def test_azure_compute_job_with_local_queue_leaves_no_resources(job_folder: JobFolder) -> None:
    job_folder.assert_completed(job_folder.start(80), 80)
    assert {each["spot"] for each in job_folder.arm.state()["creations"]} == {False}


def test_evicted_worker_releases_tasks_and_approves_the_eviction(job_folder: JobFolder) -> None:
    # Far longer than the test: only an approval ends the notice.
    job_folder.arm.times(preemption=600)
    slow = "export ADDITION_TASK_DELAY=1"
    job = job_folder.start(120, environment=slow, use_spot=True, min_total_cpus=8, max_instances=2)
    eventually(lambda: len(list((job_folder.folder / "results").glob("*.txt"))) >= 4, patience=TIMEOUT)
    (evicted,) = job_folder.arm.evict(oldest=1)
    eventually(lambda: evicted in job_folder.arm.state()["approved"], patience=TIMEOUT)
    job_folder.assert_completed(job, 120)
    assert len(job_folder.arm.state()["creations"]) >= 2
