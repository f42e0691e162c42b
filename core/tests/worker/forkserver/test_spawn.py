"""Task processes that are new interpreters: the same guarantees as for forked ones."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from worker_harness import Harness, is_alive, wait_until

SPAWN = ("--start-method", "spawn")


def test_spawned_tasks_report_each_kind_of_end(worker: Harness) -> None:
    finished = worker.run_tasks(
        {"do": "nothing"},
        {"do": "raise", "message": "seventeen"},
        {"do": "exit", "code": 3},
        {"do": "crash"},
        {"do": "unserializable"},
        {"do": "hang"},
        {"do": "big", "size": 5_000_000},
        {"do": "close"},
        args=(*SPAWN, "--num-simultaneous-tasks", "3", "--max-runtime", "6"),
    )
    assert finished.code == 3, finished.log
    kinds = {event["task_id"]: event for event in worker.events() if event["event_type"].startswith("task_")}
    assert [kinds[f"task-{n}"]["event_type"] for n in range(8)] == [
        "task_completed",
        "task_exception",
        "task_exited",
        "task_exited",
        "task_exception",
        "task_timed_out",
        "task_completed",
        "task_exited",
    ]
    assert kinds["task-1"]["exception"] == "seventeen"
    assert (kinds["task-2"]["exit_code"], kinds["task-3"]["signal"]) == (3, "SIGSEGV")
    assert kinds["task-6"]["result"] == "x" * 5_000_000
    assert worker.nothing_is_left()
    assert not any(is_alive(pid) for pid in worker.pids())


def test_spawned_task_gets_the_worker_data_of_a_forked_one(worker: Harness) -> None:
    worker.run_tasks({"do": "about"}, args=(*SPAWN, "--extra", "given", "--gpus-per-task", "2"))
    about = worker.events("task_completed")[0]["result"]
    assert {name: about[name] for name in ("attempt", "slot", "own", "extra", "gpu", "initialised")} == {
        "attempt": 1,
        "slot": 0,
        "own": "set before start",
        "extra": "given",
        "gpu": "0,1",
        "initialised": True,
    }
    assert about["loop_is_free"]
    assert about["asyncio"] == "works"


def test_spawned_tasks_have_an_interpreter_each(worker: Harness) -> None:
    worker.run_tasks({"do": "nothing"}, {"do": "nothing"}, args=SPAWN)
    initialised = worker.noted("initialised")
    assert len(set(initialised)) == 2
    assert initialised == [str(event["pid"]) for event in worker.events("task_started")]
    # The program continued after its worker only in the worker itself.
    assert worker.noted("returned") == ["normally"]


def test_spawned_task_passes_nothing_of_the_worker_to_its_children(worker: Harness) -> None:
    worker.run_tasks({"do": "inherit"}, args=SPAWN)
    assert worker.events("task_completed")[0]["result"] == "[] ['0', '1', '2', '3']\n"


def test_spawned_task_takes_its_descendants_along(worker: Harness) -> None:
    process = worker.start(
        "--task-file", worker.task_file({"do": "escaped child"}, {"do": "wait"}), *SPAWN, "--num-simultaneous-tasks=1"
    )  # fmt: skip
    wait_until(lambda: worker.noted("waiting"))
    wait_until(lambda: not any(is_alive(pid) for pid in worker.pids()), what="the end of the task's descendants")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(worker.nothing_is_left, what="the end of every process and folder")


def test_spawned_tasks_see_a_shutdown(worker: Harness) -> None:
    process = worker.start("--task-file", worker.task_file({"do": "wait for shutdown"}), *SPAWN)
    wait_until(lambda: worker.noted("waiting"))
    process.send_signal(signal.SIGINT)
    assert worker.finish(process).code == 130
    assert worker.events("task_completed")[0]["result"] == {"notice": False}


def test_spawned_process_runs_several_tasks(worker: Harness) -> None:
    finished = worker.run_tasks(
        *({"do": "nothing"} for _ in range(6)), args=(*SPAWN, "--reuse-processes", "3", "--num-simultaneous-tasks", "1")
    )
    assert finished.code == 0, finished.log
    assert len(worker.events("task_completed")) == 6
    assert len(worker.noted("initialised")) == 2


@pytest.mark.parametrize("when", ["import", "init"])
def test_program_with_threads_is_spawned_and_logged_once(worker: Harness, when: str) -> None:
    finished = worker.run_tasks({"do": "threads"}, {"do": "threads"}, PROGRAM_THREADS=when)
    assert finished.code == 0, finished.log
    assert [event["result"] for event in worker.events("task_completed")] == [["MainThread", "idler"]] * 2
    assert finished.log.count("each task gets a fresh interpreter") == 1
    assert "idler" in finished.log


def test_program_with_threads_is_forked_with_the_option(worker: Harness) -> None:
    finished = worker.run_tasks({"do": "threads"}, args=("--start-method", "fork"), PROGRAM_THREADS="import")
    assert worker.events("task_completed")[0]["result"] == ["MainThread"]
    assert "fresh interpreter" not in finished.log


def test_spawned_task_fails_if_worker_init_raises(worker: Harness) -> None:
    worker.run_tasks({"do": "nothing"}, args=SPAWN, PROGRAM_THREADS="fail")
    assert worker.events("task_exception")[0]["exception"] == "not today"


def test_worker_rejects_an_unknown_start_method(worker: Harness) -> None:
    finished = worker.run_tasks({"do": "nothing"}, args=("--start-method", "forkserver"))
    assert finished.code == 2
    assert "--start-method: expected fork or spawn" in finished.log


def test_spawned_tasks_belong_to_the_right_one_of_several_workers(worker: Harness, tmp_path: Path) -> None:
    program = tmp_path / "several.py"
    program.write_text(
        "from cloud_tasks.worker import Worker\n"
        "for name in ('first', 'second'):\n"
        "    tasks = [{'task_id': name, 'data': {}}]\n"
        "    Worker(lambda task_id, data, worker, name=name: (False, name), task_source=lambda: tasks).run()\n"
    )
    import subprocess

    subprocess.run(
        [sys.executable, program.name, *SPAWN], cwd=tmp_path, env=worker.environment, check=True, capture_output=True
    )
    assert [event["result"] for event in worker.events("task_completed")] == ["first", "second"]
