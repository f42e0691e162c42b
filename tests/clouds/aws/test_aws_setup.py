"""A first job on AWS: an account in which nothing was made, a program, and the commands of the guide."""

from __future__ import annotations

import json
from pathlib import Path

from aws_cloud import REGION, AwsCloud, AwsJobFolder

BUCKET = f"cloud-tasks-123456789012-{REGION}"

PROGRAM = """
import asyncio

from cloud_tasks.worker import Worker


def process_task(task_id, data, worker_data):
    return False, data["number"] + 1


if __name__ == "__main__":
    asyncio.run(Worker(process_task).start())
"""


def test_first_job_needs_setup_and_run(cloud: AwsCloud, cache: Path, tmp_path: Path) -> None:
    environment = {**cloud.environment(cache), "CLOUD_TASKS_CONFIG_DIR": str(tmp_path / "settings")}
    job = AwsJobFolder(tmp_path / "job", environment)
    (job.folder / "program.py").write_text(PROGRAM)
    (job.folder / "tasks.json").write_text(json.dumps([{"id": f"t{n}", "data": {"number": n}} for n in range(5)]))
    made = job.run("setup", "aws", "--region", REGION, "--force")
    assert made.returncode == 0, made.stdout + made.stderr
    assert "None" not in made.stdout, "no profile is chosen"
    before = cloud.overlay.state()["instances"]
    ran = job.run("run", "--program", "program.py", "--task-file", "tasks.json", "--provider", "aws")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert job.status("program")["counts"]["completed"] == 5
    assert "WARNING - aws" not in ran.stderr
    assert cloud.overlay.alive() == []
    # Workers have the permissions of the role, and download without any.
    started = cloud.overlay.state()["instances"][len(before) :]
    assert {each["role"] for each in started} == {"cloud-tasks-worker"}
    checked = job.run("doctor", "--provider", "aws")
    assert f"bucket {BUCKET}" in checked.stdout
    assert "FAILED" not in checked.stdout, checked.stdout
    undone = job.run("setup", "aws", "--region", REGION, "--undo", "--force")
    assert undone.returncode == 0, undone.stderr
    assert f"kept     bucket {BUCKET}: it has 3 objects" in undone.stdout
    assert "removed  role cloud-tasks-worker" in undone.stdout
    assert list((tmp_path / "settings").iterdir()) == []
    job.close()
