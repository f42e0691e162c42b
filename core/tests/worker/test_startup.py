"""Start of a worker and of its task processes: what they import, and what they leave as the program has set it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import gc, sys
from cloud_tasks.worker import Worker
gc.COLLECTOR
def task(task_id, data, worker_data):
    return sorted(sys.modules)
worker = Worker(task)
loaded = {*sys.modules}
worker.run()
print(gc.isenabled(), gc.get_freeze_count(), *{*sys.modules} - loaded)
"""
FORK_SERVER = {f"cloud_tasks.worker.forkserver.{name}" for name in ("zygote", "server", "children", "protocol")}


def run(folder: Path, *arguments: str, collector: str = "enable()") -> tuple[list[str], dict[str, Any]]:
    """Run the program; return what it prints and the event of its task's end."""
    (folder / "tasks.json").write_text('[{"id": "a", "data": {}}]')
    program = PROGRAM.replace("COLLECTOR", collector)
    command = [sys.executable, "-c", program, "--task-file", "tasks.json", *arguments]
    answer = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    events = [json.loads(line) for line in (folder / "events.log").read_text().splitlines()]
    (end,) = [event for event in events if event["event_type"] == "task_completed"]
    return answer.stdout.split(), end


@pytest.mark.parametrize("options", [(), ("--reuse-processes", "2")])
def test_spawned_task_process_imports_no_module_of_the_fork_server(tmp_path: Path, options: tuple[str, ...]) -> None:
    _, end = run(tmp_path, "--start-method", "spawn", *options)
    assert FORK_SERVER.isdisjoint(end["result"])
    assert "ctypes" not in end["result"]


def test_supervisor_imports_no_module_for_tracebacks_before_there_is_one(tmp_path: Path) -> None:
    printed, _ = run(tmp_path)
    assert {"traceback", "linecache", "textwrap", "shutil"}.isdisjoint(printed)


@pytest.mark.parametrize(("collector", "is_enabled"), [("enable()", "True"), ("disable()", "False")])
def test_run_leaves_the_collector_as_the_program_has_set_it(tmp_path: Path, collector: str, is_enabled: str) -> None:
    printed, _ = run(tmp_path, collector=collector)
    assert printed[:2] == [is_enabled, "0"]
