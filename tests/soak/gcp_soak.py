"""The reference's own command on Google Cloud's stand-ins, twice: in peace, and with everything going wrong.

In the second run a spot instance is preempted every few seconds, two zones have none, 2% of all API calls fail, half
of them after they took effect, and the controller is killed twice and continued.

Run by `dev.py soak`; arguments: tasks (10000), seed, which (``peace``, ``faults``; both when not given). Ends with exit
code 1 and a line that says what was wrong unless every task is completed, counted once, and nothing is left.
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

from gcp_desk import ASKED, GcpDesk, gcp_desk  # noqa: E402 - found by the line above

_SHARE = 0.02
_KILLS = 2
_BETWEEN_PREEMPTIONS = 4.0
_LONGEST = 3600.0


@contextmanager
def preemptions(desk: GcpDesk) -> Iterator[list[str]]:
    """Take the oldest spot instance away every few seconds; yields the names of those that were taken."""
    taken: list[str] = []
    over = threading.Event()

    def take() -> None:
        while not over.wait(_BETWEEN_PREEMPTIONS):
            taken.extend(desk.gce.preempt(oldest=1))

    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield taken
    finally:
        over.set()
        thread.join()


def in_peace(desk: GcpDesk, arguments: list[str]) -> int:
    return desk.start("run", *arguments, log=desk.folder / "run.log").wait(_LONGEST)


def with_faults(desk: GcpDesk, arguments: list[str], seed: int) -> int:
    """Kill the controller, and go on with its job, until it ends by itself."""
    chance = random.Random(seed)
    desk.gce.stock_out({"zone": "us-central1-a"}, {"zone": "us-central1-b"})
    log = desk.folder / "run.log"
    with preemptions(desk) as taken:
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
                print(f"  the job ended with {code} before the controller was killed as often as it should")
                break
        code = process.wait(_LONGEST)
    print(f"  {len(taken)} preemptions, {desk.count_faults()} failed calls, {_KILLS} kills")
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
                code = in_peace(desk, arguments)
            seconds = time.monotonic() - started
            found = desk.status() if (folder / "addition.db").exists() else {"counts": {"completed": 0}}
            sums, left = desk.sums(), desk.left_in_the_cloud()
        right = sum(sums.get(f"task-{number:05d}") == number + 1 for number in range(1, tasks + 1))
        good = code == 0 and found["counts"]["completed"] == tasks == right and not left
        print(
            f"  {tasks} tasks, {seconds:.0f} s: {found['counts']}, {right} right sums, exit code {code}, left: {left}"
        )
        print(f"  attempts {found.get('attempts')}, losses {found.get('losses')}, seed {seed}")
        if not good:
            print(f"FAILED: {which}; the end of the log:\n{(folder / 'run.log').read_text()[-4000:]}")
        return good


def main(tasks: str = "10000", seed: str = "1", *wanted: str) -> int:
    good = []
    for which in wanted or ("peace", "faults"):
        print(which, flush=True)
        good.append(soak(which, int(tasks), int(seed)))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
