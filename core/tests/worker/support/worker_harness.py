"""Harness of tests with real workers: a program, its tasks, and a queue in a folder."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from worker_test_plugin import FolderQueue

from cloud_tasks.convert import decode_events, encode_task_message
from cloud_tasks.model import TaskMessage

HERE = Path(__file__).parent
PROGRAM = HERE.parent / "worker_program.py"
TIMEOUT = 60.0


def wait_until(condition: Callable[[], Any], *, what: str = "the condition") -> Any:
    """Poll until the condition is true and return its value; fail the test after a minute."""
    deadline = time.monotonic() + TIMEOUT
    while not (answer := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"timed out waiting for {what}")
        time.sleep(0.01)
    return answer


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def descendants_of_session(mark: str) -> list[int]:
    """Return the running processes whose environment has the mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark.encode() in (entry / "environ").read_bytes() and is_alive(int(entry.name)):
                    found.append(int(entry.name))
    return found


@attrs.frozen(kw_only=True)
class Finished:
    code: int
    log: str
    output: str


@attrs.define
class Harness:
    """A folder, the workers that run in it, and their files."""

    folder: Path
    mark: str
    processes: list[subprocess.Popen[str]] = attrs.field(factory=list)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if "CLOUD_TASKS_" not in name}
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        return kept | {
            "PROGRAM_FOLDER": str(self.folder),
            "PYTHONPATH": os.pathsep.join([str(self.folder / "site"), str(HERE)]),
            "CLOUD_TASKS_FOLDER_FOLDER": str(self.folder),
            "TMPDIR": str(temporary),
            "CLOUD_TASKS_TIMEOUT_KILL_PERIOD": "0.5",
            "WORKER_TEST_MARK": self.mark,
        }

    def task_file(self, *tasks: dict[str, Any]) -> str:
        path = self.folder / "tasks.json"
        path.write_text(json.dumps([{"task_id": f"task-{n}", "data": data} for n, data in enumerate(tasks)]))
        return str(path)

    def start(self, *args: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *args],
            cwd=self.folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def finish(self, process: subprocess.Popen[str]) -> Finished:
        output, log = process.communicate(timeout=TIMEOUT)
        return Finished(code=process.returncode, log=log, output=output)

    def run(self, *args: str, **environment: str) -> Finished:
        return self.finish(self.start(*args, **environment))

    def run_tasks(self, *tasks: dict[str, Any], args: tuple[str, ...] = (), **environment: str) -> Finished:
        return self.run("--task-file", self.task_file(*tasks), *args, **environment)

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        lines = (self.folder / "events.log").read_text().splitlines()
        return _chosen([json.loads(line) for line in lines], kinds)

    def pids(self) -> list[int]:
        return [int(pid) for pid in self.noted("pids")]

    def noted(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def nothing_is_left(self) -> bool:
        return not descendants_of_session(self.mark) and not any((self.folder / "tmp").iterdir())

    # -- queue in the folder

    def queue(self, name: str = "job") -> Any:
        queue = FolderQueue(self.folder, name)
        queue.create()
        return queue

    def load(self, *tasks: dict[str, Any]) -> None:
        bodies = [encode_task_message(TaskMessage(task_id=f"task-{n}", data=data)) for n, data in enumerate(tasks)]
        self.queue().send(bodies)
        self.queue("job-events")

    def start_on_queue(self, *args: str, **environment: str) -> subprocess.Popen[str]:
        names = {"CLOUD_TASKS_PROVIDER": "FOLDER", "CLOUD_TASKS_JOB_ID": "job", "CLOUD_TASKS_IDLE_LIMIT": "0.5"}
        names["CLOUD_TASKS_QUEUE_NAME"] = "job"
        return self.start(*args, **(names | environment))

    def run_on_queue(self, *args: str, **environment: str) -> Finished:
        return self.finish(self.start_on_queue(*args, **environment))

    def queued_events(self, *kinds: str) -> list[dict[str, Any]]:
        with contextlib.closing(sqlite3.connect(self.folder / "job-events.sqlite")) as connection:
            bodies = [row[0] for row in connection.execute("SELECT body FROM messages ORDER BY id")]
        for body in bodies:
            _, broken = decode_events(body)
            assert broken == []
        return _chosen([event for body in bodies for event in json.loads(body)], kinds)

    def fault(self, name: str) -> Path:
        """Create a file that makes a call of the queue, such as ``job-events.send``, fail while it exists."""
        path = self.folder / f"{name}.fails"
        path.touch()
        return path


def _chosen(events: list[dict[str, Any]], kinds: tuple[str, ...]) -> list[dict[str, Any]]:
    return [event for event in events if not kinds or event["event_type"] in kinds]


MODES = {
    "fork": (),
    "spawn": ("--start-method", "spawn"),
    "reuse": ("--reuse-processes", "10"),
    "reuse spawn": ("--reuse-processes", "10", "--start-method", "spawn"),
}
modes = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
SMALL_PROGRAM = """
import atexit, os, sys, threading, time
from pathlib import Path
from cloud_tasks.worker import Worker
{code}
if __name__ == "__main__":
    Worker(f, args=sys.argv[1:]).run()
"""


def run_program(
    worker: Harness, code: str, *args: str, tasks: int = 1, input: str | None = None, data: dict[str, Any] | None = None
) -> Finished:
    """Run a program whose function ``f`` is in the code."""
    (worker.folder / "program.py").write_text(SMALL_PROGRAM.format(code=code))
    file = worker.task_file(*(data or {} for _ in range(tasks)))
    finished = subprocess.run(
        [sys.executable, "program.py", "--task-file", file, *args],
        cwd=worker.folder,
        env=worker.environment,
        capture_output=True,
        text=True,
        input=input,
        timeout=TIMEOUT,
        check=False,
    )
    return Finished(code=finished.returncode, log=finished.stderr, output=finished.stdout)
