"""A job on the Google Cloud emulators, twice: without faults, and with all faults.

Faults: a spot instance is preempted every few seconds, two zones have no capacity, 2% of all API calls fail, half of
them after they took effect, and the controller is killed twice and resumed.

Run by `dev.py soak`; arguments: tasks (10000), seed, mode (``plain``, ``faults``; default: both). Exits with code 1 and
the cause unless every task is completed and counted once, and no resource is left.
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

from gcp_desk import ASKED, GcpDesk, gcp_desk  # noqa: E402 - on the path set above

_SHARE = 0.02
_KILLS = 2
_BETWEEN_PREEMPTIONS = 4.0
_LONGEST = 3600.0


@contextmanager
def preemptions(desk: GcpDesk) -> Iterator[list[str]]:
    """Preempt the oldest spot instance every few seconds; yield the names of preempted instances."""
    preempted: list[str] = []
    over = threading.Event()

    def preempt() -> None:
        while not over.wait(_BETWEEN_PREEMPTIONS):
            preempted.extend(desk.gce.preempt(oldest=1))

    thread = threading.Thread(target=preempt)
    thread.start()
    try:
        yield preempted
    finally:
        over.set()
        thread.join()


def without_faults(desk: GcpDesk, arguments: list[str]) -> int:
    return desk.start("run", *arguments, log=desk.folder / "run.log").wait(_LONGEST)


def with_faults(desk: GcpDesk, arguments: list[str], seed: int) -> int:
    """Kill the controller and resume its job, until it exits by itself."""
    chance = random.Random(seed)
    desk.gce.stock_out({"zone": "us-central1-a"}, {"zone": "us-central1-b"})
    log = desk.folder / "run.log"
    with preemptions(desk) as preempted:
        process = desk.start("run", *arguments, log=log)
        for _ in range(_KILLS):
            while not (desk.folder / "addition.db").exists() and process.poll() is None:
                time.sleep(0.1)
            try:
                code = process.wait(chance.uniform(15, 30))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                process = desk.start("run", *arguments, "--continue", log=log)
            else:
                print(f"  the job exited with code {code} before all kills")
                break
        code = process.wait(_LONGEST)
    print(f"  {len(preempted)} preemptions, {desk.count_faults()} failed calls, {_KILLS} kills")
    return code


def soak(which: str, tasks: int, seed: int) -> bool:
    with tempfile.TemporaryDirectory(prefix="cloud-tasks-gcp-soak-") as name:
        folder = Path(name).resolve()
        with gcp_desk(folder, faults=_SHARE if which == "faults" else 0.0, seed=seed) as desk:
            config = desk.configure(scaling_check_interval=2, instance_termination_delay=0, max_losses=1000)
            arguments = ["--config", str(config), "--task-file", str(desk.tasks(tasks)), *ASKED]
            started = time.monotonic()
            if which == "faults":
                code = with_faults(desk, [*arguments, "--use-spot"], seed)
            else:
                code = without_faults(desk, arguments)
            seconds = time.monotonic() - started
            found = desk.status() if (folder / "addition.db").exists() else {"counts": {"completed": 0}}
            sums, left = desk.sums(), desk.left_in_the_cloud()
        right = sum(sums.get(f"task-{number:05d}") == number + 1 for number in range(1, tasks + 1))
        good = code == 0 and found["counts"]["completed"] == tasks == right and not left
        print(
            f"  {tasks} tasks, {seconds:.0f} s: {found['counts']}, {right} correct sums, exit code {code}, left: {left}"
        )
        print(f"  attempts {found.get('attempts')}, interruptions {found.get('losses')}, seed {seed}")
        if not good:
            print(f"FAILED: {which}; end of the log:\n{(folder / 'run.log').read_text()[-4000:]}")
        return good


def main(tasks: str = "10000", seed: str = "1", *modes: str) -> int:
    good = []
    for which in modes or ("plain", "faults"):
        print(which, flush=True)
        good.append(soak(which, int(tasks), int(seed)))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
