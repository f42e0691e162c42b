"""Requests per task on SQS, counted by a proxy in front of the emulator: the part of the cost that a job can influence.

    python tests/benchmarks/sqs_requests_bench.py [--slots 4] [--seconds 20]

One worker runs tasks of equal length that are sent before, while this program receives the events as the controller
does. Polls that return nothing depend on the number of workers, and are not counted.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "clouds" / "aws" / "support"), str(ROOT / "tests" / "clouds" / "support")]
sys.path[:0] = [str(ROOT / "core" / "tests" / "support")]

from sqs_emulator import sqs_server  # noqa: E402 - found by the path above
from sqs_faults import SqsFaults  # noqa: E402

from cloud_tasks.convert import decode_events, encode_task_message  # noqa: E402
from cloud_tasks.model import EventType, TaskMessage  # noqa: E402
from cloud_tasks.plugin import Queue, QueueContext  # noqa: E402
from cloud_tasks_aws.queue.factory import open_queue  # noqa: E402
from cloud_tasks_aws.settings import AwsSettings  # noqa: E402

PROGRAM = """
import sys, time
from cloud_tasks.worker import Worker
def task(task_id, data, worker_data):
    time.sleep(data["seconds"])
    return False, "done"
Worker(task, args=sys.argv[1:]).run()
"""
KINDS = ("SendMessageBatch", "ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch")


def measure(seconds: float, *, slots: int, duration: float) -> dict[str, float]:
    """Return the requests per task by kind, those about events with a prefix."""
    count = max(10, int(slots * duration / seconds))
    with ExitStack() as stack:
        proxy = SqsFaults(stack.enter_context(sqs_server()))
        stack.enter_context(proxy.server.serving())
        settings = AwsSettings(access_key="stand", secret_key="in", sqs_endpoint=proxy.url)
        tasks, events = (
            stack.enter_context(open_queue(settings, _context(name))) for name in ("bench", "bench-events")
        )
        for queue in (tasks, events):
            queue.create()
        bodies = [encode_task_message(TaskMessage(task_id=f"t{n}", data={"seconds": seconds})) for n in range(count)]
        assert not tasks.send(bodies)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "program.py").write_text(PROGRAM)
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL_SQS": proxy.url,
            "AWS_ACCESS_KEY_ID": "stand",
            "AWS_SECRET_ACCESS_KEY": "in",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        options = [
            "--queue",
            "aws",
            "--queue-name",
            "bench",
            "--job-id",
            "bench",
            "--num-simultaneous-tasks",
            str(slots),
        ]
        command = [sys.executable, "program.py", *options, "--idle-limit", "60"]
        worker = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)
        stack.callback(worker.wait)
        stack.callback(worker.kill)
        _collect(events, count)
        return _per_task(proxy, count)


def _context(name: str) -> QueueContext:
    lease = timedelta(seconds=60)
    return QueueContext(job_id="bench", name=name, lease=lease, region="us-east-1", for_events=name.endswith("events"))


def _collect(events: Queue, count: int) -> None:
    done = 0
    while done < count:
        deliveries = events.receive(100, wait=timedelta(seconds=5))
        for delivery in deliveries:
            found = decode_events(delivery.body)[0]
            done += sum(event.event_type is EventType.TASK_COMPLETED for event in found)
        if deliveries:
            events.ack([delivery.lease_id for delivery in deliveries])


def _per_task(proxy: SqsFaults, count: int) -> dict[str, float]:
    found: Counter[str] = Counter()
    for action, arguments in proxy.requests:
        if action in KINDS:
            found[("events: " if "-events" in arguments["QueueUrl"] else "") + action] += 1
    for url, empty in proxy.empty.items():
        found[("events: " if "-events" in url else "") + "ReceiveMessage"] -= empty
    return {name: number / count for name, number in sorted(found.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description="Requests per task on SQS")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0, help="run time of each measurement")
    options = parser.parse_args()
    for seconds in (0.02, 0.1, 0.5, 4.0):
        found = measure(seconds, slots=options.slots, duration=options.seconds)
        parts = ", ".join(f"{name} {number:.2f}" for name, number in found.items())
        print(f"{seconds:5.2f} s: {sum(found.values()):.2f} requests per task ({parts})", flush=True)


if __name__ == "__main__":
    main()
