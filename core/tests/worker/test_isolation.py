"""Isolation: a task affects neither other tasks nor the worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from worker_harness import Harness, is_alive, wait_until

SIGNALS = """
import json, signal
numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)
print(json.dumps([str(signal.getsignal(number)) for number in numbers]))
"""
SUPERVISOR_PACKAGES = tuple(f"cloud_tasks.worker.{name}" for name in ("supervisor", "consumers", "reporting"))
SUPERVISOR_LIBRARIES = {"attrs", "pluggy", "yaml", "click", "logging.config", "sqlite3", "multiprocessing"}
FINAL = ("task_completed", "task_exception", "task_exited", "task_timed_out", "task_dead")


def modules_of_the_supervisor(modules: list[str]) -> list[str]:
    """Return the modules that only the supervisor may have in memory."""
    packages = (*SUPERVISOR_PACKAGES, *(f"{package}." for package in SUPERVISOR_PACKAGES))
    return [name for name in modules if name in SUPERVISOR_LIBRARIES or name.startswith(packages)]


def ends(worker: Harness) -> dict[str, dict[str, Any]]:
    return {event["task_id"]: event for event in worker.events(*FINAL)}


@pytest.mark.parametrize("options", [(), ("--reuse-processes", "5")])
def test_elapsed_time_is_the_difference_of_the_attempt_s_timestamps(worker, options) -> None:
    worker.run_tasks(*[{"do": "sleep", "seconds": 0.02}] * 20, args=("--num-simultaneous-tasks", "2", *options))
    started = {event["task_id"]: datetime.fromisoformat(event["timestamp"]) for event in worker.events("task_started")}
    for event in worker.events("task_completed"):
        span = datetime.fromisoformat(event["timestamp"]) - started[event["task_id"]]
        assert span.total_seconds() == pytest.approx(event["elapsed_time"], abs=0.001)


def test_isolation_reports_each_kind_of_end_and_affects_no_other_task(worker) -> None:
    finished = worker.run_tasks(
        {"do": "nothing"},
        {"do": "raise", "message": "seventeen"},
        {"do": "exit", "code": 3},
        {"do": "sys.exit", "code": 4},
        {"do": "sys.exit", "code": 0},
        {"do": "crash"},
        {"do": "interrupt"},
        {"do": "unserializable"},
        {"do": "nan"},
        {"do": "plain"},
        {"do": "hang"},
        {"do": "nothing"},
        args=("--num-simultaneous-tasks", "3", "--max-runtime", "4"),
    )
    found = ends(worker)
    assert finished.code == 3, finished.log
    assert {name: event["event_type"] for name, event in found.items()} == {
        "task-0": "task_completed",
        "task-1": "task_exception",
        "task-2": "task_exited",
        "task-3": "task_exited",
        "task-4": "task_exited",
        "task-5": "task_exited",
        "task-6": "task_exception",
        "task-7": "task_exception",
        "task-8": "task_completed",
        "task-9": "task_completed",
        "task-10": "task_timed_out",
        "task-11": "task_completed",
    }
    assert found["task-1"]["exception"] == "seventeen"
    assert found["task-1"]["exception_type"] == "ValueError"
    assert 'raise ValueError(fields.get("message"' in found["task-1"]["stack_trace"]
    assert [found[f"task-{n}"]["exit_code"] for n in (2, 3, 4, 5)] == [3, 4, 0, -signal.SIGSEGV]
    assert found["task-5"]["signal"] == "SIGSEGV"
    assert found["task-6"]["exception_type"] == "KeyboardInterrupt"
    assert found["task-7"]["exception_type"] == "UnserializableResult"
    assert "the function returned a generator" in found["task-7"]["exception"]
    assert found["task-8"]["result"] == "NaN"
    assert found["task-9"]["result"] == {"plain": [1, 2, 3]}
    assert not any(event["retry"] for event in found.values())
    assert worker.nothing_is_left()
    assert not any(is_alive(pid) for pid in worker.pids())


@pytest.mark.parametrize("what", ["child", "escaped child", "bomb"])
def test_isolation_kills_the_descendants_of_a_finished_task(worker, what) -> None:
    process = worker.start(
        "--task-file", worker.task_file({"do": what}, {"do": "wait"}), "--num-simultaneous-tasks", "1"
    )
    wait_until(lambda: worker.noted("waiting"))
    assert worker.pids()
    wait_until(lambda: not any(is_alive(pid) for pid in worker.pids()), what="the end of the task's descendants")
    assert process.poll() is None


def test_result_of_any_size_arrives_complete(worker) -> None:
    sizes = (10, 65_536, 5_000_000, 60_000_000)
    finished = worker.run_tasks(
        *({"do": "big", "size": size} for size in sizes), args=("--num-simultaneous-tasks", "4")
    )
    assert finished.code == 0, finished.log[-2000:]
    assert [len(ends(worker)[f"task-{n}"]["result"]) for n in range(len(sizes))] == list(sizes)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_long_result_takes_no_memory_once_reported(worker) -> None:
    tasks = worker.task_file({"do": "big", "size": 20_000_000}, {"do": "wait"})
    worker.start("--task-file", tasks, "--num-simultaneous-tasks", "2")
    waiting = wait_until(lambda: worker.noted("waiting"))
    log = worker.folder / "events.log"
    wait_until(lambda: log.exists() and '"task_completed"' in (text := log.read_text()) and text.endswith("\n"))
    channels = [path for path in Path(f"/proc/{waiting[0]}/fd").iterdir() if "result" in os.readlink(path)]
    assert len(channels) == 2
    wait_until(lambda: all(path.stat().st_size == 0 for path in channels), what="the release of the memory")


def test_result_over_the_limit_fails_its_task(worker) -> None:
    worker.run_tasks({"do": "big", "size": 5000}, {"do": "nothing"}, args=("--max-result-bytes", "1000"))
    assert ends(worker)["task-0"]["exception_type"] == "ResultTooLong"
    assert "5,002 bytes; the limit is 1,000" in ends(worker)["task-0"]["exception"]
    assert ends(worker)["task-1"]["event_type"] == "task_completed"


def test_result_over_the_limit_goes_to_the_result_store(worker) -> None:
    store = worker.folder / "results"
    worker.run_tasks({"do": "big", "size": 5000}, args=("--max-result-bytes", "1000", "--result-store", str(store)))
    event = ends(worker)["task-0"]
    assert (event["event_type"], event["result"], event["result_bytes"]) == ("task_completed", None, 5002)
    assert event["result_address"] == str(store / "task-0.1.json")
    assert (store / "task-0.1.json").read_text() == '"' + "x" * 5000 + '"'


def test_isolation_fails_only_the_task_that_closes_every_descriptor(worker) -> None:
    worker.run_tasks({"do": "close"}, {"do": "replace"}, {"do": "nothing"})
    kinds = [ends(worker)[f"task-{n}"]["event_type"] for n in range(3)]
    assert kinds == ["task_exited", "task_exited", "task_completed"]
    assert (worker.folder / "own-file").read_bytes() == b""


def test_isolation_ends_a_task_over_its_memory_limit(worker) -> None:
    worker.run_tasks({"do": "eat"}, {"do": "nothing"}, args=("--max-memory-allowed-per-task", "0.3"))
    event = ends(worker)["task-0"]
    assert (event["event_type"], event["exception_type"]) == ("task_exception", "MemoryLimitExceeded")
    assert ends(worker)["task-1"]["event_type"] == "task_completed"


def test_forkserver_that_is_killed_is_replaced_and_its_tasks_run_again(worker) -> None:
    finished = worker.run_tasks({"do": "kill parent"}, {"do": "sleep", "seconds": 0.3}, {"do": "nothing"})
    assert finished.code == 0, finished.log
    assert {event["event_type"] for event in ends(worker).values()} == {"task_completed"}
    assert worker.events("task_released")[0]["task_id"] == "task-0"
    assert len(worker.noted("initialised")) == 2
    assert worker.nothing_is_left()


def test_killed_supervisor_leaves_no_process_and_no_folder(worker) -> None:
    process = worker.start(
        "--task-file", worker.task_file({"do": "escaped child"}, {"do": "hang"}, {"do": "scratch"}, {"do": "wait"}),
        "--num-simultaneous-tasks", "4",
    )  # fmt: skip
    wait_until(lambda: worker.noted("waiting") and len(worker.pids()) >= 3)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(worker.nothing_is_left, what="the end of every process and folder")
    assert not any(is_alive(pid) for pid in worker.pids())


def test_output_of_a_failed_task_is_in_its_event(worker) -> None:
    worker.run_tasks({"do": "print"}, args=("--capture-output",))
    assert "these are my last words\n" in ends(worker)["task-0"]["log_tail"]
    assert "RuntimeError: after them" in ends(worker)["task-0"]["log_tail"]


@pytest.mark.parametrize(("options", "tail"), [(("--capture-output",), "a word\n"), (("--task-log-dir", "logs"), None)])
def test_output_of_a_completed_task_is_kept_on_request(worker, options: tuple[str, ...], tail: str | None) -> None:
    worker.run_tasks({"do": "chatty", "size": 1}, {"do": "nothing"}, args=options)
    assert [ends(worker)[f"task-{n}"].get("log_tail") for n in range(2)] == [tail, None]


def test_task_log_dir_has_a_log_of_each_attempt(worker) -> None:
    finished = worker.run_tasks({"do": "print"}, {"do": "nothing"}, args=("--task-log-dir", "logs"))
    assert sorted(path.name for path in (worker.folder / "logs").iterdir()) == ["task-0.1.log", "task-1.1.log"]
    assert (worker.folder / "logs" / "task-0.1.log").read_text().startswith("these are my last words\n")
    assert "last words" not in finished.output


@pytest.mark.parametrize("args", [(), ("--reuse-processes", "2"), ("--start-method", "spawn")])
def test_task_process_has_no_module_of_the_supervisor_in_memory(worker, args) -> None:
    worker.run_tasks({"do": "about"}, args=args)
    about = ends(worker)["task-0"]["result"]
    assert modules_of_the_supervisor(about["modules"]) == []
    assert "cloud_tasks.worker.task_process.runner" in about["modules"]


def test_task_process_gets_options_environment_and_own_event_loop(worker) -> None:
    worker.run_tasks({"do": "about"}, args=("--extra", "given", "--gpus-per-task", "2"))
    about = ends(worker)["task-0"]["result"]
    assert modules_of_the_supervisor(about["modules"]) == []
    assert about["attempt"] == 1
    assert about["slot"] == 0
    assert about["own"] == "set before start"
    assert about["extra"] == "given"
    assert about["initialised"]
    assert about["gpu"] == "0,1"
    assert about["loop_is_free"]
    assert about["asyncio"] == "works"


def test_scratch_folder_is_removed_with_its_attempt(worker) -> None:
    worker.run_tasks({"do": "scratch"}, {"do": "scratch"})
    paths = [ends(worker)[f"task-{n}"]["result"] for n in range(2)]
    assert paths[0] != paths[1]
    assert not any(os.path.exists(path) for path in paths)
    assert worker.nothing_is_left()


def test_worker_exits_with_an_error_without_zygote_and_fork_server(worker) -> None:
    process = worker.start("--task-file", worker.task_file({"do": "wait"}, {"do": "nothing"}))
    wait_until(lambda: worker.noted("waiting"))
    forkserver = parent_of(int(worker.noted("waiting")[0]))
    zygote = parent_of(forkserver)
    assert parent_of(zygote) == process.pid
    os.kill(zygote, signal.SIGKILL)
    wait_until(lambda: not is_alive(zygote))
    os.kill(forkserver, signal.SIGKILL)
    assert worker.finish(process).code == 1
    assert len(worker.events("fatal_exception")) == 1
    assert worker.nothing_is_left()


def parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def _reset_signals() -> None:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def test_task_process_has_the_default_signal_handlers_of_python(worker) -> None:
    worker.run_tasks({"do": "signals"}, {"do": "broken pipe"})
    # A shell starts a command in the background with some signals ignored.
    expected = subprocess.run(
        [sys.executable, "-c", SIGNALS], capture_output=True, text=True, check=True, preexec_fn=_reset_signals
    ).stdout
    (completed,) = worker.events("task_completed")
    assert completed["result"] == [[], json.loads(expected), -1]
    (failed,) = worker.events("task_exception")
    assert failed["exception_type"] == "BrokenPipeError"


def test_process_that_worker_init_started_lives_as_long_as_the_worker(worker) -> None:
    tasks = [{"do": "helper"}, {"do": "child"}, {"do": "sleep", "seconds": 0.3}, {"do": "helper"}]
    finished = worker.run_tasks(*tasks, PROGRAM_HELPER="yes")
    assert finished.code == 0
    assert len(worker.events("task_completed")) == 4
    wait_until(worker.nothing_is_left)
