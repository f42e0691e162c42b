"""A worker under fire: many tasks of which a few fail in every way, and processes that are killed at random.

    python tests/benchmarks/worker_soak.py [--tasks 100000] [--kills 0]

Every task's end has to be the one that its number foretells; afterwards no process, file or folder may be left, and the
supervisor's memory may not have grown. With ``--kills N``, a template or task process is killed N times meanwhile:
then tasks may be run again, but each must still come to its end.
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

PROGRAM = """
import ctypes, os, sys, time
from cloud_tasks.worker import Worker
sys.path.insert(0, os.environ["SOAK_CODE"])
from worker_soak import fate
def task(task_id, data, worker_data):
    kind = fate(data["number"])
    if kind == "task_exception": raise ValueError(task_id)
    if kind == "task_timed_out": time.sleep(1000)
    if kind == "segfault": ctypes.string_at(0)
    if kind == "task_exited": os._exit(7)
    if kind == "big": return False, "x" * 5_000_000
    return False, task_id
def tasks():
    for number in range(int(os.environ["SOAK_TASKS"])):
        yield {"task_id": f"task-{number}", "data": {"number": number}}
Worker(task, task_source=tasks).run()
"""


def fate(number: int) -> str:
    """What becomes of a task: an event type, or one of two special ways to one."""
    place = number * 2654435761 % 1000
    limits = ((10, "task_exception"), (20, "task_exited"), (25, "task_timed_out"), (26, "segfault"), (27, "big"))
    return next((kind for limit, kind in limits if place < limit), "task_completed")


def expected(number: int) -> str:
    return {"segfault": "task_exited", "big": "task_completed"}.get(fate(number), fate(number))


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


def soak(tasks: int, kills: int, folder: Path) -> int:
    mark = f"SOAK_MARK={os.urandom(8).hex()}"
    temporary = folder / "tmp"
    temporary.mkdir()
    name, _, value = mark.partition("=")
    environment = os.environ | {
        "SOAK_TASKS": str(tasks),
        "SOAK_CODE": str(Path(__file__).parent),
        "TMPDIR": str(temporary),
        name: value,
    }
    options = ["--num-simultaneous-tasks", "4", "--max-runtime", "2" if not kills else "4", "--capture-output"]
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *options, "--max-losses", "1000"],
        cwd=folder,
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    sizes: list[float] = []
    left = kills
    while process.poll() is None:
        time.sleep(0.2)
        try:
            sizes.append(resident_mb(process.pid))
        except (OSError, IndexError):
            break
        victims = [pid for pid in descendants(mark) if pid != process.pid]
        if left and len(victims) > 2:
            left -= 1
            # The zygote is the one that cannot be replaced.
            os.kill(random.choice(sorted(victims)[1:]), signal.SIGKILL)
    code = process.wait()
    seconds = time.monotonic() - began
    wrong = judge(tasks, folder / "events.log", exact=not kills)
    remains = descendants(mark) + list(temporary.iterdir())
    growth = max(sizes[len(sizes) // 2 :]) - max(sizes[: len(sizes) // 2 or 1]) if len(sizes) > 3 else 0.0
    print(f"{tasks} tasks in {seconds:.0f} s, exit code {code}, {kills - left} kills, {wrong} wrong ends")
    print(f"supervisor: at most {max(sizes):.0f} MB, second half {growth:+.1f} MB; left behind: {remains or 'nothing'}")
    return int(bool(code or wrong or remains))


def judge(tasks: int, log: Path, *, exact: bool) -> int:
    """How many tasks have another end than foretold, none, or more than one."""
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
    return wrong + sum(ends[number] != 1 for number in range(tasks))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return soak(options.tasks, options.kills, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
