"""A program that runs a second time, below one of its own tasks."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest
from worker_harness import MODES, TIMEOUT, Harness, modes

POOL = """
import argparse, multiprocessing, subprocess, sys
from concurrent.futures import ProcessPoolExecutor
from cloud_tasks.worker import Worker
parser = argparse.ArgumentParser()
parser.add_argument("--needed", required=True)
def square(number): return number * number
def f(task_id, data, worker_data):
    {body}
worker = Worker(f, argparser=parser, args=sys.argv[1:] if {passes} else None)
assert hasattr(worker.data.args, "needed")
worker.run()
"""
METHODS = {
    "spawn": 'with multiprocessing.get_context("spawn").Pool(1) as pool: return pool.map(square, [3])',
    "forkserver": 'with multiprocessing.get_context("forkserver").Pool(1) as pool: return pool.map(square, [3])',
    "fork": 'with multiprocessing.get_context("fork").Pool(1) as pool: return pool.map(square, [3])',
    "executor": (
        'with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:'
        " return list(pool.map(square, [3]))"
    ),
    "joblib": "import joblib; return joblib.Parallel(n_jobs=2)(joblib.delayed(square)(n) for n in [3])",
}


def run(worker: Harness, program: str, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (worker.folder / "program.py").write_text(program)
    # multiprocessing has the socket of its fork server in TMPDIR, and the path of a socket has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="nested-") as temporary:
        return subprocess.run(
            [sys.executable, "program.py", "--task-file", worker.task_file({}, {}), *args],
            cwd=worker.folder,
            env=worker.environment | {"TMPDIR": temporary} | environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )


@pytest.mark.parametrize(
    ("method", "mode", "passes"),
    [
        *((method, MODES["fork"], True) for method in METHODS),
        *((method, MODES["fork"], False) for method in ("spawn", "forkserver")),
        *(("spawn", MODES[name], True) for name in ("spawn", "reuse", "reuse spawn")),
    ],
)
def test_worker_without_a_guard_does_nothing_in_a_child_of_multiprocessing(worker, method, mode, passes) -> None:
    program = POOL.format(body=METHODS[method], passes=passes)
    finished = run(worker, program, "--needed", "x", "--max-runtime", "30", *mode)
    assert [event["event_type"] for event in worker.events()] == [
        "worker_started",
        *["task_started", "task_completed"] * 2,
        "worker_stopped",
    ], finished.stderr
    assert [event["result"] for event in worker.events("task_completed")] == [[9], [9]]
    assert finished.returncode == 0


@pytest.mark.parametrize(
    "body",
    [
        "import runpy; runpy.run_path('program.py')",
        "return subprocess.run([sys.executable, 'program.py', *sys.argv[1:]], stderr=1).returncode",
        "p = multiprocessing.get_context('fork').Process(target=worker.run); p.start(); p.join(); return p.exitcode",
    ],
    ids=["same process", "subprocess", "child"],
)
@modes
def test_worker_that_a_task_starts_ends_with_one_line(worker, body, mode) -> None:
    finished = run(worker, POOL.format(body=body, passes=True), "--needed", "x", *mode)
    assert len(worker.events("worker_started")) == 1
    assert len(worker.events("task_started")) == 2
    lines = [line for line in (finished.stdout + finished.stderr).splitlines() if "a task has started a worker" in line]
    assert len(lines) == 2, finished.stderr
    codes = {event.get("exit_code", event.get("result")) for event in worker.events("task_exited", "task_completed")}
    assert codes == {2}


@pytest.mark.parametrize("mode", [(), ("--start-method", "spawn")], ids=["fork", "spawn"])
def test_worker_that_worker_init_starts_runs_no_task(worker, mode) -> None:
    program = """
import sys
from cloud_tasks.worker import Worker
def f(task_id, data, worker_data): return 1
def init(worker_data): Worker(f, args=sys.argv[1:]).run()
if __name__ == "__main__": Worker(f, worker_init=init, args=sys.argv[1:]).run()
"""
    finished = run(worker, program, *mode)
    assert finished.returncode != 0
    assert worker.events("task_completed") == []
    assert len(worker.events("worker_started")) == 1


def test_worker_starts_in_a_child_of_multiprocessing_on_purpose(worker) -> None:
    program = """
import multiprocessing, sys
from cloud_tasks.worker import Worker
def f(task_id, data, worker_data): return 1
def main(): Worker(f, args=sys.argv[1:]).run()
if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=main)
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""
    assert run(worker, program).returncode == 0
    assert len(worker.events("task_completed")) == 2


STDIN = """
import sys, threading, time
from cloud_tasks.worker import Worker
def init(worker_data): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
def f(task_id, data, worker_data): return 1
Worker(f, args=sys.argv[1:], worker_init=init if "{init}" else None).run()
"""


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
@pytest.mark.parametrize(
    ("args", "init", "code"),
    [(["--start-method", "spawn"], "", 2), ([], "", 0), ([], "yes", 1)],
    ids=["spawn", "fork", "threads of worker_init"],
)
def test_program_from_standard_input_is_refused_with_spawn(worker, name, args, init, code) -> None:
    finished = subprocess.run(
        [sys.executable, name, "--task-file", worker.task_file({}), *args],
        cwd=worker.folder,
        env=worker.environment,
        input=STDIN.format(init=init),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert finished.returncode == code, finished.stderr
    if code == 0:
        assert len(worker.events("task_completed")) == 1
    else:
        assert "the program was read from" in finished.stderr
        assert not os.path.exists(worker.folder / "events.log") or not worker.events("task_started")


def test_program_on_the_command_line_can_be_spawned(worker) -> None:
    program = STDIN.format(init="")
    command = [sys.executable, "-c", program, "--task-file", worker.task_file({}), "--start-method", "spawn"]
    subprocess.run(command, cwd=worker.folder, env=worker.environment, check=True, capture_output=True, timeout=TIMEOUT)
    assert len(worker.events("task_completed")) == 1
