"""Write the fixtures of this folder with the code of the current checkout, into a folder named on the command line.

    .venv/bin/python tests/compatibility/make_fixtures.py tests/compatibility/<version>

Run it once for each version whose databases have to stay readable, and commit what it writes. The jobs are:

==============  ====================================================================================================
finished        every terminal state: completed, failed, timed out, exited, dead; retries; report and export have it all
interrupted     the controller and its instances killed in the middle, with tasks completed, running and queued
stopped         Ctrl-C in the middle: instances terminated, tasks left in the queue
loaded          `load-queue` alone: nothing has started yet; tasks from a parameter sweep
spot            spot instances that were reclaimed: attempts lost and repeated
==============  ====================================================================================================
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
PROGRAM = Path(sys.executable).with_name("cloud-tasks")
JOBS = ("finished", "interrupted", "stopped", "loaded", "spot")


def command(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start `cloud-tasks` in a folder, in a session of its own."""
    return subprocess.Popen([str(PROGRAM), *arguments], cwd=folder, stdin=subprocess.DEVNULL, start_new_session=True)


def completed(file: Path) -> int:
    """Return how many tasks the database counts as completed."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM tasks WHERE ended_at IS NOT NULL").fetchone()[0])
    except sqlite3.Error:
        return 0


def kill_all_in(folder: Path) -> None:
    """Kill every process that works in a folder."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            directory = Path(os.readlink(entry / "cwd").removesuffix(" (deleted)"))
            if directory.is_relative_to(folder) and int(entry.name) != os.getpid():
                os.kill(int(entry.name), signal.SIGKILL)


def make(job: str, folder: Path) -> None:
    """Run a job as far as its name says, in a folder that has its files."""
    options = ["--config", f"{job}.yml"]
    if (folder / f"{job}.json").exists():
        options += ["--task-file", f"{job}.json"]
    process = command(folder, "load-queue" if job == "loaded" else "run", *options)
    database = folder / f"{job}.db"
    if job in ("interrupted", "stopped"):
        while completed(database) < 10:
            if process.poll() is not None:
                raise SystemExit(f"{job}: ended too early")
            time.sleep(0.05)
        if job == "interrupted":
            kill_all_in(folder)
        else:
            process.send_signal(signal.SIGINT)
    process.wait(300)
    kill_all_in(folder)
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def main(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for job in JOBS:
        with tempfile.TemporaryDirectory(prefix="cloud-tasks-fixture-") as name:
            folder = Path(name)
            for file in (HERE / "jobs").iterdir():
                shutil.copy(file, folder)
            make(job, folder)
            for file in (folder / f"{job}.db", folder / f"{job}.yml"):
                shutil.copy(file, target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
