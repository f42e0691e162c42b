"""The reference example's command on fakes of Google Cloud, twice: without faults, and with many.

In the second run a spot instance is preempted every few seconds, two zones have no capacity, 2% of all API calls fail
(half of them after their effect), and the controller is killed and resumed twice.

Run by `dev.py soak`; arguments: tasks (default: 10000), seed, runs (``normal``, ``faults``; default: both). The exit
code is 1, with the reason, unless every task is completed and counted once and nothing is left.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLOUDS = Path(__file__).parents[1] / "clouds"
sys.path[:0] = [str(CLOUDS / "gcp" / "support"), str(CLOUDS / "support")]

from gcp_job_folder import REFERENCE_OPTIONS, GcpJobFolder, gcp_job_folder  # noqa: E402 - on the path set above

_SHARE = 0.02
_KILLS = 2
_BETWEEN_PREEMPTIONS = 4.0
_MAX_DURATION = 3600.0


@contextmanager
def preemptions(job_folder: GcpJobFolder) -> Iterator[list[str]]:
    """Preempt the oldest spot instance every few seconds; yield the names of preempted instances."""
    preempted: list[str] = []
    stopped = threading.Event()

    def preempt() -> None:
        while not stopped.wait(_BETWEEN_PREEMPTIONS):
            preempted.extend(job_folder.gce.preempt(oldest=1))

    thread = threading.Thread(target=preempt)
    thread.start()
    try:
        yield preempted
    finally:
        stopped.set()
        thread.join()


def without_faults(job_folder: GcpJobFolder, arguments: list[str]) -> int:
    return job_folder.start("run", *arguments, log=job_folder.folder / "run.log").wait(_MAX_DURATION)


def with_faults(job_folder: GcpJobFolder, arguments: list[str], seed: int) -> int:
    """Run the job while killing and resuming the controller; return the final exit code."""
    rng = random.Random(seed)
    job_folder.gce.stock_out({"zone": "us-central1-a"}, {"zone": "us-central1-b"})
    log = job_folder.folder / "run.log"
    with preemptions(job_folder) as preempted:
        process = job_folder.start("run", *arguments, log=log)
        for _ in range(_KILLS):
            while not (job_folder.folder / "addition.db").exists() and process.poll() is None:
                time.sleep(0.1)
            try:
                code = process.wait(rng.uniform(15, 30))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                process = job_folder.start("run", *arguments, "--continue", log=log)
            else:
                print(f"  the job exited with {code} before all kills of the controller")
                break
        code = process.wait(_MAX_DURATION)
    print(f"  {len(preempted)} preemptions, {job_folder.count_faults()} failed calls, {_KILLS} kills")
    return code


def soak(which: str, tasks: int, seed: int) -> bool:
    with tempfile.TemporaryDirectory(prefix="cloud-tasks-gcp-soak-") as name:
        folder = Path(name).resolve()
        with gcp_job_folder(folder, faults=_SHARE if which == "faults" else 0.0, seed=seed) as job_folder:
            config = job_folder.configure(scaling_check_interval=2, instance_termination_delay=0, max_losses=1000)
            arguments = ["--config", str(config), "--task-file", str(job_folder.tasks(tasks)), *REFERENCE_OPTIONS]
            started = time.monotonic()
            if which == "faults":
                code = with_faults(job_folder, [*arguments, "--use-spot"], seed)
            else:
                code = without_faults(job_folder, arguments)
            seconds = time.monotonic() - started
            found = job_folder.status() if (folder / "addition.db").exists() else {"counts": {"completed": 0}}
            sums, left = job_folder.sums(), job_folder.left_in_the_cloud()
        correct = sum(sums.get(f"task-{number:05d}") == number + 1 for number in range(1, tasks + 1))
        good = code == 0 and found["counts"]["completed"] == tasks == correct and not left
        print(f"  {tasks} tasks, {seconds:.0f} s: {found['counts']}, {correct} correct sums, exit code {code}")
        print(f"  left: {left}")
        print(f"  attempts {found.get('attempts')}, interruptions {found.get('losses')}, seed {seed}")
        if not good:
            print(f"FAILED: {which}; end of the log:\n{(folder / 'run.log').read_text()[-4000:]}")
        return good


def main(tasks: str = "10000", seed: str = "1", *runs: str) -> int:
    good = []
    for which in runs or ("normal", "faults"):
        print(which, flush=True)
        good.append(soak(which, int(tasks), int(seed)))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
