"""Soak test of a job on the fakes of a cloud: run it, kill and resume its controller, judge the end."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from job_folder import LoggingJobFolder

__all__ = ["FAULTY_RUN", "TIMEOUT", "CloudState", "completed", "repeating", "run_and_kill", "run_scenarios"]

TIMEOUT = 1800.0
_KILLS = 2

FAULTY_RUN: dict[str, Any] = {
    "max_instances": 5,
    "min_instances": 5,
    "use_spot": True,
    "max_losses": 200,
    "shutdown_grace_period": 1,
    "keepalive_interval": 2,
    "keepalive_timeout": 30,
}
"""Keys of the section `run` for the scenario with faults."""


def run_and_kill(
    start: Callable[..., subprocess.Popen[str]], job_folder: LoggingJobFolder, source: random.Random
) -> int:
    """Run the job while killing and resuming its controller; return the final exit code.

    Args:
        start: Starts `cloud-tasks run` with these arguments.
    """
    deadline = time.monotonic() + TIMEOUT
    process = start("--task-file", "tasks.json")
    for _ in range(_KILLS):
        time.sleep(source.uniform(8, 15))  # the controller launches instances meanwhile
        done = job_folder.result_count()
        while process.poll() is None and job_folder.result_count() < done + source.randint(200, 600):
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = start("--continue")
    return process.wait(max(1.0, deadline - time.monotonic()))


@contextmanager
def repeating(action: Callable[[], object], *, pause: float) -> Iterator[None]:
    """Run an action in a thread, again and again; raise its error at the end.

    Args:
        pause: Seconds between two runs.
    """
    stopped = threading.Event()

    def repeat() -> None:
        action()
        while not stopped.wait(pause):
            action()

    with ThreadPoolExecutor(1) as threads:
        repeated = threads.submit(repeat)
        try:
            yield
        finally:
            stopped.set()
            repeated.result()


@attrs.frozen(kw_only=True)
class CloudState:
    """State of a fake after the job."""

    faults: str
    """The faults that occurred, for the output."""
    preemptions: int
    failed_calls: int
    left: object
    """Resources that still exist; empty for none."""


def completed(
    scenario: str, job_folder: LoggingJobFolder, cloud: CloudState, *, tasks: int, code: int, seconds: float
) -> bool:
    """Print how the job ended; return whether every task is counted once with its sum, and nothing is left.

    The scenario ``faults`` fails unless a preemption and a failed call took place; another, if a task ran more than
    once.

    Args:
        code: Exit code of the last run.
        seconds: Duration of the job.
    """
    has_faults = scenario == "faults"
    status, sums = job_folder.status(), job_folder.sums()
    counts = {name: count for name, count in status["counts"].items() if count}
    print(
        f"{scenario}: {tasks} tasks in {seconds:.0f} s ({tasks / seconds:.0f}/s): {counts}, exit code {code}; "
        f"attempts {status['attempts']}, interruptions {status['losses']}, {cloud.faults}",
        flush=True,
    )
    problems: Mapping[str, object] = {
        "exit code": code,
        "counts": counts if counts != {"completed": tasks} else None,
        "repeated tasks": 0 if has_faults else status["attempts"] - tasks,
        "faults that did not occur": [
            name
            for name, number in {"preemptions": cloud.preemptions, "failed calls": cloud.failed_calls}.items()
            if has_faults and not number
        ],
        "wrong sums": sum(sums.get(f"task-{number:05d}") != number + 1 for number in range(1, tasks + 1)),
        "left": cloud.left,
    }
    found = {name: problem for name, problem in problems.items() if problem}
    if found:
        print(f"FAILED: {found}; end of the log:")
        print(job_folder.log()[-6000:])
    return not found


def run_scenarios(scenarios: Mapping[str, Callable[[Path, int, int], bool]]) -> int:
    """Run the scenarios that the command line names, each in a folder of its own; return the exit code."""
    tasks, wanted, seed = [*sys.argv[1:4], *("10000", "both", "1")[len(sys.argv) - 1 :]]
    passed = True
    for name, run in scenarios.items():
        if wanted in (name, "both"):
            with tempfile.TemporaryDirectory(prefix=f"cloud-tasks-{Path(sys.argv[0]).stem}-{name}-") as folder:
                passed &= run(Path(folder).resolve(), int(tasks), int(seed))
    return 0 if passed else 1
