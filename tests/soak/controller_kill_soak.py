"""One job on `local` whose controller is killed again and again, whose machines are taken away every few seconds.

Run by `dev.py soak`; arguments: kills (50), tasks (2000), seed. Ends with exit code 1 and a line that says what was
wrong unless every task is completed, counted once, and nothing is left running.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
    """Start `cloud-tasks run`; its output goes to a file of the folder."""
    command = [str(Path(sys.executable).with_name("cloud-tasks")), "run", "--config", "config.yml", *arguments]
    with (folder / "run.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def status(folder: Path) -> dict[str, object]:
    command = [str(Path(sys.executable).with_name("cloud-tasks")), "status", "--db-file", "kill-soak.db", "--json"]
    return dict(json.loads(subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout))


def processes_in(folder: Path) -> list[int]:
    """Processes whose working directory is the folder or below it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            directory = Path(os.readlink(entry / "cwd"))
        except OSError:
            continue
        if directory.is_relative_to(folder):
            found.append(int(entry.name))
    return found


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
                # Ended by itself: finished, or too early to have a database.
                if (folder / "kill-soak.db").exists():
                    break
            again = ["--continue"] if (folder / "kill-soak.db").exists() else ["--task-file", "tasks.json", "--force"]
            process = run(folder, *again)
        code = process.wait()
        found = status(folder)
        left = processes_in(folder)
        print(f"{done} kills, {tasks} tasks, {time.monotonic() - started:.0f} s: {found['counts']}, exit code {code}")
        print(f"attempts {found['attempts']}, losses {found['losses']}, seed {seed}")
        if code or found["counts"]["completed"] != tasks or left:  # type: ignore[index]
            print(f"FAILED: exit code {code}, processes left: {left}; the end of the log:")
            print((folder / "run.log").read_text()[-4000:])
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
