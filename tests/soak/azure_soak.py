"""Jobs on fakes of Azure: 10,000 tasks on 5 instances without faults, then with faults.

Faults: the oldest spot VM is evicted every few seconds, two zones have no capacity, 3% of all calls to Resource Manager
and to the queues fail (half of them after their effect), and the controller is killed and resumed twice.

Run by `dev.py soak`; arguments: tasks (10000), scenario (both, normal or faults), seed. The exit code is 1 unless every
task is counted once, and no VM, disk, interface, network, group, queue or blob is left.
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

_CLOUDS = Path(__file__).resolve().parents[1] / "clouds"
sys.path[:0] = [str(_CLOUDS / "support"), str(_CLOUDS / "azure" / "support")]

from azure_job_folder import AzureCloud, AzureJobFolder, azure_cloud  # noqa: E402 - on the path set above
from azurite import azurite_server  # noqa: E402

_TIMEOUT = 1800.0
_KILLS = 2
_SHARE = 0.03
_BETWEEN_EVICTIONS = 5.0
_NOTICE = 10.0
"""Seconds between notice and eviction, more than the three seconds between two polls. Azure gives at least 30."""


def run_normally(folder: Path, tasks: int, seed: int) -> bool:
    """Run the job without faults; return whether it passed."""
    with azurite_server() as storage, azure_cloud(folder, storage, seed=seed) as cloud:
        job_folder = AzureJobFolder(folder / "job_folder", cloud)
        job_folder.configure(max_instances=5, min_instances=5)
        job_folder.tasks(tasks)
        started = time.monotonic()
        with closing(job_folder):
            code = job_folder.run_job("--task-file", "tasks.json", timeout=_TIMEOUT)
        return _judge("normal", job_folder, cloud, tasks, code, time.monotonic() - started)


def run_with_faults(folder: Path, tasks: int, seed: int) -> bool:
    """Run the job with all faults; return whether it passed."""
    source = random.Random(seed)
    with azurite_server() as storage, azure_cloud(folder, storage, seed=seed) as cloud:
        job_folder = AzureJobFolder(folder / "job_folder", cloud)
        job_folder.configure(
            max_instances=5,
            min_instances=5,
            use_spot=True,
            max_losses=200,
            shutdown_grace_period=1,
            keepalive_interval=2,
            keepalive_timeout=30,
        )
        job_folder.tasks(tasks)
        cloud.arm.stock_out(
            {"zone": "eastus-1", "provisioning_model": "spot"}, {"zone": "eastus-2", "provisioning_model": "spot"}
        )
        cloud.arm.times(preemption=_NOTICE)
        cloud.inject_faults(_SHARE)
        started = time.monotonic()
        with closing(job_folder), _evictions(cloud):
            code = _run_and_kill(job_folder, source)
        cloud.inject_faults(0)
        return _judge("faults", job_folder, cloud, tasks, code, time.monotonic() - started)


@contextmanager
def _evictions(cloud: AzureCloud) -> Iterator[None]:
    """Evict the oldest spot VM every few seconds."""
    stopped = threading.Event()

    def evict() -> None:
        while not stopped.wait(_BETWEEN_EVICTIONS):
            cloud.arm.evict(oldest=1)

    thread = threading.Thread(target=evict)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _run_and_kill(job_folder: AzureJobFolder, source: random.Random) -> int:
    """Run the job while killing and resuming its controller; return the final exit code."""
    deadline = time.monotonic() + _TIMEOUT
    process = job_folder.start("--task-file", "tasks.json")
    for _ in range(_KILLS):
        time.sleep(source.uniform(8, 15))  # the controller launches instances meanwhile
        done = job_folder.done()
        while process.poll() is None and job_folder.done() < done + source.randint(200, 600):
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = job_folder.start("--continue")
    return process.wait(max(1.0, deadline - time.monotonic()))


def _judge(scenario: str, job_folder: AzureJobFolder, cloud: AzureCloud, tasks: int, code: int, elapsed: float) -> bool:
    status, state, sums = job_folder.status(), cloud.arm.state(), job_folder.sums()
    counts = {name: count for name, count in status["counts"].items() if count}
    print(
        f"{scenario}: {tasks} tasks in {elapsed:.0f} s ({tasks / elapsed:.0f}/s): {counts}, exit code {code}; "
        f"attempts {status['attempts']}, interruptions {status['losses']}, {len(state['creations'])} creations, "
        f"{len(state['evicted'])} evictions, {state['struck']} of {state['calls']} calls of Resource Manager and "
        f"{cloud.faults.server.struck} of {len(cloud.faults.server.calls)} calls of the queues failed",
        flush=True,
    )
    wrong = sum(sums.get(f"task-{number:05d}") != number + 1 for number in range(1, tasks + 1))
    problems = {
        "exit code": code,
        "counts": counts if counts != {"completed": tasks} else None,
        "wrong sums": wrong,
        "left": _left(cloud),
    }
    found = {name: problem for name, problem in problems.items() if problem}
    if found:
        print(f"FAILED: {found}; end of the log:")
        print(job_folder.log()[-6000:])
    return not found


def _left(cloud: AzureCloud) -> dict[str, list[str]]:
    """Return everything that still exists after the deletions that Azure completes in the background."""
    deadline = time.monotonic() + 30
    while (found := cloud.left()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def main(tasks: int = 10_000, scenario: str = "both", seed: int = 1) -> int:
    passed = True
    for name, run in (("normal", run_normally), ("faults", run_with_faults)):
        if scenario in (name, "both"):
            with tempfile.TemporaryDirectory(prefix=f"cloud-tasks-azure-{name}-") as folder:
                passed &= run(Path(folder).resolve(), tasks, seed)
    return 0 if passed else 1


if __name__ == "__main__":
    given = [*sys.argv[1:4], *("10000", "both", "1")[len(sys.argv) - 1 :]]
    sys.exit(main(int(given[0]), given[1], int(given[2])))
