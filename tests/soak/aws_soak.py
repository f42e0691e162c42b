"""Jobs on fakes of AWS: 10,000 tasks on 5 instances without faults, then with faults.

Faults: spot instances are interrupted every few seconds, one zone has no capacity, 5% of all calls are throttled,
responses are cut after the effect, and the controller is killed and resumed twice.

Run by `dev.py soak`; arguments: tasks (10000), scenario (both, normal or faults), seed. The exit code is 1 unless every
task is counted once, no instance runs and no queue is left.
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

_CLOUDS = Path(__file__).resolve().parents[1] / "clouds"
sys.path[:0] = [str(_CLOUDS / "support"), str(_CLOUDS / "aws" / "support")]

from aws_cloud import AwsCloud, AwsJobFolder, aws_cloud  # noqa: E402 - on the path set above

_TIMEOUT = 1800.0
_KILLS = 2
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
        code = job_folder.run_job("--task-file", "tasks.json", timeout=_TIMEOUT)
        return _judge("normal", job_folder, cloud, tasks, code, time.monotonic() - started)


def run_with_faults(folder: Path, tasks: int, seed: int) -> bool:
    """Run the job with all faults; return whether it passed."""
    options = ["--seed", str(seed), "--spot-lifetime", "12", "--spot-notice", "3"]
    source = random.Random(seed)
    with (
        aws_cloud(folder, options) as cloud,
        closing(AwsJobFolder(folder / "job_folder", cloud.environment(folder / "cache"))) as job_folder,
    ):
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
        cloud.overlay.control("stock-out", zone="us-east-1a", provisioning_model="spot")
        cloud.overlay.control("faults", throttle=_THROTTLED, error=_BROKEN, reset=_BROKEN, cut=_CUT)
        started = time.monotonic()
        code = _run_and_kill(job_folder, source)
        cloud.overlay.control("faults")
        return _judge("faults", job_folder, cloud, tasks, code, time.monotonic() - started)


def _run_and_kill(job_folder: AwsJobFolder, source: random.Random) -> int:
    """Run the job while killing and resuming its controller; return the final exit code."""
    deadline = time.monotonic() + _TIMEOUT
    process = job_folder.start(*job_folder.run_arguments("--task-file", "tasks.json"))
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
            process = job_folder.start(*job_folder.run_arguments("--continue"))
    return process.wait(max(1.0, deadline - time.monotonic()))


def _judge(scenario: str, job_folder: AwsJobFolder, cloud: AwsCloud, tasks: int, code: int, elapsed: float) -> bool:
    status = job_folder.status()
    state = cloud.overlay.state()
    counts: dict[str, Any] = {name: count for name, count in status["counts"].items() if count}
    print(
        f"{scenario}: {tasks} tasks in {elapsed:.0f} s ({tasks / elapsed:.0f}/s): {counts}, exit code {code}; "
        f"attempts {status['attempts']}, interruptions {status['losses']}, {len(state['instances'])} instances, "
        f"{state['interruptions']} reclaimed instances, faults {state['injected']}",
        flush=True,
    )
    problems = {
        "exit code": code,
        "counts": counts if counts != {"completed": tasks} else None,
        "wrong sums": _wrong_sums(job_folder, tasks),
        "running instances": cloud.overlay.alive(),
        "queues left": cloud.queues(),
    }
    found = {name: problem for name, problem in problems.items() if problem}
    if found:
        print(f"FAILED: {found}; end of the log:")
        print(job_folder.log()[-6000:])
    return not found


def _wrong_sums(job_folder: AwsJobFolder, tasks: int) -> int:
    """Return the number of tasks without a result or with a wrong one."""
    sums = job_folder.sums()
    return sum(sums.get(f"task-{number:05d}") != number + 1 for number in range(1, tasks + 1))


def main(tasks: int = 10_000, scenario: str = "both", seed: int = 1) -> int:
    passed = True
    for name, run in (("normal", run_normally), ("faults", run_with_faults)):
        if scenario in (name, "both"):
            with tempfile.TemporaryDirectory(prefix=f"cloud-tasks-aws-{name}-") as folder:
                passed &= run(Path(folder).resolve(), tasks, seed)
    return 0 if passed else 1


if __name__ == "__main__":
    given = [*sys.argv[1:4], *("10000", "both", "1")[len(sys.argv) - 1 :]]
    sys.exit(main(int(given[0]), given[1], int(given[2])))
