"""Jobs on fakes of AWS: 10,000 tasks on 5 instances without faults, then with faults.

Faults: spot instances are interrupted every few seconds, one zone has no capacity, 5% of all calls are throttled,
responses are cut after the effect, and the controller is killed and resumed twice.

Run by `dev.py soak`; arguments: tasks (10000), scenario (both, normal or faults), seed. The exit code is 1 unless every
task is counted once, and no instance, launch template or queue is left; without faults, each task runs once; with
faults, there were interruptions and failed calls.
"""

from __future__ import annotations

import random
import sys
import time
from contextlib import closing
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [
    str(_ROOT / each) for each in ("tests/clouds/support", "tests/clouds/aws/support", "core/tests/support")
]

from aws_cloud import AwsCloud, AwsJobFolder, aws_cloud  # noqa: E402 - on the path set above
from soak_job import FAULTY_RUN, TIMEOUT, CloudState, completed, run_and_kill, run_scenarios  # noqa: E402

_THROTTLED = 0.05
_CUT = 0.01
_BROKEN = 0.005


def run_normally(folder: Path, tasks: int, seed: int) -> bool:
    """Run the job without faults; return whether it passed."""
    with (
        aws_cloud(folder, ["--seed", str(seed)]) as cloud,
        closing(AwsJobFolder(folder / "job_folder", cloud.environment(folder / "cache"))) as job_folder,
    ):
        job_folder.configure(max_instances=5, min_instances=5)
        job_folder.tasks(tasks)
        started = time.monotonic()
        code = job_folder.run_job("--task-file", "tasks.json", timeout=TIMEOUT)
        seconds = time.monotonic() - started
        return completed("normal", job_folder, _state(cloud), tasks=tasks, code=code, seconds=seconds)


def run_with_faults(folder: Path, tasks: int, seed: int) -> bool:
    """Run the job with all faults; return whether it passed."""
    options = ["--seed", str(seed), "--spot-lifetime", "12", "--spot-notice", "3"]
    source = random.Random(seed)
    with (
        aws_cloud(folder, options) as cloud,
        closing(AwsJobFolder(folder / "job_folder", cloud.environment(folder / "cache"))) as job_folder,
    ):
        job_folder.configure(**FAULTY_RUN)
        job_folder.tasks(tasks)
        cloud.overlay.control("stock-out", zone="us-east-1a", provisioning_model="spot")
        cloud.overlay.control("faults", throttle=_THROTTLED, error=_BROKEN, reset=_BROKEN, cut=_CUT)
        started = time.monotonic()
        code = run_and_kill(
            lambda *arguments: job_folder.start(*job_folder.run_arguments(*arguments)), job_folder, source
        )
        cloud.overlay.control("faults")
        seconds = time.monotonic() - started
        return completed("faults", job_folder, _state(cloud), tasks=tasks, code=code, seconds=seconds)


def _state(cloud: AwsCloud) -> CloudState:
    state = cloud.overlay.state()
    reclaimed, injected = state["interruptions"], state["injected"]
    return CloudState(
        faults=f"{len(state['instances'])} instances, {reclaimed} reclaimed instances, faults {injected}",
        preemptions=reclaimed,
        failed_calls=sum(injected.values()),
        left=[*cloud.overlay.alive(), *state["templates"], *cloud.queues()],
    )


if __name__ == "__main__":
    sys.exit(run_scenarios({"normal": run_normally, "faults": run_with_faults}))
