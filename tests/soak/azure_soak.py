"""Jobs on the Azure emulators: 10,000 tasks on 5 instances, without faults and with all faults.

Faults: the oldest spot instance is evicted every few seconds, two zones have no capacity, 3% of all calls to Resource
Manager and the queues fail, half of them after they took effect, and the controller is killed twice and resumed. Run by
`dev.py soak`; arguments: tasks (10000), mode (both, plain or faults), seed. Exits with code 1 unless every task is
counted once, and no machine, disk, interface, network, group, queue or blob is left.
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

from azure_desk import AzureCloud, AzureDesk, azure_cloud  # noqa: E402 - on the path set above
from azurite import azurite_server  # noqa: E402

_TIMEOUT = 1800.0
_KILLS = 2
_SHARE = 0.03
_BETWEEN_EVICTIONS = 5.0
_NOTICE = 10.0
"""Notice before an eviction in seconds, for workers that poll every three seconds. Azure gives thirty."""


def without_faults(folder: Path, tasks: int, seed: int) -> bool:
    """Run the job without faults."""
    with azurite_server() as storage, azure_cloud(folder, storage, seed=seed) as cloud:
        desk = AzureDesk(folder / "desk", cloud)
        desk.configure(max_instances=5, min_instances=5)
        desk.tasks(tasks)
        started = time.monotonic()
        with closing(desk):
            code = desk.run_job("--task-file", "tasks.json", patience=_TIMEOUT)
        return _judge("plain", desk, cloud, tasks, code, time.monotonic() - started)


def with_faults(folder: Path, tasks: int, seed: int) -> bool:
    """Run the job with all faults."""
    source = random.Random(seed)
    with azurite_server() as storage, azure_cloud(folder, storage, seed=seed) as cloud:
        desk = AzureDesk(folder / "desk", cloud)
        desk.configure(
            max_instances=5,
            min_instances=5,
            use_spot=True,
            max_losses=200,
            shutdown_grace_period=1,
            keepalive_interval=2,
            keepalive_timeout=30,
        )
        desk.tasks(tasks)
        cloud.arm.stock_out({"zone": "eastus-1", "purchase": "spot"}, {"zone": "eastus-2", "purchase": "spot"})
        cloud.arm.times(preemption=_NOTICE)
        cloud.trouble(_SHARE)
        started = time.monotonic()
        with closing(desk), _evictions(cloud):
            code = _run_and_kill(desk, source)
        cloud.trouble(0)
        return _judge("faults", desk, cloud, tasks, code, time.monotonic() - started)


@contextmanager
def _evictions(cloud: AzureCloud) -> Iterator[None]:
    """Evict the oldest spot instance every few seconds."""
    over = threading.Event()

    def evict() -> None:
        while not over.wait(_BETWEEN_EVICTIONS):
            cloud.arm.evict(oldest=1)

    thread = threading.Thread(target=evict)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _run_and_kill(desk: AzureDesk, source: random.Random) -> int:
    """Run the job; kill its controller repeatedly while tasks run, and resume it."""
    deadline = time.monotonic() + _TIMEOUT
    process = desk.start("--task-file", "tasks.json")
    for _ in range(_KILLS):
        time.sleep(source.uniform(8, 15))  # some progress before the kill
        done = desk.done()
        while process.poll() is None and desk.done() < done + source.randint(200, 600):
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = desk.start("--continue")
    return process.wait(max(1.0, deadline - time.monotonic()))


def _judge(mode: str, desk: AzureDesk, cloud: AzureCloud, tasks: int, code: int, elapsed: float) -> bool:
    status, state, sums = desk.status(), cloud.arm.state(), desk.sums()
    counts = {name: count for name, count in status["counts"].items() if count}
    print(
        f"{mode}: {tasks} tasks in {elapsed:.0f} s ({tasks / elapsed:.0f}/s): {counts}, exit code {code}; "
        f"attempts {status['attempts']}, interruptions {status['losses']}, {len(state['creations'])} creations, "
        f"{len(state['evicted'])} evictions, {state['struck']} of {state['calls']} calls of Resource Manager and "
        f"{cloud.faults.wire.struck} of {len(cloud.faults.wire.calls)} calls of the queues failed",
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
        print(desk.log()[-6000:])
    return not found


def _left(cloud: AzureCloud) -> dict[str, list[str]]:
    """Return the resources left after asynchronous deletions."""
    deadline = time.monotonic() + 30
    while (found := cloud.left()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def main(tasks: int = 10_000, mode: str = "both", seed: int = 1) -> int:
    passed = True
    for name, run in (("plain", without_faults), ("faults", with_faults)):
        if mode in (name, "both"):
            with tempfile.TemporaryDirectory(prefix=f"cloud-tasks-azure-{name}-") as folder:
                passed &= run(Path(folder).resolve(), tasks, seed)
    return 0 if passed else 1


if __name__ == "__main__":
    given = [*sys.argv[1:4], *("10000", "both", "1")[len(sys.argv) - 1 :]]
    sys.exit(main(int(given[0]), given[1], int(given[2])))
