"""Rates of loading tasks and applying events, relative to the cost of the parts, measured in one run.

    python tests/benchmarks/load_bench.py [--tasks 1000000] [--events 200000]

Each measurement runs in a separate process, for its peak memory. References: ijson with its C backend reading the same
file; SQLite in WAL mode inserting the same rows in batches of 1,000, without validation, with an index on the task id.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

BATCH = 1000
EVENTS_PER_MESSAGE = 100
MESSAGES_PER_BATCH = 10
HOSTS = 50


def write_task_file(path: Path, count: int) -> None:
    """Write tasks like those of the addition example, indented, about 105 bytes each."""
    with path.open("w") as file:
        file.write("[\n")
        for number in range(count):
            task = {
                "id": f"addition-task-{number:07d}",
                "data": {"num1": (number * 7919) % 200000 - 100000, "num2": (number * 104729) % 200000 - 100000},
            }
            text = "\n".join(f"  {line}" for line in json.dumps(task, indent=2).splitlines())
            file.write(f"{text},\n" if number < count - 1 else f"{text}\n")
        file.write("]\n")


def bare_ijson(path: Path, count: int) -> tuple[int, float]:
    import ijson

    started = time.perf_counter()
    with path.open("rb") as file:
        found = sum(1 for _ in ijson.items(file, "item", use_float=True))
    return found, time.perf_counter() - started


def plain_sqlite(path: Path, count: int) -> tuple[int, float]:
    rows = (
        (f"addition-task-{n:07d}", f'{{"num1":{(n * 7919) % 200000 - 100000},"num2":{(n * 104729) % 200000 - 100000}}}')
        for n in range(count)
    )
    connection = sqlite3.connect(path.with_suffix(".plain"), isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE tasks (task_id TEXT PRIMARY KEY, data TEXT)")
    started = time.perf_counter()
    while batch := list(islice(rows, BATCH)):
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO tasks VALUES (?, ?)", batch)
        connection.execute("COMMIT")
    return count, time.perf_counter() - started


def first_task(path: Path, count: int) -> tuple[int, float]:
    started = time.perf_counter()
    from cloud_tasks.builtin import open_task_source

    with open_task_source(None, path) as source:
        next(iter(source))
    return 1, time.perf_counter() - started


def store_load(path: Path, count: int) -> tuple[int, float]:
    from cloud_tasks.builtin import open_task_source

    with _new_store(path) as store, open_task_source(None, path) as source:
        started = time.perf_counter()
        loaded = store.load_tasks(source)
        store.publish(path.with_suffix(".db"))
        elapsed = time.perf_counter() - started
    return loaded, elapsed


def store_events(path: Path, count: int) -> tuple[int, float]:
    """Decode and apply event messages, up to the commit."""
    from cloud_tasks.convert import decode_events
    from cloud_tasks.model import Event, Task

    tasks = count // 2
    with _new_store(path) as store:
        store.load_tasks(Task(task_id=f"addition-task-{n:07d}", data={"num1": n}) for n in range(tasks))
        batches = list(_batched(_messages(tasks), MESSAGES_PER_BATCH))
        applied = 0
        started = time.perf_counter()
        for bodies in batches:
            events: list[Event] = []
            for body in bodies:
                events.extend(decode_events(body)[0])
            applied += store.apply_events(events).new
        elapsed = time.perf_counter() - started
        assert store.summary().remaining == 0
    return applied, elapsed


def decode_only(path: Path, count: int) -> tuple[int, float]:
    from cloud_tasks.convert import decode_events

    bodies = list(_messages(count // 2))
    started = time.perf_counter()
    decoded = sum(len(decode_events(body)[0]) for body in bodies)
    return decoded, time.perf_counter() - started


def summaries(path: Path, count: int) -> tuple[int, float]:
    from cloud_tasks.model import Task

    with _new_store(path) as store:
        store.load_tasks(Task(task_id=str(n)) for n in range(count))
        started = time.perf_counter()
        for _ in range(BATCH):
            store.summary()
        return BATCH, time.perf_counter() - started


def _new_store(path: Path):  # type: ignore[no-untyped-def]  # its type is imported with the store
    from cloud_tasks.store import JobRecord, Store

    job = JobRecord(job_id="bench", queue_name="bench", run_id="bench", created_at=datetime.now(UTC))
    return Store.create(path.with_suffix(".loading"), job, overwrite=True)


def _messages(tasks: int) -> Iterator[bytes]:
    """Yield event messages as sent by workers: start and end of each task, from several hosts."""
    chance = random.Random(1)
    order = list(range(tasks))
    chance.shuffle(order)
    now = datetime.now(UTC).isoformat()
    for first in range(0, tasks, EVENTS_PER_MESSAGE // 2):
        host = f"bench-instance-{first % HOSTS}"
        events = []
        for number in order[first : first + EVENTS_PER_MESSAGE // 2]:
            task = {"task_id": f"addition-task-{number:07d}", "attempt": 1}
            common = {"timestamp": now, "hostname": host, "instance_id": host, **task}
            start = {"event_type": "task_started", "event_id": uuid.UUID(int=chance.getrandbits(128)).hex}
            end = {"event_type": "task_completed", "event_id": uuid.UUID(int=chance.getrandbits(128)).hex}
            result = {"retry": False, "elapsed_time": chance.lognormvariate(0, 1), "result": "results/addition.txt"}
            events += [{**common, **start}, {**common, **end, **result}]
        yield json.dumps(events).encode()


def _batched(items: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    while batch := list(islice(items, size)):
        yield batch


MEASUREMENTS: dict[str, Callable[[Path, int], tuple[int, float]]] = {
    "bare ijson": bare_ijson,
    "plain SQLite": plain_sqlite,
    "first task": first_task,
    "load": store_load,
    "decode events": decode_only,
    "apply events": store_events,
    "summary": summaries,
}


def measure(name: str, path: Path, count: int) -> tuple[float, float]:
    """Run one measurement in a new process; return seconds per item and peak memory in MB."""
    output = subprocess.run(
        [sys.executable, __file__, "--measure", name, "--file", str(path), "--tasks", str(count)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    done, seconds, memory = json.loads(output)
    return seconds / done, memory


def report(tasks: int, events: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="load-bench-"))
    try:
        path = folder / "tasks.json"
        write_task_file(path, tasks)
        print(f"{tasks:,} tasks in a file of {path.stat().st_size / 1e6:.0f} MB; {events:,} events")
        counts = {"decode events": events, "apply events": events}
        costs: dict[str, float] = {}
        for name in MEASUREMENTS:
            costs[name], memory = measure(name, path, counts.get(name, tasks))
            rate = f"{1 / costs[name]:>12,.0f} /s" if name != "first task" else f"{costs[name] * 1000:>12.0f} ms"
            print(f"  {name:<14}{rate}   {costs[name] * 1e6:8.2f} us each   peak {memory:6.1f} MB")
        parts = costs["bare ijson"] + costs["plain SQLite"]
        print(f"load / (bare ijson + plain SQLite): {costs['load'] / parts:.2f}")
        print(f"apply events / decode events:       {costs['apply events'] / costs['decode events']:.2f}")
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--measure", choices=MEASUREMENTS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is None:
        report(options.tasks, options.events)
        return
    done, seconds = MEASUREMENTS[options.measure](options.file, options.tasks)
    # Not getrusage, whose peak includes the parent before exec.
    status = Path("/proc/self/status").read_text()
    memory = int(status.split("VmHWM:")[1].split()[0]) / 1024
    print(json.dumps([done, seconds, memory]))


if __name__ == "__main__":
    main()
