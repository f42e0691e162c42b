"""A job on `local` whose controller is killed repeatedly and whose instances are preempted every few seconds.

Run by `dev.py soak`; arguments: kills (50), tasks (2000), seed. Exits with code 1 and the cause unless every task is
completed and counted once, and no process is left.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clouds" / "support"))

from job_folder import processes_in

PROGRAM = """
import os, sys, time
from cloud_tasks.worker import Worker

def process_task(task_id, task_data, worker_data):
    time.sleep(task_data["seconds"])
    return False, task_id

Worker(process_task, args=sys.argv[1:]).run()
"""
CONFIG = """
provider: local
run:
  job_id: kill-soak
  max_cpu: 1
  max_instances: 2
  min_tasks_per_instance: 4
  use_spot: true
  scaling_check_interval: 1
  max_runtime: 60
  max_losses: 100
  startup_script: exec python3 "$CLOUD_TASKS_SUBMIT_DIR/program.py" --lease 10 --notice-interval 1
local:
  spot_mean_lifetime: 8
  spot_notice: 3
"""


def run(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start `cloud-tasks run` with its output in a file of the folder."""
    command = [str(Path(sys.executable).with_name("cloud-tasks")), "run", "--config", "config.yml", *arguments]
    with (folder / "run.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def status(folder: Path) -> dict[str, object]:
    command = [str(Path(sys.executable).with_name("cloud-tasks")), "status", "--db-file", "kill-soak.db", "--json"]
    return dict(json.loads(subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout))


def main(kills: int = 50, tasks: int = 2000, seed: int = 1) -> int:
    random.seed(seed)
    with tempfile.TemporaryDirectory(prefix="cloud-tasks-soak-") as name:
        folder = Path(name).resolve()
        (folder / "program.py").write_text(PROGRAM)
        (folder / "config.yml").write_text(CONFIG)
        listing = [{"id": f"t{n:05}", "data": {"seconds": random.uniform(0, 0.5)}} for n in range(tasks)]
        (folder / "tasks.json").write_text(json.dumps(listing))
        started = time.monotonic()
        done = 0
        process = run(folder, "--task-file", "tasks.json")
        while done < kills:
            try:
                process.wait(timeout=random.uniform(0.2, 4))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                done += 1
            else:
                # Exited: finished, or before the database was created.
                if (folder / "kill-soak.db").exists():
                    break
            again = ["--continue"] if (folder / "kill-soak.db").exists() else ["--task-file", "tasks.json", "--force"]
            process = run(folder, *again)
        code = process.wait()
        found = status(folder)
        left = processes_in(folder)
        print(f"{done} kills, {tasks} tasks, {time.monotonic() - started:.0f} s: {found['counts']}, exit code {code}")
        print(f"attempts {found['attempts']}, interruptions {found['losses']}, seed {seed}")
        if code or found["counts"]["completed"] != tasks or left:  # type: ignore[index]
            print(f"FAILED: exit code {code}, processes left: {left}; end of the log:")
            print((folder / "run.log").read_text()[-4000:])
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
