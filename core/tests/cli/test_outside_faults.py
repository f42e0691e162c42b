"""Runs with the local provider while their files are deleted, locked, or taken by others."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import CommandLine, Finished, wait_until

from cloud_tasks.model import TaskStatus
from cloud_tasks.store import Store, writer_of

RUN = ("run", "-c", "config.yml", "--task-file", "tasks.json", "--no-live")
TASKS = 12

WORKER = """
import os, sys, time
from cloud_tasks.worker import Worker

def process(task_id, data, worker_data):
    go = os.path.join(os.environ["CLOUD_TASKS_SUBMIT_DIR"], "go")
    while data["n"] >= 4 and not os.path.exists(go):
        time.sleep(0.05)
    return False, data["n"]

if __name__ == "__main__":
    import asyncio
    asyncio.run(Worker(process, args=sys.argv[1:]).start())
"""


class Project:
    """A job of twelve tasks; eight of them wait until `go`."""

    def __init__(self, shell: CommandLine) -> None:
        self.shell = shell
        self.folder = shell.folder
        self.database = shell.folder / "job.db"
        shell.configure(script=f'exec {sys.executable} "$CLOUD_TASKS_SUBMIT_DIR/w.py"')
        (self.folder / "w.py").write_text(WORKER)
        (self.folder / "tasks.json").write_text(json.dumps([{"id": f"t{n}", "data": {"n": n}} for n in range(TASKS)]))

    def completed(self, database: Path | None = None) -> int:
        with contextlib.suppress(Exception), Store.open(database or self.database, read_only=True) as store:
            return store.summary().counts[TaskStatus.COMPLETED]
        return 0

    def go(self) -> None:
        (self.folder / "go").touch()


@pytest.fixture
def project(shell: CommandLine) -> Project:
    return Project(shell)


def start_midway(project: Project) -> subprocess.Popen[str]:
    """Start the run; return its process once the first four tasks are completed."""
    process = project.shell.start(*RUN)
    wait_until(lambda: project.completed() == 4)
    return process


def test_database_that_is_deleted_during_the_run_has_all_results_at_its_end(project: Project) -> None:
    process = start_midway(project)
    for file in project.folder.glob("job.db*"):
        file.unlink()
    project.go()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "was deleted; written again with all its content" in err
    assert "JOB COMPLETE" in out
    assert project.completed() == TASKS
    assert project.shell.running() == set()


def test_run_whose_database_is_replaced_ends_with_its_instances_and_keeps_a_copy(project: Project) -> None:
    process = start_midway(project)
    other = project.folder / "other"
    other.write_bytes(b"something else")
    other.rename(project.database)
    project.go()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "JOB COMPLETE" not in out
    last = err.strip().splitlines()[-1]
    assert "job.db: replaced by another file; its content was saved as job.db.bak-" in last
    assert "no instance is left running" in last
    assert [line for line in err.splitlines() if line.endswith("ERROR - ")] == []
    assert len([line for line in err.splitlines() if "ERROR" in line]) == 1, err
    assert project.shell.running() == set()
    (copy,) = project.folder.glob("job.db.bak-*")
    assert project.completed(copy) >= 4
    assert project.database.read_bytes() == b"something else"
    # The queues have what the database has not.
    shown = project.shell.run("show-queue", "-c", "config.yml", "--db-file", copy.name, "--json")
    assert '"exists": true' in shown.out
    unnamed = project.shell.run("show-queue", "-c", "config.yml")
    assert (unnamed.code, "the job database, which names the queues, cannot be read; " in unnamed.err) == (2, True)
    resumed = run_printed(project, last, f"cloud-tasks run --continue --config config.yml --db-file {copy.name}")
    assert "JOB COMPLETE" in resumed.out, resumed.err
    assert project.completed(copy) == TASKS


def test_run_whose_state_folder_is_renamed_ends_and_creates_no_other(project: Project) -> None:
    process = start_midway(project)
    (state,) = project.folder.glob(".cloud-tasks")
    state.rename(project.folder / "renamed")
    project.go()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    last = next(line for line in reversed(err.splitlines()) if line.startswith("Error: "))
    assert f"local.state_dir: {state} was deleted or renamed while it was in use; restore the folder" in last
    assert not state.exists()
    assert project.completed() >= 4
    # Each instance ends by itself once its folder has no longer its name.
    wait_until(lambda: project.shell.running() == set())


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_run_whose_database_is_damaged_in_place_ends_with_its_instances_and_keeps_a_copy(
    project: Project, share: float
) -> None:
    process = start_midway(project)
    size = project.database.stat().st_size
    if share < 1:
        os.truncate(project.database, int(size * share))
    else:
        with project.database.open("r+b") as file:
            file.write(b"x" * min(size, 1 << 16))
    project.go()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "JOB COMPLETE" not in out
    last = err.strip().splitlines()[-1]
    assert "job.db: damaged by another program; what could be read was saved as job.db.bak-" in last
    assert "no instance is left running" in last
    assert project.shell.running() == set()
    (copy,) = project.folder.glob("job.db.bak-*")
    assert project.completed(copy) >= 4
    resumed = run_printed(project, last, f"cloud-tasks run --continue --config config.yml --db-file {copy.name}")
    assert "JOB COMPLETE" in resumed.out, resumed.err
    assert project.completed(copy) == TASKS


def run_printed(project: Project, text: str, command: str, *more: str) -> Finished:
    """Run the command that a text names in backquotes."""
    assert command in re.findall("`([^`]*)`", text), text
    return project.shell.run(*shlex.split(command)[1:], *more)


@pytest.mark.parametrize(("policy", "more"), [("terminate", ("--dry-run",)), ("leave", ())])
def test_command_that_an_interrupted_run_prints_resumes_the_job(
    project: Project, policy: str, more: tuple[str, ...]
) -> None:
    database = project.folder / "their job.db"
    process = project.shell.start(*RUN, "--job-id", "second", "--db-file", database.name, "--on-interrupt", policy)
    wait_until(lambda: project.completed(database) == 4)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    project.go()
    command = "cloud-tasks run --continue --config config.yml --job-id second --db-file 'their job.db'"
    resumed = run_printed(project, err, command, *more)
    assert resumed.code == 0, resumed.err
    assert project.completed(database) == (4 if more else TASKS)


def test_command_that_an_aborted_run_prints_resumes_the_job(project: Project) -> None:
    project.shell.configure(script="exit 3")
    aborted = project.shell.run(*RUN, "--db-file", "other.db")
    assert aborted.code == 1, aborted.err
    assert "job stopped: " in aborted.err
    project.shell.configure(script=f'exec {sys.executable} "$CLOUD_TASKS_SUBMIT_DIR/w.py"')
    project.go()
    resumed = run_printed(project, aborted.err, "cloud-tasks run --continue --config config.yml --db-file other.db")
    assert resumed.code == 0, resumed.err


def test_locked_database_is_waited_for_and_named(project: Project) -> None:
    process = start_midway(project)
    with contextlib.closing(sqlite3.connect(project.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        project.go()
        wait_until(lambda: (project.folder / "go").exists())
        # Longer than one attempt takes.
        time.sleep(7)
        status = project.shell.run("status", "-c", "config.yml")
        assert status.code == 0
        assert process.poll() is None
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert err.count("The job database cannot be used since") == 1
    assert f"locked by a program (PID {os.getpid()})" in err
    assert err.count("The job database can be used again") == 1
    assert project.completed() == TASKS


@pytest.mark.parametrize(
    "command", [("status",), ("report",), ("export", "tasks"), ("logs", "t1"), ("run", "--continue")]
)
def test_commands_on_a_database_that_excludes_readers_fail_in_one_line(
    project: Project, command: tuple[str, ...]
) -> None:
    loaded = project.shell.run("load-queue", "-c", "config.yml", "--task-file", "tasks.json")
    assert loaded.code == 0, loaded.err
    with contextlib.closing(sqlite3.connect(project.database, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        done = project.shell.run(*command, "-c", "config.yml")
    assert done.code in (1, 2)
    assert f"job.db: locked by a program (PID {os.getpid()}); close the program" in done.err.splitlines()[-1]


def test_queues_that_are_deleted_during_the_run_are_created_again(project: Project) -> None:
    process = start_midway(project)
    refused = project.shell.run("delete-queue", "-c", "config.yml")
    assert refused.code == 2
    assert f"which the controller of job job (PID {process.pid}) uses" in refused.err
    deleted = project.shell.run("delete-queue", "-c", "config.yml", "--force")
    assert f"in use by the controller of job job (PID {process.pid})" in deleted.err
    project.go()
    _, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    assert "A queue of the job was deleted; creating it again" in err
    assert project.completed() == TASKS


def test_second_database_of_a_running_job_is_refused(project: Project) -> None:
    process = start_midway(project)
    for command in (RUN, ("load-queue", "-c", "config.yml", "--task-file", "tasks.json")):
        second = project.shell.run(*command, "--db-file", "second.db", "--force")
        # `run` finds the instances first, `load-queue` the queue.
        code, reason = (2, "job job is running elsewhere: instance ") if command is RUN else (1, f"(PID {process.pid})")
        assert (second.code, reason in second.err.splitlines()[-1]) == (code, True), second.err
    assert not (project.folder / "second.db").exists()
    assert process.poll() is None
    project.go()
    process.communicate(timeout=60)
    assert (process.returncode, project.completed()) == (0, TASKS)


def test_jobs_with_one_start_of_the_queue_names_have_queues_of_their_own(project: Project) -> None:
    load = ("load-queue", "-c", "config.yml", "--task-file", "tasks.json")
    for options in ((), ("--job-id", "other", "--queue-name", "job")):
        loaded = project.shell.run(*load, *options)
        assert loaded.code == 0, loaded.err
        shown = json.loads(project.shell.run("show-queue", "-c", "config.yml", "--json", *options).out)
        assert [(row["queue"].startswith("job-"), row["visible"]) for row in shown] == [(True, 12), (True, 0)]


def test_killed_load_leaves_nothing_after_the_next(project: Project) -> None:
    left = project.folder / ".cloud-tasks-load-killed"
    left.mkdir()
    (left / "job.db").write_bytes(b"x")
    fresh = project.folder / ".cloud-tasks-load-fresh"
    fresh.mkdir()
    old = time.time() - 3600
    os.utime(left, (old, old))
    project.shell.run("load-queue", "-c", "config.yml", "--task-file", "tasks.json")
    assert sorted(project.folder.glob(".cloud-tasks-load-*")) == [fresh]


def test_error_before_a_resumed_run_shows_the_instances_that_are_left(project: Project) -> None:
    process = start_midway(project)
    process.kill()
    process.communicate()
    wait_until(lambda: writer_of(project.database) is None)
    failed = project.shell.run("run", "-c", "config.yml", "--continue", "--instance-types", "none-such")
    assert failed.code == 2
    last = failed.err.strip().splitlines()[-1]
    assert (
        "1 instance of the job is still running at $1.00/hour: correct this and resume the job with --continue, "
        "or terminate with `cloud-tasks stop --config config.yml --instance-types none-such`"
    ) in last
    assert len(project.shell.running()) == 1
    stopped = run_printed(project, last, "cloud-tasks stop --config config.yml --instance-types none-such")
    assert stopped.code == 0, stopped.err
    assert project.shell.running() == set()
