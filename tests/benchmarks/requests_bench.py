"""Requests per task on the queues of the three clouds, counted by proxies in front of their emulators.

    python tests/benchmarks/requests_bench.py [--slots 4] [--seconds 20] [--queues aws gcp azure] [--lengths 0.02 0.5]

One worker runs tasks of equal length that are sent before, while this program receives the events as the controller
does. Receiving requests without a message depend on the number of workers, and are not counted. For Pub/Sub, which is
billed by volume, the last column is the volume per task that these requests are billed for.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import grpc

ROOT = Path(__file__).parents[2]
PARTS = ["core/tests/support", *(f"tests/clouds/{each}support" for each in ("", "aws/", "gcp/", "azure/"))]
sys.path[:0] = [str(ROOT / each) for each in PARTS]

from azurite import azurite_server  # noqa: E402 - found by the path above
from fake_server import Answer, Request  # noqa: E402
from pubsub_emulator import pubsub_emulator  # noqa: E402
from pubsub_faults import PubSubFaults  # noqa: E402
from sqs_emulator import sqs_server  # noqa: E402
from storage_faults import StorageFaults  # noqa: E402

from cloud_tasks.convert import decode_events, encode_task_message  # noqa: E402
from cloud_tasks.model import EventType, TaskMessage  # noqa: E402
from cloud_tasks.plugin import Queue, QueueContext  # noqa: E402
from cloud_tasks.registry import Registry  # noqa: E402
from cloud_tasks.worker.supervisor.environment import settings_from_environment  # noqa: E402

PROGRAM = """
import sys, time
from cloud_tasks.worker import Worker
def task(task_id, data, worker_data):
    time.sleep(data["seconds"])
    return False, "done"
Worker(task, args=sys.argv[1:]).run()
"""
PROJECT = "emulator"
LENGTHS = (0.02, 0.1, 0.5, 4.0)
KINDS = ("send", "receive", "ack", "extend", "events: send", "events: receive", "events: ack")
LEAST_BYTES = 1000
"""Billed for a request of Pub/Sub that has fewer ("Pub/Sub pricing")."""
SQS = {
    "SendMessageBatch": "send",
    "ReceiveMessage": "receive",
    "DeleteMessageBatch": "ack",
    "ChangeMessageVisibilityBatch": "extend",
}
PUBSUB = {"Publish": "send", "Pull": "receive", "Acknowledge": "ack", "ModifyAckDeadline": "extend"}
STORAGE = {"POST": "send", "GET": "receive", "DELETE": "ack", "PUT": "extend"}


@attrs.define
class Counts:
    """Requests by kind, and the volume that Pub/Sub bills. Thread-safe."""

    requests: Counter[str] = attrs.field(factory=Counter)
    billed_bytes: int = 0
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def add(self, kind: str | None, *, is_event: bool, is_empty: bool, billed_bytes: int = 0) -> None:
        if kind is None or is_empty:
            return
        with self._lock:
            self.requests[f"events: {kind}" if is_event else kind] += 1
            self.billed_bytes += billed_bytes


class HttpProxy(StorageFaults):
    """Proxy of SQS or Storage Queue."""

    def __init__(self, target: str, counts: Counts) -> None:
        super().__init__(target)
        self._counts = counts

    def _forward(self, request: Request) -> Answer:
        answer = super()._forward(request)
        action = request.headers.get("x-amz-target", "").partition("AmazonSQS.")[2]
        if action:
            kind, message = SQS.get(action), b'"Messages"'
        else:
            kind = STORAGE[request.method] if "/messages" in request.path else None
            message = b"<QueueMessage>"
        is_event = b"-events" in request.path.encode() + request.body
        self._counts.add(kind, is_event=is_event, is_empty=kind == "receive" and message not in answer.body)
        return answer


class PubSubProxy(grpc.GenericRpcHandler):
    """Proxy of Pub/Sub, in front of that with faults."""

    def __init__(self, inner: PubSubFaults, counts: Counts) -> None:
        self._inner = inner
        self._counts = counts

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        kind = PUBSUB.get(handler_call_details.method.rpartition("/")[2])
        forward: Any = self._inner.service(handler_call_details).unary_unary

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            content: bytes = forward(request, context)
            size = {"send": len(request), "receive": len(content)}.get(kind or "")
            self._counts.add(
                kind,
                is_event=b"-events" in request,
                is_empty=kind == "receive" and not content,
                billed_bytes=0 if size is None else max(LEAST_BYTES, size),
            )
            return content

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def sqs(counts: Counts) -> Iterator[dict[str, str]]:
    """Run SQS behind a proxy, and yield the environment that points clients there."""
    with sqs_server() as url:
        proxy = HttpProxy(url, counts)
        with proxy.server.serving():
            keys = {"AWS_ACCESS_KEY_ID": "stand", "AWS_SECRET_ACCESS_KEY": "in", "AWS_DEFAULT_REGION": "us-east-1"}
            yield {"AWS_ENDPOINT_URL_SQS": proxy.server.url, **keys}


@contextmanager
def pubsub(counts: Counts) -> Iterator[dict[str, str]]:
    """Run Pub/Sub behind a proxy, as `sqs`."""
    with pubsub_emulator() as address, grpc.insecure_channel(address) as channel:
        server = grpc.server(ThreadPoolExecutor(64), handlers=[PubSubProxy(PubSubFaults(channel), counts)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            prefix = "CLOUD_TASKS_GCP"
            yield {f"{prefix}_PUBSUB_ENDPOINT": f"127.0.0.1:{port}", f"{prefix}_PROJECT_ID": PROJECT}
        finally:
            server.stop(1.0).wait()


@contextmanager
def storage_queue(counts: Counts) -> Iterator[dict[str, str]]:
    """Run Storage Queue behind a proxy, as `sqs`."""
    with azurite_server() as account:
        proxy = HttpProxy(account.queue_endpoint, counts)
        with proxy.server.serving():
            yield dict(attrs.evolve(account, queue_endpoint=proxy.endpoint).environment)


QUEUES = {"aws": sqs, "gcp": pubsub, "azure": storage_queue}


def measure(backend: str, seconds: float, *, slots: int, duration: float) -> tuple[int, Counts]:
    """Return the number of tasks, and the requests for them."""
    count = max(slots, int(slots * duration / seconds))
    counts = Counts()
    with ExitStack() as stack:
        environment = {**os.environ, **stack.enter_context(QUEUES[backend](counts))}
        os.environ.update(environment)
        tasks, events = (stack.enter_context(_opened(backend, name)) for name in ("bench", "bench-events"))
        for queue in (tasks, events):
            queue.create()
        bodies = [encode_task_message(TaskMessage(task_id=f"t{n}", data={"seconds": seconds})) for n in range(count)]
        assert not tasks.send(bodies)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "program.py").write_text(PROGRAM)
        options = {
            "--queue": backend,
            "--queue-name": "bench",
            "--job-id": "bench",
            "--num-simultaneous-tasks": str(slots),
            "--idle-limit": "60",
        }
        command = [sys.executable, "program.py", *(text for option in options.items() for text in option)]
        worker = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)
        stack.callback(worker.wait)
        stack.callback(worker.kill)
        _collect(events, count, worker)
    return count, counts


@contextmanager
def _opened(backend: str, name: str) -> Iterator[Queue]:
    known = Registry(only=[backend]).queue(backend)
    lease = timedelta(seconds=60)
    settings = settings_from_environment(known.settings, backend, os.environ)
    context = QueueContext(job_id="bench", name=name, lease=lease, region=None, for_events=name.endswith("events"))
    with known.open(settings, context) as queue:
        yield queue


def _collect(events: Queue, count: int, worker: subprocess.Popen[bytes]) -> None:
    done = 0
    while done < count:
        assert worker.poll() is None, "the worker has ended"
        deliveries = events.receive(100, wait=timedelta(seconds=5))
        for delivery in deliveries:
            found = decode_events(delivery.body)[0]
            done += sum(event.event_type is EventType.TASK_COMPLETED for event in found)
        if deliveries:
            events.ack([delivery.lease_id for delivery in deliveries])


def main() -> None:
    parser = argparse.ArgumentParser(description="Requests per task on the queues of the clouds")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0, help="run time of each measurement")
    parser.add_argument("--queues", nargs="+", choices=tuple(QUEUES), default=tuple(QUEUES))
    parser.add_argument("--lengths", type=float, nargs="+", default=LENGTHS, help="run times of a task, in seconds")
    options = parser.parse_args()
    print(f"{'task':8}{'queue':8}", *(f"{kind:>15}" for kind in (*KINDS, "sum", "of the first", "bytes")), flush=True)
    for seconds in options.lengths:
        first = None
        for backend in options.queues:
            count, counts = measure(backend, seconds, slots=options.slots, duration=options.seconds)
            total = counts.requests.total() / count
            first = first or total
            parts = [*(counts.requests[kind] / count for kind in KINDS), total, total / first]
            row = [*(f"{each:>15.2f}" for each in parts), f"{counts.billed_bytes / count:>15.0f}"]
            print(f"{f'{seconds:g} s':8}{backend:8}", *row, flush=True)


if __name__ == "__main__":
    main()
