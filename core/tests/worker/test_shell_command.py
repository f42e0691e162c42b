"""Workers whose tasks are shell commands."""

from __future__ import annotations

import subprocess
import sys

from worker_harness import Finished, Harness

PROGRAM = (
    "import sys; from cloud_tasks.worker.shell_command import run_command_worker; run_command_worker(sys.argv[1:])"
)


def run(worker: Harness, *args: str) -> Finished:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *args],
        cwd=worker.folder, env=worker.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    worker.processes.append(process)
    return worker.finish(process)


def test_command_worker_runs_a_parameter_grid(worker) -> None:
    command = "echo {seed} {mode} > out-{seed}-{mode}; printf {seed} > $CLOUD_TASKS_RESULT_FILE"
    finished = run(worker, "--command", command, "--param", "seed=1..3", "--param", "mode=fast,slow")
    assert finished.code == 0, finished.log
    assert (worker.folder / "out-2-slow").read_text() == "2 slow\n"
    assert sorted(event["result"] for event in worker.events("task_completed")) == [1, 1, 2, 2, 3, 3]
    assert worker.nothing_is_left()


def test_command_worker_reports_exit_codes_and_signals(worker) -> None:
    run(worker, "--command", "if [ {n} = 1 ]; then exit 7; else kill -SEGV $$; fi", "--param", "n=1,2")
    events = {event["task_id"]: event for event in worker.events("task_exited")}
    assert events["n=1"]["exit_code"] == 7
    assert events["n=2"]["signal"] == "SIGSEGV"


def test_command_worker_requires_a_command(worker) -> None:
    finished = run(worker, "--param", "n=1")
    assert finished.code == 2
    assert "--command" in finished.log


def test_command_worker_passes_the_text_of_a_parameter(worker) -> None:
    parameters = ("--param", "v=1.10,1e5,007,hello world,a;b,'x,y'", "--param", "n=01..02")
    finished = run(worker, "--command", "printf '%s|' {v} {n} >> out", *parameters, "--num-simultaneous-tasks", "1")
    assert finished.code == 0, finished.log
    expected = "".join(f"{v}|{n}|" for v in ("1.10", "1e5", "007", "hello world", "a;b", "x,y") for n in ("01", "02"))
    assert (worker.folder / "out").read_text() == expected


def test_command_worker_refuses_parameters_beside_a_task_file(worker) -> None:
    finished = run(worker, "--command", "true", "--param", "n=1", "--task-file", "tasks.json")
    assert finished.code == 2
    assert "--param and --task-file exclude each other" in finished.log


def test_command_worker_reports_a_malformed_parameter(worker) -> None:
    finished = run(worker, "--command", "true", "--param", "n=1,1")
    assert finished.code == 2
    assert 'grid:n=1,1: parameter "n": value "1" is given twice' in finished.log
