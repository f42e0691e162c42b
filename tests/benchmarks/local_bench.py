"""Cost of the local provider: queue relative to a SQLite table, instances relative to a bare bash, in one run.

python tests/benchmarks/local_bench.py [--messages 50000] [--instances 10]
"""

from __future__ import annotations

import argparse
import resource
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path

from cloud_tasks.model import BootDisk, LaunchRequest, Offer, OfferRequest, ProvisioningModel
from cloud_tasks.plugin import ComputeContext, PricingContext
from cloud_tasks_local.compute import LocalCompute
from cloud_tasks_local.pricing import open_pricing
from cloud_tasks_local.queue import SqliteQueue, queue_file
from cloud_tasks_local.settings import LocalSettings

LEASE = timedelta(seconds=60)
BATCH = 1000
CONSUMER = """
import sys
from datetime import timedelta
from pathlib import Path
from cloud_tasks_local.queue import SqliteQueue
queue = SqliteQueue(Path(sys.argv[1]), lease=timedelta(seconds=60))
print("ready", flush=True)
sys.stdin.readline()
while deliveries := queue.receive(10, wait=timedelta(0)):
    queue.ack([delivery.lease_id for delivery in deliveries])
queue.close()
"""


def bodies(count: int) -> list[bytes]:
    return [b'{"task_id":"addition-task-%07d","data":{"num1":12345,"num2":-6789}}' % number for number in range(count)]


def bare_inserts(folder: Path, messages: list[bytes]) -> float:
    """Return messages per second inserted into a table without an index."""
    connection = sqlite3.connect(folder / "bare.sqlite3", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE bare (id INTEGER PRIMARY KEY, body BLOB)")
    started = time.perf_counter()
    for start in range(0, len(messages), BATCH):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO bare (body) VALUES (?)", [(body,) for body in messages[start : start + BATCH]]
        )
        connection.execute("COMMIT")
    rate = len(messages) / (time.perf_counter() - started)
    connection.close()
    return rate


def send_rate(queue: SqliteQueue, messages: list[bytes]) -> float:
    started = time.perf_counter()
    for start in range(0, len(messages), BATCH):
        queue.send(messages[start : start + BATCH])
    return len(messages) / (time.perf_counter() - started)


def receive_rate(path: Path, count: int, consumers: int) -> float:
    """Return messages per second received and acked in batches of 10 by several processes."""
    processes = [
        subprocess.Popen([sys.executable, "-c", CONSUMER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(consumers)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    started = time.perf_counter()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    return count / (time.perf_counter() - started)


def wait_latency(queue: SqliteQueue, other: SqliteQueue) -> tuple[float, float]:
    """Return the median latency of a waiting consumer in seconds, and its share of a core."""
    latencies: list[float] = []

    def consume() -> None:
        for _ in range(20):
            (delivery,) = other.receive(1, wait=timedelta(seconds=10))
            latencies.append(time.time() - float(delivery.body))
            other.ack([delivery.lease_id])

    thread = threading.Thread(target=consume)
    thread.start()
    for number in range(20):
        time.sleep(0.1 + number / 100)
        queue.send([b"%f" % time.time()])
    thread.join()
    before = resource.getrusage(resource.RUSAGE_SELF)
    other.receive(1, wait=timedelta(seconds=3))
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return sorted(latencies)[len(latencies) // 2], used / 3


def instances(folder: Path, count: int) -> tuple[float, float, float]:
    """Return the seconds of one launch, of one bare bash, and of terminating all instances."""
    settings = LocalSettings(state_dir=folder)
    compute = LocalCompute(settings, ComputeContext(job_id="bench"))
    request = OfferRequest(
        instance_type=compute.instance_types()[0],
        zone="local-a",
        provisioning_model=ProvisioningModel.ON_DEMAND,
        boot_disk=BootDisk(disk_type="", size_gb=10),
    )
    (offer,) = open_pricing(settings, PricingContext()).price([request])
    assert isinstance(offer, Offer)
    started = time.perf_counter()
    for number in range(count):
        compute.launch(
            LaunchRequest(
                client_token=f"bench{number}", job_id="bench", offer=offer, startup_script="sleep 1000\n", labels={}
            )
        )
    launch = (time.perf_counter() - started) / count
    started = time.perf_counter()
    for _ in range(count):
        subprocess.run(["bash", "-c", "exit"], check=True)
    bash = (time.perf_counter() - started) / count
    started = time.perf_counter()
    compute.terminate([instance.instance_id for instance in compute.instances("bench")])
    return launch, bash, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--instances", type=int, default=10)
    options = parser.parse_args()
    messages = bodies(options.messages)
    with tempfile.TemporaryDirectory() as folder:
        path = queue_file(Path(folder), "bench")
        queue, other = SqliteQueue(path, lease=LEASE), SqliteQueue(path, lease=LEASE)
        queue.create()
        bare, sent = bare_inserts(Path(folder), messages), send_rate(queue, messages)
        print(f"send, batches of {BATCH}: {sent:,.0f}/s, {sent / bare:.2f} of bare inserts ({bare:,.0f}/s)")
        one = receive_rate(path, len(messages), 1)
        send_rate(queue, messages)
        four = receive_rate(path, len(messages), 4)
        print(f"receive and ack, batches of 10: {one:,.0f}/s by 1 process, {four:,.0f}/s by 4 ({four / one:.2f} of 1)")
        latency, share = wait_latency(queue, other)
        print(f"waiting consumer: median latency {latency * 1000:.0f} ms, {share:.1%} of a core while idle")
        launch, bash, ending = instances(Path(folder), options.instances)
        print(f"launch: {launch * 1000:.0f} ms each, {launch / bash:.1f} times a bare bash ({bash * 1000:.0f} ms)")
        print(f"terminate: {ending * 1000:.0f} ms for {options.instances} instances")
        queue.close()
        other.close()


if __name__ == "__main__":
    main()
