"""Cost of the worker per task, compared with bare processes and the standard library's pools, measured in one run.

    python tests/benchmarks/worker_bench.py [--tasks 1000] [--file-tasks 1000000] [--sleeps 0]

All results are for no-op tasks on two slots. Those of the worker include its event log: one line per start and per end,
synced in batches. Start-up time is measured separately, by a run with one task, and subtracted. The first task of a
long file is timed seven times, and the minimum is reported, since other load only adds time.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pebble

PROGRAM = """
import os, sys, time
from cloud_tasks.worker import Worker
def task(task_id, data, worker_data):
    if data["sleep"]:
        time.sleep(data["sleep"])
    return False, "done"
def tasks():
    for number in range(int(os.environ["BENCH_TASKS"])):
        yield {"task_id": f"task-{number}", "data": {"sleep": float(os.environ.get("BENCH_SLEEP", "0"))}}
Worker(task, task_source=tasks).run()
"""

LEAN_FORKS = """
import os, sys
running = 0
for _ in range(int(sys.argv[1])):
    if running == int(sys.argv[2]):
        os.wait()
        running -= 1
    if os.fork() == 0:
        os._exit(0)
    running += 1
for _ in range(running):
    os.wait()
"""

# Peak memory includes that of the program before exec, so a small process starts the worker.
LAUNCHER = """
import os, sys, time
began = time.time()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
peak = os.wait4(pid, 0)[2].ru_maxrss
print([began, peak])
"""

SLOTS = 2


def cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in used)


def nothing(number: int) -> str:
    return "done"


def bare_forks(count: int) -> None:
    """Fork, exit and wait, two at a time."""
    running = 0
    for _ in range(count):
        if running == SLOTS:
            os.wait()
            running -= 1
        if os.fork() == 0:
            os._exit(0)
        running += 1
    for _ in range(running):
        os.wait()


def lean_forks(count: int) -> None:
    """Do the same in an interpreter without imports."""
    subprocess.run([sys.executable, "-I", "-S", "-c", LEAN_FORKS, str(count), str(SLOTS)], check=True)


def processes(count: int) -> None:
    context = multiprocessing.get_context("fork")
    running: list[multiprocessing.process.BaseProcess] = []
    for number in range(count):
        if len(running) == SLOTS:
            running.pop(0).join()
        process = context.Process(target=nothing, args=(number,))
        process.start()
        running.append(process)
    for left in running:
        left.join()


def fresh_futures(count: int) -> None:
    context = multiprocessing.get_context("forkserver")
    with concurrent.futures.ProcessPoolExecutor(SLOTS, mp_context=context, max_tasks_per_child=1) as pool:
        list(pool.map(nothing, range(count)))


def pebble_processes(count: int) -> None:
    """Run a process with a timeout per task, by pebble."""
    call = pebble.concurrent.process(timeout=60, mp_context=multiprocessing.get_context("fork"))(nothing)
    running: list[concurrent.futures.Future[str]] = []
    for number in range(count):
        if len(running) == SLOTS:
            running.pop(0).result()
        running.append(call(number))
    for left in running:
        left.result()


def futures(count: int) -> None:
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(SLOTS, mp_context=context) as pool:
        list(pool.map(nothing, range(count)))


def pool(count: int) -> None:
    with multiprocessing.get_context("fork").Pool(SLOTS) as workers:
        list(workers.imap(nothing, range(count)))


def sleeps(count: int, slots: int = 100) -> float:
    """Return the run time in seconds of ``count`` tasks of one second, ``slots`` at a time."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", PROGRAM, "--num-simultaneous-tasks", str(slots)],
            cwd=folder,
            env=os.environ | {"BENCH_TASKS": str(count), "BENCH_SLEEP": "1"},
            stderr=subprocess.DEVNULL,
            check=True,
        )
        took = time.perf_counter() - began
        done = (Path(folder) / "events.log").read_text().count('"task_completed"')
        if done != count:
            raise SystemExit(f"{done} of {count} tasks completed")
        return took


def worker(*options: str) -> Callable[[int], None]:
    def run(count: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [sys.executable, "-c", PROGRAM, "--num-simultaneous-tasks", str(SLOTS), *options],
                cwd=folder,
                env=os.environ | {"BENCH_TASKS": str(count)},
                stderr=subprocess.DEVNULL,
                check=True,
            )
            lines = (Path(folder) / "events.log").read_text().count("task_completed")
            if lines != count:
                raise SystemExit(f"{lines} of {count} tasks completed")

    return run


def measure(run: Callable[[int], None], count: int) -> tuple[float, float]:
    """Return milliseconds per task, wall and CPU time, minus those of a run with one task."""

    def once(number: int) -> tuple[float, float]:
        wall, used = time.perf_counter(), cpu()
        run(number)
        return time.perf_counter() - wall, cpu() - used

    base = once(1)
    whole = once(count + 1)
    return tuple((b - a) / count * 1000 for a, b in zip(base, whole, strict=True))  # type: ignore[return-value]


def first_task(count: int, rounds: int = 7) -> tuple[float, float]:
    """Return the seconds from program start to first task, and the supervisor's peak memory in MB."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tasks.json"
        with path.open("w") as file:
            file.write("[\n")
            for number in range(count):
                comma = "," if number < count - 1 else ""
                file.write(f'  {{"task_id": "task-{number:07d}", "data": {{"num1": {number}, "num2": 7}}}}{comma}\n')
            file.write("]\n")
        return min(_first_task(Path(folder), path) for _ in range(rounds))


def _first_task(folder: Path, path: Path) -> tuple[float, float]:
    (folder / "events.log").unlink(missing_ok=True)
    command = [sys.executable, "-c", PROGRAM, "--task-file", str(path), "--max-num-tasks", "200"]
    answer = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, *command],
        cwd=folder,
        env=os.environ | {"BENCH_TASKS": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    began, peak = json.loads(answer.stdout)
    for line in (folder / "events.log").read_text().splitlines():
        event = json.loads(line)
        if event["event_type"] == "task_started":
            started = datetime.fromisoformat(event["timestamp"]).timestamp()
            return started - began, peak / 1024
    raise SystemExit("no task started")


def memory_per_task(count: int = 20) -> float:
    """Return the private memory of a running no-op task in MB."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "--num-simultaneous-tasks", str(count)],
            cwd=folder,
            env=os.environ | {"BENCH_TASKS": str(count), "BENCH_SLEEP": "60"},
            stderr=subprocess.DEVNULL,
        )
        log = Path(folder) / "events.log"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and (not log.exists() or log.read_text().count("task_started") < count):
            time.sleep(0.02)
        pids = [json.loads(line)["pid"] for line in log.read_text().splitlines() if '"task_started"' in line]
        private = 0
        for pid in pids:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Private_"):
                    private += int(line.split()[1])
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        process.wait()
        return private / 1024 / len(pids)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--file-tasks", type=int, default=1_000_000)
    parser.add_argument("--sleeps", type=int, default=0, help="tasks of one second, 100 at a time")
    options = parser.parse_args()
    rows: list[tuple[str, Callable[[int], None], int]] = [
        ("bare fork + exit + wait", bare_forks, options.tasks),
        ("bare fork + exit + wait, nothing imported", lean_forks, options.tasks),
        ("multiprocessing.Process", processes, options.tasks),
        ("concurrent.futures, fresh process per task", fresh_futures, max(20, options.tasks // 20)),
        ("pebble, a process with a timeout", pebble_processes, options.tasks),
        ("cloud-tasks worker, isolated", worker(), options.tasks),
        ("cloud-tasks worker, isolated, output captured", worker("--capture-output"), options.tasks),
        (
            "cloud-tasks worker, --start-method spawn",
            worker("--start-method", "spawn"),
            max(20, options.tasks // 20),
        ),
        ("multiprocessing.Pool (reused processes)", pool, options.tasks * 5),
        ("concurrent.futures (reused processes)", futures, options.tasks * 5),
        ("cloud-tasks worker, --reuse-processes 1000", worker("--reuse-processes", "1000"), options.tasks * 5),
    ]
    print(f"{'per no-op task, two at a time':<48} {'wall ms':>9} {'CPU ms':>9} {'x bare fork':>12}")
    bare = 0.0
    for name, run, count in rows:
        wall, used = measure(run, count)
        bare = bare or wall
        print(f"{name:<48} {wall:>9.3f} {used:>9.3f} {wall / bare:>12.2f}", flush=True)
    seconds, peak = first_task(options.file_tasks)
    print(f"first task of a {options.file_tasks:,}-task file: {seconds:.3f} s after start, peak {peak:.0f} MB")
    if options.sleeps:
        ideal = options.sleeps / 100
        print(
            f"{options.sleeps:,} tasks of one second, 100 at a time: {sleeps(options.sleeps):.1f} s (ideal {ideal:g})"
        )
    print(f"memory per running no-op task: {memory_per_task():.2f} MB")


if __name__ == "__main__":
    main()
