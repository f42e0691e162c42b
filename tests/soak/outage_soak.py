"""A job on `local` with a full disk on one of two machines and a database that another program locks repeatedly.

Run by `dev.py soak`; arguments: tasks (5000), seed. Exits with code 1 and the cause unless the database has each task's
own outcome, once, and no process is left. Only root can mount the full disk; without it, the database is locked only.
"""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clouds" / "support"))

from job_folder import JobFolder, processes_in

PROGRAM = """
import os, sys, time
from cloud_tasks.worker import Worker

def process_task(task_id, task_data, worker_data):
    print(task_id)
    time.sleep(task_data["seconds"])
    if task_data["end"] == "exited":
        os._exit(7)
    if task_data["end"] == "exception":
        raise ValueError(task_id)
    with open(os.path.join(worker_data.scratch_dir, "file"), "w") as file:
        file.write(task_id)
    return False, task_id

Worker(process_task, args=sys.argv[1:]).run()
"""
STARTUP_SCRIPT = """
cd "$CLOUD_TASKS_SUBMIT_DIR"
if [ -d disk ] && mkdir first; then export TMPDIR="$PWD/disk"; fi
exec python3 program.py --lease 10
"""
CONFIG = {
    "provider": "local",
    "run": {
        "job_id": "outage-soak",
        "max_cpu": 1,
        "max_instances": 2,
        "min_tasks_per_instance": 4,
        "scaling_check_interval": 1,
        "max_runtime": 60,
        "max_attempts": 1,
        "startup_script": STARTUP_SCRIPT,
    },
}
LOCKED, FREE = (0.5, 8.0), (0.5, 4.0)
"""Shortest and longest seconds for which the database is locked, and then is not."""
END_OF = {0: "exited", 1: "exception"}
"""Ends of tasks by the last digit of their number, other than completion."""


@contextmanager
def full_disk(path: Path) -> Iterator[bool]:
    """Mount a full file system; return whether that is possible."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        path.rmdir()
        yield False
        return
    try:
        with (path / "filler").open("wb", buffering=0) as filler:
            while True:
                try:
                    filler.write(bytes(4096))
                except OSError:
                    break
        yield True
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def lock_until_end(process: subprocess.Popen[str], database: Path) -> int:
    """Lock the database again and again until the run has ended; return how often."""
    locks = 0
    while process.poll() is None:
        time.sleep(random.uniform(*FREE))
        if not database.exists():
            continue
        with closing(sqlite3.connect(database, isolation_level=None, timeout=30)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                continue
            locks += 1
            time.sleep(random.uniform(*LOCKED))
            connection.execute("ROLLBACK")
    return locks


def wrong_tasks(job: JobFolder, tasks: int) -> list[str]:
    """Return the tasks that have another outcome in the database than their own, or not exactly one."""
    answer = job.run("export", "attempts", "--db-file", "outage-soak.db", "--format", "jsonl")
    found: Counter[tuple[str, str]] = Counter()
    for attempt in map(json.loads, answer.stdout.splitlines()):
        if attempt["outcome"] not in ("lost", "released"):
            found[attempt["task_id"], attempt["outcome"]] += 1
    expected = Counter({(f"t{n:05}", END_OF.get(n % 10, "completed")): 1 for n in range(tasks)})
    return [f"{key} {found[key]} times" for key in sorted(found.keys() | expected) if found[key] != expected[key]]


def main(tasks: int = 5000, seed: int = 1) -> int:
    random.seed(seed)
    with tempfile.TemporaryDirectory(prefix="cloud-tasks-soak-") as name:
        job = JobFolder(Path(name).resolve(), {})
        (job.folder / "program.py").write_text(PROGRAM)
        job.write_config(CONFIG)
        listing = [
            {"id": f"t{n:05}", "data": {"seconds": random.uniform(0, 0.1), "end": END_OF.get(n % 10, "completed")}}
            for n in range(tasks)
        ]
        (job.folder / "tasks.json").write_text(json.dumps(listing))
        log, started = job.folder / "run.log", time.monotonic()
        with full_disk(job.folder / "disk") as has_full_disk:
            process = job.begin("run", "--config", "config.yml", "--task-file", "tasks.json", out=log, errors=log)
            locks = lock_until_end(process, job.folder / "outage-soak.db")
            used = (job.folder / "first").exists()
        seconds, found, wrong = time.monotonic() - started, job.status("outage-soak"), wrong_tasks(job, tasks)
        left = processes_in(job.folder)
        disk = "a full disk on one machine" if used else "no full disk"
        print(
            f"{tasks} tasks, {disk}, {locks} locks, {seconds:.0f} s: {found['counts']}, exit code {process.returncode}"
        )
        print(
            f"attempts {found['attempts']}, interruptions {found['losses']}, wrong outcomes {len(wrong)}, seed {seed}"
        )
        if process.returncode != 3 or wrong or left or used != has_full_disk:
            print(f"FAILED: wrong: {wrong[:20]}, processes left: {left}; end of the log:\n{log.read_text()[-4000:]}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
