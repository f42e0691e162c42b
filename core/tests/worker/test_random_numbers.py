"""Random numbers of tasks: seeds, reseeded global generators, and the warning of generators that tasks share."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from worker_harness import modes, run_program

from cloud_tasks.worker import WorkerData

WARNING = "Tasks may draw the same random numbers"
FIRST = "import random, numpy as np, types\n"


def results(worker) -> list[Any]:
    return [event["result"] for event in sorted(worker.events("task_completed"), key=lambda event: event["task_id"])]


@modes
def test_seed_depends_on_job_task_and_attempt_only(worker, mode) -> None:
    code = """
import cloud_tasks
def f(task_id, data, worker_data):
    if worker_data.attempt == 1:
        return True, worker_data.seed
    return worker_data.seed
"""
    run_program(worker, code, "--job-id", "job", "--backoff-base", "0", *mode, tasks=2)
    found = {(each["task_id"], each["attempt"]): each["result"] for each in worker.events("task_completed")}
    assert len(found) == 4
    for (task_id, attempt), seed in found.items():
        digest = hashlib.sha256(json.dumps(["job", task_id, attempt]).encode()).digest()
        assert seed == int.from_bytes(digest[:8], "big") >> 1


def test_seed_accepts_any_task_id_and_needs_a_task() -> None:
    data = WorkerData()
    with pytest.raises(RuntimeError, match="no task is running"):
        _ = data.seed
    data.attempt, data._task_id = 1, "\udc80 ☃"
    assert 0 <= data.seed < 2**63


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("G = np.random.default_rng()", "G (numpy.random._generator.Generator)"),
        ("G = np.random.RandomState(1)", "G (numpy.random.mtrand.RandomState)"),
        ("G = np.random.PCG64()", "G (numpy.random._pcg64.PCG64)"),
        ("G = random.Random()", "G (random.Random)"),
        ("class Own(random.Random): pass\nG = Own()", "G (__main__.Own)"),
        ("G = [None, random.Random(3)]", "G[…] (random.Random)"),
        ("G = {'a': np.random.default_rng(1)}", "G[…] (numpy.random._generator.Generator)"),
        ("class G: rng = random.Random()", "G.rng (random.Random)"),
        ("class S: pass\nG = S(); G.rng = random.Random()", "G.rng (random.Random)"),
        ("import helper", "helper.R (random.Random)"),
        ("ON_DATA = True", "worker_data.rng (random.Random)"),
        ("ON_INIT = True", "worker_data.rng (random.Random)"),
        ("", ""),
        ("G = random.SystemRandom()", ""),
        ("G = np.random.mtrand._rand; r = random.random", ""),
        (
            "class P:\n  def __getattr__(self, name): raise ValueError\n  __class__ = property(lambda s: 1/0)\nG = P()",
            "",
        ),
        ("class L(types.ModuleType):\n  def __getattr__(self, name): 1/0\nsys.modules['lazy'] = L('lazy')", ""),
    ],
)
def test_worker_warns_of_generators_that_tasks_share(worker, program, name) -> None:
    (worker.folder / "helper.py").write_text("import random\nR = random.Random()\n")
    code = f"""{FIRST}{program}
def init(worker_data):
    if "ON_INIT" in globals(): worker_data.rng = random.Random()
def f(task_id, data, worker_data): return 1
real = Worker
def Worker(f, args):
    worker = real(f, args=args, worker_init=init)
    if "ON_DATA" in globals(): worker.data.rng = random.Random()
    return worker
"""
    finished = run_program(worker, code, tasks=3)
    assert len(worker.events("task_completed")) == 3, finished.log
    assert "fork server" not in finished.log
    lines = [line for line in finished.log.splitlines() if WARNING in line]
    assert [name in line for line in lines] == ([True] if name else []), finished.log
    if name:
        assert finished.log.index(WARNING) < finished.log.index("Started single-task worker")


@modes
def test_global_generators_differ_between_tasks(worker, mode) -> None:
    code = FIRST + "def f(task_id, data, worker_data): return [random.random(), float(np.random.rand())]"
    run_program(worker, code, *mode, tasks=3)
    numbers = [number for result in results(worker) for number in result]
    assert len(set(numbers)) == 6


def test_deliberate_seed_is_kept_with_spawn_only(worker) -> None:
    code = FIRST + (
        "np.random.seed(42)\nrandom.seed(42)\n"
        "def f(task_id, data, worker_data): return [random.random(), float(np.random.rand())]"
    )
    run_program(worker, code, "--start-method", "spawn", tasks=2)
    assert results(worker)[0] == results(worker)[1]
    (worker.folder / "events.log").unlink()
    run_program(worker, code, tasks=2)
    assert not set(results(worker)[0]) & set(results(worker)[1])
