"""A worker with many tasks, some of which fail in every way, and processes killed at random.

    python tests/soak/worker_soak.py [--tasks 100000] [--kills 0]

The outcome of each task must be the one derived from its number; afterwards no process, file or folder may be left, and
the supervisor's memory must not have grown. With ``--kills N``, a supervisor, fork server or task process is killed N
times: tasks may then run again, and a killed worker is restarted with ``--resume``, but every task must finish.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TASKS_FAILED = 3
"""Exit code of a worker that ran all tasks, some of which failed."""
PROGRAM = """
import atexit, ctypes, datetime, joblib, os, signal, sys, time
from cloud_tasks.worker import Worker
sys.path.insert(0, os.environ["SOAK_CODE"])
from worker_soak import outcome_of
def task(task_id, data, worker_data):
    kind = outcome_of(data["number"])
    if kind == "task_exception": raise ValueError(task_id)
    if kind == "task_timed_out": time.sleep(1000)
    if kind == "segfault": ctypes.string_at(0)
    if kind == "task_exited": os._exit(7)
    if kind == "big": return False, "x" * 5_000_000
    if kind == "terminated": os.kill(os.getpid(), signal.SIGTERM); time.sleep(1000)
    if kind == "surrogate": raise ValueError("\\udc80" + task_id)
    if kind == "joblib":
        return False, joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-n) for n in range(3))
    if kind == "at exit":
        global KEPT
        KEPT = open(os.path.join(os.environ["SOAK_ENDS"], task_id), "w")
        KEPT.write("file")
        atexit.register(lambda: KEPT.write(" and exit function"))
        return False, task_id
    if kind == "value": return False, values()[data["number"] % len(values())]
    return False, task_id
def values():
    import numpy
    return [numpy.float32(1.5), numpy.arange(3), float("nan"), datetime.date(2025, 1, 1), {1, 2}, b"bytes", object()]
def tasks():
    for number in range(int(os.environ["SOAK_TASKS"])):
        yield {"task_id": f"task-{number}", "data": {"number": number}}
Worker(task, task_source=tasks).run()
"""


def outcome_of(number: int) -> str:
    """Return the outcome of a task: an event type, or the name of a special case."""
    place = number * 2654435761 % 1000
    limits = (
        (10, "task_exception"),
        (20, "task_exited"),
        (21, "task_timed_out"),
        (26, "segfault"),
        (27, "big"),
        (30, "terminated"),
        (33, "surrogate"),
        (34, "joblib"),
        (40, "at exit"),
        (46, "value"),
    )
    return next((kind for limit, kind in limits if place < limit), "task_completed")


def expected(number: int) -> str:
    failures = {"segfault": "task_exited", "terminated": "task_exited", "surrogate": "task_exception"}
    outcome = outcome_of(number)
    return failures.get(outcome, outcome if outcome.startswith("task_") else "task_completed")


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def descendants(mark: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


class Soak:
    """One run: a worker, restarted each time its supervisor is killed."""

    def __init__(self, tasks: int, kills: int, folder: Path) -> None:
        self.tasks = tasks
        self.kills = kills
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.ends = folder / "ends"
        self.ends.mkdir()
        self.mark = f"SOAK_MARK={os.urandom(8).hex()}"
        self.sizes: list[float] = []
        self.killed: Counter[str] = Counter()
        self.orphans = 0

    def run(self) -> int:
        started = time.monotonic()
        code = self._work(resume=False)
        while code is None:
            self._expect_nothing_left()
            code = self._work(resume=True)
        seconds = time.monotonic() - started
        wrong = judge(self.tasks, self.folder / "events.log", exact=not self.kills) + self._unfinished_files()
        remains = descendants(self.mark) + list(self.temporary.iterdir())
        kills = ", ".join(f"{count} of {what}" for what, count in sorted(self.killed.items())) or "none"
        print(f"{self.tasks} tasks in {seconds:.0f} s, exit code {code}, {wrong} wrong outcomes; killed: {kills}")
        half = len(self.sizes) // 2
        growth = max(self.sizes[half:]) - max(self.sizes[: half or 1]) if half else 0.0
        print(
            f"supervisor: maximum {max(self.sizes):.0f} MB, second half {growth:+.1f} MB; "
            f"left: {remains or 'nothing'}, after a supervisor was killed: {self.orphans}"
        )
        return int(bool(code != TASKS_FAILED or wrong or remains or self.orphans))

    def _unfinished_files(self) -> int:
        """Return the number of tasks whose exit function did not run, or whose file was not flushed."""
        numbers = [number for number in range(self.tasks) if outcome_of(number) == "at exit"]
        files = [self.ends / f"task-{number}" for number in numbers]
        return sum(not file.exists() or file.read_text() != "file and exit function" for file in files)

    def _work(self, *, resume: bool) -> int | None:
        """Run a worker; return its exit code, or None if its supervisor was killed."""
        name, _, value = self.mark.partition("=")
        environment = os.environ | {
            "SOAK_TASKS": str(self.tasks),
            "SOAK_CODE": str(Path(__file__).parent),
            "SOAK_ENDS": str(self.ends),
            "TMPDIR": str(self.temporary),
            name: value,
        }
        # On a busy machine, the processes of joblib take seconds to start.
        options = ["--num-simultaneous-tasks", "4", "--max-runtime", "30", "--capture-output"]
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *options, "--max-losses", "1000", *(["--resume"] if resume else [])],
            cwd=self.folder,
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None:
            time.sleep(0.2)
            try:
                self.sizes.append(resident_mb(process.pid))
            except (OSError, IndexError):
                break
            if self.killed.total() < self.kills and self._kill_one(process.pid):
                process.wait()
                return None
        return process.wait()

    def _kill_one(self, supervisor: int) -> bool:
        """Kill the supervisor, the fork server or a task; return whether it was the supervisor."""
        parents = {pid: parent_of(pid) for pid in descendants(self.mark) if pid != supervisor}
        # The zygote, the supervisor's child, cannot be replaced.
        zygote = next((pid for pid, parent in parents.items() if parent == supervisor), 0)
        fork_server = next((pid for pid, parent in parents.items() if parent == zygote), 0)
        tasks = [pid for pid in parents if pid not in (zygote, fork_server)]
        if not zygote or not tasks:
            return False
        draw = random.random()
        what, pid = "tasks", random.choice(tasks)
        if draw < 0.1:
            what, pid = "supervisors", supervisor
        elif draw < 0.4 and fork_server:
            what, pid = "fork servers", fork_server
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        self.killed[what] += 1
        return pid == supervisor

    def _expect_nothing_left(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if not descendants(self.mark) and not any(self.temporary.iterdir()):
                return
            time.sleep(0.05)
        self.orphans += len(descendants(self.mark))


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def judge(tasks: int, log: Path, *, exact: bool) -> int:
    """Return the number of tasks with a wrong outcome, none, or (``exact``) more than one."""
    ends: Counter[int] = Counter()
    wrong = 0
    kinds = {"task_completed", "task_exception", "task_exited", "task_timed_out"}
    with log.open() as lines:
        for line in lines:
            event = json.loads(line)
            if event["event_type"] in kinds:
                number = int(event["task_id"].rpartition("-")[2])
                ends[number] += 1
                killed = event.get("signal") == "SIGKILL"
                wrong += event["event_type"] != expected(number) and not (killed and not exact)
    return wrong + sum(ends[number] != 1 if exact else ends[number] == 0 for number in range(tasks))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return Soak(options.tasks, options.kills, Path(folder)).run()


if __name__ == "__main__":
    sys.exit(main())
