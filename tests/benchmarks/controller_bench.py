"""Cost of the controller: event collection, a scaling check of a large fleet, a cost simulation; each with a reference.

python tests/benchmarks/controller_bench.py [--events 200000] [--tasks 1000000] [--instances 1000]
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from cloud_tasks.controller.autoscaler.decide import decide
from cloud_tasks.controller.autoscaler.fleet import Fleet
from cloud_tasks.controller.autoscaler.observe import StateBuilder
from cloud_tasks.controller.autoscaler.state import Policy
from cloud_tasks.controller.deferred_writes import DeferredWrites
from cloud_tasks.controller.event_loop import ThreadedLoop
from cloud_tasks.controller.messaging.enqueuer import TaskEnqueuer
from cloud_tasks.controller.messaging.event_collector import EventCollector
from cloud_tasks.estimate import CloudModel, CostSimulation, TaskDurations
from cloud_tasks.model import (
    Architecture,
    BootDisk,
    Instance,
    InstanceState,
    InstanceType,
    LaunchRequest,
    Limits,
    Money,
    Offer,
    PriceBreakdown,
    ProvisioningModel,
    Task,
)
from cloud_tasks.plugin import Compute, Delivery, Depth, Queue
from cloud_tasks.selection import RankedOffer
from cloud_tasks.store import JobRecord, Store

SLOTS = 8
PER_MESSAGE = 50
EVENTS_GOAL = 15_000
CHECK_GOAL_MS = 50.0
SIMULATION_GOAL = 60.0


class Inbox:
    """A queue in memory, to measure the controller without a provider."""

    def __init__(self, bodies: Sequence[bytes]) -> None:
        self._waiting = deque(bodies)
        self._number = 0

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        found: list[Delivery] = []
        while self._waiting and len(found) < max_messages:
            self._number += 1
            found.append(Delivery(lease_id=str(self._number), body=self._waiting.popleft(), delivery_count=1))
        return found

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        return ()

    def depth(self) -> Depth:
        return Depth(visible=None, in_flight=None, exact=False, as_of=datetime.now(UTC))


def job() -> JobRecord:
    return JobRecord(job_id="bench", queue_name="bench", run_id="run", created_at=datetime.now(UTC))


def tasks(count: int) -> Iterator[Task]:
    return (Task(task_id=f"addition-task-{n:07}", data={"num1": n, "num2": -n}) for n in range(count))


def messages(count: int, *, hosts: int) -> list[bytes]:
    """Return messages with the start and completion events of ``count`` tasks, as sent by workers."""
    now = datetime.now(UTC).isoformat()
    found: list[bytes] = []
    batch: list[dict[str, Any]] = []
    for n in range(count):
        host = n // (PER_MESSAGE // 2) % hosts
        common = {
            "timestamp": now,
            "hostname": f"host-{host}",
            "instance_id": f"i-{host}",
            "task_id": f"addition-task-{n:07}",
            "attempt": 1,
        }
        batch.append({**common, "event_type": "task_started", "event_id": f"{host}-{2 * n}", "slot": n % SLOTS})
        ended = {"event_type": "task_completed", "event_id": f"{host}-{2 * n + 1}", "retry": False}
        batch.append({**common, **ended, "elapsed_time": 1.25, "result": n})
        if len(batch) >= PER_MESSAGE:
            found.append(json.dumps(batch, separators=(",", ":")).encode())
            batch = []
    return found


def bare_inserts(folder: Path, bodies: Sequence[bytes]) -> tuple[float, float]:
    """Return events per second, and per second of CPU time, for JSON decoding and a plain insert."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE events (event_id TEXT PRIMARY KEY, body TEXT)")
    count = 0
    started, worked = time.perf_counter(), time.process_time()
    for first in range(0, len(bodies), 500):
        events = [event for body in bodies[first : first + 500] for event in json.loads(body)]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO events VALUES (?, ?)", [(event["event_id"], json.dumps(event)) for event in events]
        )
        connection.execute("COMMIT")
        count += len(events)
    rates = count / (time.perf_counter() - started), count / (time.process_time() - worked)
    connection.close()
    return rates


def collect(folder: Path, bodies: Sequence[bytes], count: int) -> tuple[float, float]:
    """Return events per second, and per second of CPU time, from an event queue into a durable store."""
    with Store.create(folder / "collect.db", job()) as store:
        store.load_tasks(tasks(count))
        loop = ThreadedLoop(threads=2)
        collector = EventCollector(loop, store, cast(Queue, Inbox(bodies)))
        started, worked = time.perf_counter(), time.process_time()
        collector.start()
        loop.run(lambda: store.remaining() == 0)
        rates = 2 * count / (time.perf_counter() - started), 2 * count / (time.process_time() - worked)
        collector.stop()
        loop.run(lambda: collector.stopped)
        loop.close()
    return rates


def make_offer(zone: str = "z-a") -> RankedOffer:
    kind = InstanceType(
        name="m-8", vcpus=SLOTS, memory_gb=32, architecture=Architecture.X86_64, zones=("z-a", "z-b", "z-c")
    )
    offer = Offer(
        instance_type=kind,
        zone=zone,
        provisioning_model=ProvisioningModel.SPOT,
        boot_disk=BootDisk(disk_type="", size_gb=10),
        price=PriceBreakdown(cpu=Money("0.25")),
        priced_at=datetime.now(UTC),
    )
    return RankedOffer(offer=offer, slots=SLOTS, price_per_slot=offer.price_per_hour / SLOTS)


def scaling_checks(folder: Path, count: int, machines: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of scaling checks, wall and CPU time, each after events of every instance."""
    now = datetime.now(UTC)
    with Store.create(folder / "check.db", job(), durable=False) as store:
        store.load_tasks(tasks(count))
        listing = []
        for n in range(machines):
            ranked = make_offer(f"z-{'abc'[n % 3]}")
            request = LaunchRequest(
                client_token=f"t{n}", job_id="bench", offer=ranked.offer, startup_script="", labels={}
            )
            store.record_intents([request], now, slots=SLOTS)
            instance = Instance(
                instance_id=f"i-{n}",
                job_id="bench",
                state=InstanceState.RUNNING,
                instance_type="m-8",
                zone=ranked.offer.zone,
                provisioning_model=ProvisioningModel.SPOT,
                created_at=now,
                client_token=f"t{n}",
            )
            store.record_launched(f"t{n}", instance)
            listing.append(instance)
        loop = ThreadedLoop(threads=1)
        queue = cast(Queue, Inbox(messages(machines * PER_MESSAGE * 4, hosts=machines)))
        collector = EventCollector(loop, store, queue)
        fleet = Fleet(
            loop,
            store,
            cast(Compute, None),
            job_id="bench",
            compose=None,  # type: ignore[arg-type]
            max_parallel=1,
            on_refused=lambda: None,
        )
        observer = StateBuilder(
            loop,
            store,
            enqueuer=TaskEnqueuer(loop, store, queue, on_broken=print),
            collector=collector,
            fleet=fleet,
            writes=DeferredWrites(loop, store),
            offers=tuple(make_offer(f"z-{letter}") for letter in "abc"),
            policy=Policy(limits=Limits(max_instances=machines, max_total_price_per_hour=None)),
        )
        spans: list[float] = []
        work: list[float] = []
        while deliveries := queue.receive(2 * machines, wait=timedelta(0)):
            collector._apply([_read(delivery) for delivery in deliveries])
            started, worked = time.perf_counter(), time.thread_time()
            decide(observer.observe(listing, None))
            spans.append(1000 * (time.perf_counter() - started))
            work.append(1000 * (time.thread_time() - worked))
        loop.close()
    return spans, work


def _read(delivery: Delivery) -> Any:
    from cloud_tasks.controller.messaging.event_collector import _Message

    return _Message(delivery, datetime.now(UTC), "run")


def simulate(count: int) -> float:
    """Return the seconds of one cost simulation on 100 instances with spot interruptions."""
    started = time.perf_counter()
    CostSimulation(
        1,
        tasks=count,
        durations=TaskDurations.about(60),
        offers=(make_offer(),),
        policy=Policy(limits=Limits(max_instances=100, max_total_price_per_hour=None)),
        interval=timedelta(seconds=60),
        cloud=CloudModel(spot_lifetime=timedelta(hours=8), refused=0.05),
    ).run()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--instances", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cloud-tasks-bench-") as name:
        folder = Path(name)
        count = options.events // 2 // (PER_MESSAGE // 2) * (PER_MESSAGE // 2)
        bodies = messages(count, hosts=100)
        bare, bare_work = bare_inserts(folder, bodies)
        rate, work_rate = collect(folder, bodies, count)
        print(
            f"collector: {rate:,.0f} events/s into a durable store ({work_rate:,.0f} per second of CPU time); "
            f"goal {EVENTS_GOAL:,} ({rate / EVENTS_GOAL:.2f} x)"
        )
        print(
            f"  bare JSON and one table: {bare:,.0f} events/s, {bare_work:,.0f} per second of CPU time "
            f"(collector: {work_rate / bare_work:.2f} x)"
        )
        spans, work = scaling_checks(folder, options.tasks, options.instances)
        median = statistics.median(spans)
        print(
            f"scaling check: {options.instances:,} instances, {options.tasks:,} tasks, events of all instances: median "
            f"{median:.1f} ms (CPU time {statistics.median(work):.1f} ms), maximum {max(spans):.1f} ms; "
            f"goal {CHECK_GOAL_MS:.0f} ms ({median / CHECK_GOAL_MS:.2f} x)"
        )
        span = simulate(options.tasks)
        print(
            f"cost simulation: {options.tasks:,} tasks on 100 instances in {span:.1f} s; goal {SIMULATION_GOAL:.0f} s "
            f"({span / SIMULATION_GOAL:.2f} x)"
        )


if __name__ == "__main__":
    main()
