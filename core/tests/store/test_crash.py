"""Atomicity of the store: a killed process leaves the state before or after a call."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from store_facts import new_store

from cloud_tasks.model import TaskStatus
from cloud_tasks.store import STATUS_TO_CODE, Store

SUPPORT = str(Path(__file__).parents[1] / "support")

LOADING = """
import sys
from pathlib import Path
from store_facts import JOB
from cloud_tasks.model import Task
from cloud_tasks.store import Store

def tasks():
    for number in range(10**9):
        if number == 30_000:
            print("loading", flush=True)
        yield Task(task_id=f"t{number}", data={"text": "x" * 1000})

Store.create(Path(sys.argv[1]), JOB).load_tasks(tasks())
"""

APPLYING = """
import sys
from pathlib import Path
from store_facts import completed, started
from cloud_tasks.store import Store

store = Store.open(Path(sys.argv[1]))
for first in range(0, 100_000, 50):
    batch = []
    for number in range(first, first + 50):
        batch.append(started(f"t{number}", event_id=f"s{number}"))
        batch.append(completed(f"t{number}", event_id=f"c{number}"))
    store.apply_events(batch)
    print(first + 50, flush=True)
"""


def start(program: str, path: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": SUPPORT}
    return subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True, env=environment
    )


def kill(process: subprocess.Popen[str]) -> list[str]:
    """Kill a process with SIGKILL and return the rest of its output."""
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    return rest.split()


def integrity(path: Path) -> str:
    connection = sqlite3.connect(path)
    (answer,) = connection.execute("PRAGMA integrity_check").fetchone()
    connection.close()
    return str(answer)


def test_load_tasks_killed_midway_leaves_no_task(tmp_path: Path) -> None:
    process = start(LOADING, tmp_path / "job.db")
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    kill(process)
    with Store.open(tmp_path / "job.db") as store:
        assert store.summary().total == 0
        assert store.pending_tasks(10) == []
    assert integrity(tmp_path / "job.db") == "ok"


@pytest.mark.parametrize("delay", [0.0, 0.003, 0.011])
def test_apply_events_killed_midway_keeps_committed_batches_and_no_partial_one(tmp_path: Path, delay: float) -> None:
    path = tmp_path / "job.db"
    new_store(tmp_path, [f"t{number}" for number in range(20_000)]).close()
    process = start(APPLYING, path)
    assert process.stdout is not None
    output = ["0"] + [process.stdout.readline() for _ in range(5)]
    # The signal arrives anywhere in the next batches; the result must hold for all of them.
    time.sleep(delay)
    output += kill(process)
    committed = int(output[-1])
    with Store.open(path) as store:
        summary = store.summary()
    assert summary.finished_tasks % 50 == 0
    assert committed <= summary.finished_tasks <= committed + 50
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM events").fetchone()[0] == 2 * summary.finished_tasks
    assert connection.execute("SELECT count(*) FROM attempts").fetchone()[0] == summary.attempts
    completed = connection.execute(
        "SELECT count(*) FROM tasks WHERE status = ?", (STATUS_TO_CODE[TaskStatus.COMPLETED],)
    )
    assert completed.fetchone()[0] == summary.finished_tasks
    connection.close()
    assert integrity(path) == "ok"
