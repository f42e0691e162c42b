"""Jobs on fakes of Azure: 10,000 tasks on 5 instances without faults, then with faults.

Faults: the oldest spot VM is evicted every few seconds, two zones have no capacity, 3% of all calls to Resource Manager
and to the queues fail (half of them after their effect), and the controller is killed and resumed twice.

Run by `dev.py soak`; arguments: tasks (10000), scenario (both, normal or faults), seed. The exit code is 1 unless every
task is counted once, none is repeated without faults, there were evictions and failed calls with faults, and nothing is
left: no VM, disk, interface, address, network, group, queue or blob.
"""

from __future__ import annotations

import random
import sys
import time
from contextlib import closing
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [
    str(_ROOT / each) for each in ("tests/clouds/support", "tests/clouds/azure/support", "core/tests/support")
]

from azure_job_folder import AzureCloud, AzureJobFolder, azure_cloud  # noqa: E402 - on the path set above
from azurite import azurite_server  # noqa: E402
from soak_job import FAULTY_RUN, TIMEOUT, CloudState, completed, repeating, run_and_kill, run_scenarios  # noqa: E402

_SHARE = 0.03
_BETWEEN_EVICTIONS = 5.0
_NOTICE = 10.0
"""Seconds between notice and eviction, more than the three seconds between two polls. Azure gives at least 30."""


def run_normally(folder: Path, tasks: int, seed: int) -> bool:
    """Run the job without faults; return whether it passed."""
    with azurite_server() as storage, azure_cloud(folder, storage, seed=seed, is_proxied=False) as cloud:
        job_folder = AzureJobFolder(folder / "job_folder", cloud)
        # The lease of a job, and no proxy: where acks take seconds, shorter leases end before them.
        job_folder.configure(max_instances=5, min_instances=5, lease=60)
        job_folder.tasks(tasks)
        started = time.monotonic()
        with closing(job_folder):
            code = job_folder.run_job("--task-file", "tasks.json", timeout=TIMEOUT)
        seconds = time.monotonic() - started
        return completed("normal", job_folder, _state(cloud), tasks=tasks, code=code, seconds=seconds)


def run_with_faults(folder: Path, tasks: int, seed: int) -> bool:
    """Run the job with all faults; return whether it passed."""
    source = random.Random(seed)
    with azurite_server() as storage, azure_cloud(folder, storage, seed=seed) as cloud:
        job_folder = AzureJobFolder(folder / "job_folder", cloud)
        job_folder.configure(**FAULTY_RUN, public_address=True, lease=30)
        job_folder.tasks(tasks)
        cloud.arm.stock_out(
            {"zone": "eastus-1", "provisioning_model": "spot"}, {"zone": "eastus-2", "provisioning_model": "spot"}
        )
        cloud.arm.times(preemption=_NOTICE)
        cloud.inject_faults(_SHARE)
        started = time.monotonic()
        with closing(job_folder), repeating(lambda: cloud.arm.evict(oldest=1), pause=_BETWEEN_EVICTIONS):
            code = run_and_kill(job_folder.start, job_folder, source)
        cloud.inject_faults(0)
        seconds = time.monotonic() - started
        return completed("faults", job_folder, _state(cloud), tasks=tasks, code=code, seconds=seconds)


def _state(cloud: AzureCloud) -> CloudState:
    state, queues = cloud.arm.state(), cloud.faults.server
    return CloudState(
        faults=f"{len(state['creations'])} creations, {len(state['evicted'])} evictions, {state['struck']} of "
        f"{state['calls']} calls of Resource Manager failed, and {queues.struck} of {len(queues.calls)} of the queues",
        preemptions=len(state["evicted"]),
        failed_calls=state["struck"] + queues.struck,
        left=_left(cloud),
    )


def _left(cloud: AzureCloud) -> dict[str, list[str]]:
    """Return everything that still exists after the deletions that Azure completes in the background."""
    deadline = time.monotonic() + 30
    while (found := cloud.left()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


if __name__ == "__main__":
    sys.exit(run_scenarios({"normal": run_normally, "faults": run_with_faults}))
