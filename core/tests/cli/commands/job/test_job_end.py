"""End of `run`: exit code, heading, reasons and next commands."""

from __future__ import annotations

import json

import pytest
from command_line import CommandLine

PROGRAM = """
import sys
from cloud_tasks.worker import Worker

def work(task_id, data, worker_data):
    if data["end"] == "exit":
        print(f"cannot read {task_id}.dat", file=sys.stderr, flush=True)
        sys.exit(4)
    if data["end"] == "raise":
        raise ValueError(f"bad tile {task_id}")

Worker(work, args=sys.argv[1:]).run()
"""


def load(shell: CommandLine, *ends: str) -> None:
    (shell.folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    shell.configure(script=f"python {shell.folder}/program.py")
    tasks = [{"task_id": f"s{number:02}", "data": {"end": end}} for number, end in enumerate(ends)]
    (shell.folder / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")


def test_run_whose_tasks_all_failed_says_so_and_exits_with_3(shell: CommandLine) -> None:
    load(shell, "exit", "exit", "exit", "raise")
    ended = shell.run("run", "--config", "config.yml", "--task-file", "tasks.json", "--max-runtime", "1m")
    assert ended.code == 3, ended.err
    assert "=== JOB FINISHED: 4 of 4 tasks failed ===" in ended.out
    assert "JOB COMPLETE" not in ended.out
    assert "      1: ValueError: bad tile s03\n" in ended.out
    assert "      3: exit code 4: cannot read s0" in ended.out
    assert ".dat (and similar)\n" in ended.out
    assert "See one: cloud-tasks logs --config config.yml s00\n" in ended.out
    assert "Retry them: cloud-tasks run --retry-failed --config config.yml --max-runtime 1m\n" in ended.out
    status = shell.run("status", "--config", "config.yml")
    assert status.code == 0
    assert status.out.startswith("Job job: finished at ")
    assert status.out.splitlines()[0].endswith(" UTC; 4 of 4 tasks failed")


@pytest.mark.parametrize(("accepted", "code"), [("1", 0), ("25%", 0), ("24.9%", 3), ("0", 3)])
def test_run_exits_with_0_if_the_failures_are_accepted(shell: CommandLine, accepted: str, code: int) -> None:
    load(shell, "ok", "raise", "ok", "ok")
    options = ("--config", "config.yml", "--task-file", "tasks.json", "--accept-failures", accepted)
    ended = shell.run("run", *options)
    assert ended.code == code, ended.err
    assert "=== JOB FINISHED: 1 of 4 tasks failed ===" in ended.out


def test_run_whose_tasks_all_completed_names_no_next_commands(shell: CommandLine) -> None:
    load(shell, "ok")
    ended = shell.run("run", "--config", "config.yml", "--task-file", "tasks.json")
    assert ended.code == 0, ended.err
    assert "=== JOB COMPLETE ===" in ended.out
    assert "Retry them" not in ended.out
