"""Workers whose tasks are shell commands."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
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


@pytest.mark.parametrize("mode", [(), ("--reuse-processes", "10")])
def test_command_worker_keeps_the_end_of_the_output_of_completed_tasks(worker: Harness, mode: tuple[str, ...]) -> None:
    run(worker, "--command", "seq {n}; echo done >&2", "--param", "n=3,100000", "--capture-output", *mode)
    tails = {event["task_id"]: event["log_tail"] for event in worker.events("task_completed")}
    assert tails["n=3"] == "1\n2\n3\ndone\n"
    assert len(tails["n=100000"]) == 8192
    assert tails["n=100000"].endswith("99999\n100000\ndone\n")


def test_command_worker_keeps_the_end_of_logged_output(worker: Harness) -> None:
    run(worker, "--command", "echo hello", "--param", "n=1", "--task-log-dir", "logs")
    assert worker.events("task_completed")[0]["log_tail"] == "hello\n"


def test_command_result_of_any_json_is_kept(worker: Harness) -> None:
    command = 'printf %s {text} > "$CLOUD_TASKS_RESULT_FILE"'
    texts = ["NaN", '{"a": [Infinity]}', '"\\\\udcff"', "[" * 5000, "[true, 17]", "1" * 5000]
    tasks = worker.folder / "tasks.json"
    tasks.write_text(json.dumps([{"id": f"t{n}", "data": {"text": text}} for n, text in enumerate(texts)]))
    run(worker, "--command", command, "--task-file", str(tasks))
    results = {event["task_id"]: event["result"] for event in worker.events("task_completed")}
    expected = ["NaN", {"a": ["Infinity"]}, "\\udcff", "[" * 5000, [True, 17], "1" * 5000]
    assert [results.get(f"t{n}") for n in range(len(texts))] == expected


def test_command_worker_requires_a_command(worker) -> None:
    finished = run(worker, "--param", "n=1")
    assert finished.code == 2
    assert "--command" in finished.log
