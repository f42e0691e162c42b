"""A job on the cluster: it waits behind another one, its controller is killed, and no task is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from slurm_cluster import Cluster

from cloud_tasks.testing import eventually

TASKS = 200
PATIENCE = timedelta(seconds=60)
COMMAND = str(Path(sys.executable).with_name("cloud-tasks"))
PROGRAM = """\
import os, sys, time
from cloud_tasks.worker import Worker

def process_task(task_id, data, worker):
    time.sleep(0.05)
    with open("{done}", "a") as file:
        file.write(task_id + "\\n")
    return False, os.environ["SLURM_JOB_ID"]

if __name__ == "__main__":
    Worker(process_task, args=sys.argv[1:]).run()
"""
# The local queue, declared as usable by all nodes: the cluster of the test has one.
QUEUE = """\
import attrs
from cloud_tasks.plugin import Reach, hookimpl
from cloud_tasks_local import plugin

@hookimpl
def cloud_tasks_register_queue():
    (local,) = plugin.cloud_tasks_register_queue()
    return [attrs.evolve(local, name="shared", traits=attrs.evolve(local.traits, reach=Reach.SHARED_FILES))]
"""


class Desk:
    """A project folder with its controller."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder = folder
        self.done = folder / "done.txt"
        self.environment = {
            **cluster.environment,
            "SLURM_CONF": str(cluster.configuration),
            "PYTHONPATH": os.pathsep.join([str(folder / "plugin"), os.environ.get("PYTHONPATH", "")]),
        }
        information = folder / "plugin" / "shared_queue-1.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: shared-queue\nVersion: 1\n")
        (information / "entry_points.txt").write_text("[cloud_tasks]\nshared = shared_queue\n")
        (folder / "plugin" / "shared_queue.py").write_text(QUEUE)
        (folder / "program.py").write_text(PROGRAM.format(done=self.done))
        (folder / "tasks.json").write_text(json.dumps([{"id": f"task-{n}", "data": {}} for n in range(TASKS)]))
        configuration = {
            "queue": "shared",
            "compute": "slurm",
            "pricing": "slurm",
            "shared": {"state_dir": str(folder / "state")},
            "slurm": {"output_dir": str(folder / "output"), "price_per_cpu_hour": 36},
            "run": {
                "job_id": "sums",
                "max_instances": 2,
                "max_cpu": 1,
                "max_total_price_per_hour": 100,
                "max_runtime": "1m",
                "scaling_check_interval": 1,
                "instance_termination_delay": 1,
                "startup_script": f'exec {sys.executable} "$CLOUD_TASKS_SUBMIT_DIR/program.py"',
            },
        }
        (folder / "config.yml").write_text(json.dumps(configuration))

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [COMMAND, "run", "--config", "config.yml", *arguments]
        with (self.folder / "run.log").open("ab") as log:
            return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log)

    def status(self) -> dict[str, Any]:
        command = [COMMAND, "status", "--json", "--db-file", "sums.db"]
        answer = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, timeout=60)
        return dict(json.loads(answer.stdout)) if answer.returncode == 0 else {}

    def finished(self) -> int:
        return len(self.done.read_text().splitlines()) if self.done.exists() else 0


@pytest.fixture
def desk(tmp_path: Path, cluster: Cluster) -> Desk:
    return Desk(tmp_path, cluster)


def test_job_waits_survives_its_controller_and_completes_each_task(desk: Desk, cluster: Cluster) -> None:
    blocker = cluster.submit("sleep 600", "--cpus-per-task=2")
    eventually(lambda: cluster.call("squeue", "-h", "-j", blocker, "-o", "%T"), lambda state: state == "RUNNING")
    controller = desk.start("--task-file", "tasks.json", "--force")
    try:
        waiting = eventually(
            desk.status,
            lambda status: set(status.get("pending_reasons", ())) == {"Resources", "Priority"},
            patience=PATIENCE,
        )
        assert (waiting["pending_instances"], waiting["price_per_hour_usd"], waiting["cost_usd"]) == (2, "0", "0")
        waiting_jobs = set(cluster.call("squeue", "-h", "-t", "PENDING", "-o", "%i").split())
        assert len(waiting_jobs) == 2
        cluster.call("scancel", blocker)
        eventually(desk.finished, lambda count: count > TASKS / 4, patience=PATIENCE)
    finally:
        controller.kill()
        controller.wait()
    resumed = desk.start("--continue")
    try:
        assert resumed.wait(timeout=120) == 0, (desk.folder / "run.log").read_text()
    finally:
        resumed.kill()
        resumed.wait()
    tasks = desk.done.read_text().splitlines()
    assert len(set(tasks)) == TASKS
    # Nothing was replaced: the two jobs that waited did all the work.
    names = cluster.call("squeue", "-h", "-t", "all", "-o", "%i %k").splitlines()
    assert {line.split()[0] for line in names if '"job": "sums"' in line} == waiting_jobs
