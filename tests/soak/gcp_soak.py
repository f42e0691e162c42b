"""Jobs on fakes of Google Cloud: 10,000 tasks on 5 instances without faults, then with faults.

Faults: every few seconds the oldest spot instance is preempted; two zones have no capacity; 5% of all API calls fail,
half of them after their effect, with the answers of `_ANSWERS` in turn; at times a zone does not answer listings; and
the controller is killed and resumed twice.

Run by `dev.py soak`; arguments: tasks (10000), scenario (both, normal or faults), seed. The exit code is 1 unless every
task is counted once, and no instance, disk, topic or subscription is left; without faults, each task runs once;
with faults, there were preemptions and failed calls.
"""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [
    str(_ROOT / each) for each in ("tests/clouds/support", "tests/clouds/gcp/support", "core/tests/support")
]

import grpc  # noqa: E402 - on the path set above
from billing_fake import google_error  # noqa: E402
from fake_server import Fault  # noqa: E402
from gcp_job_folder import REFERENCE_OPTIONS, GcpJobFolder, gcp_job_folder  # noqa: E402
from soak_job import FAULTY_RUN, TIMEOUT, CloudState, completed, repeating, run_and_kill, run_scenarios  # noqa: E402

_SHARE = 0.05
_BETWEEN_TROUBLES = 4.0
_RATE_LIMIT = google_error(429, "RATE_LIMIT_EXCEEDED", "Quota exceeded for queries per minute", name="UNAVAILABLE")
_ANSWERS = (
    (Fault(share=_SHARE), grpc.StatusCode.UNAVAILABLE),
    (Fault(share=_SHARE, status=500), grpc.StatusCode.INTERNAL),
    (Fault(share=_SHARE, status=None), grpc.StatusCode.CANCELLED),
    (Fault(share=_SHARE, status=429, body=_RATE_LIMIT.body), grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Fault(share=_SHARE, status=504), grpc.StatusCode.DEADLINE_EXCEEDED),
    (Fault(share=_SHARE, status=502), grpc.StatusCode.ABORTED),
)
"""Answers of failed calls: over HTTP, where None closes the connection, and over gRPC."""
_FAST: dict[str, Any] = {"scaling_check_interval": 1, "instance_termination_delay": 0}
_SILENT_ZONES = ((), ("europe-west1-b",), ("us-central1-c",))


def run_normally(folder: Path, tasks: int, seed: int) -> bool:
    """Run the job without faults; return whether it passed."""
    with gcp_job_folder(folder, seed=seed) as job_folder:
        job_folder.configure(min_instances=5, **_FAST)
        job_folder.tasks(tasks)
        started = time.monotonic()
        code = _start(job_folder, "--task-file", "tasks.json").wait(TIMEOUT)
        seconds = time.monotonic() - started
        return completed("normal", job_folder, _state(job_folder), tasks=tasks, code=code, seconds=seconds)


def run_with_faults(folder: Path, tasks: int, seed: int) -> bool:
    """Run the job with all faults; return whether it passed."""
    with gcp_job_folder(folder, faults=True, seed=seed) as job_folder:
        # Tasks that take a while are interrupted by preemptions.
        job_folder.configure(environment="export ADDITION_TASK_DELAY=0.3", **FAULTY_RUN, **_FAST)
        job_folder.tasks(tasks)
        job_folder.gce.stock_out({"zone": "us-central1-a"}, {"zone": "us-central1-b"})
        started = time.monotonic()
        with _troubles(job_folder):
            code = run_and_kill(lambda *arguments: _start(job_folder, *arguments), job_folder, random.Random(seed))
        seconds = time.monotonic() - started
        return completed("faults", job_folder, _state(job_folder), tasks=tasks, code=code, seconds=seconds)


def _start(job_folder: GcpJobFolder, *arguments: str) -> subprocess.Popen[str]:
    return job_folder.start("run", "--config", "config.yml", *REFERENCE_OPTIONS, *arguments)


def _troubles(job_folder: GcpJobFolder) -> AbstractContextManager[None]:
    """Cause the faults that change every few seconds."""
    answers, silent_zones = itertools.cycle(_ANSWERS), itertools.cycle(_SILENT_ZONES)

    def cause() -> None:
        job_folder.fail(*next(answers))
        job_folder.gce.unreachable(*next(silent_zones))
        job_folder.gce.preempt(oldest=1)

    return repeating(cause, pause=_BETWEEN_TROUBLES)


def _state(job_folder: GcpJobFolder) -> CloudState:
    state = job_folder.gce.state()
    preemptions, failed_calls = len(state["preempted"]), job_folder.count_faults()
    return CloudState(
        faults=f"{len(state['inserts'])} launches, {preemptions} preemptions, {failed_calls} failed calls",
        preemptions=preemptions,
        failed_calls=failed_calls,
        left=job_folder.left_in_the_cloud(),
    )


if __name__ == "__main__":
    sys.exit(run_scenarios({"normal": run_normally, "faults": run_with_faults}))
