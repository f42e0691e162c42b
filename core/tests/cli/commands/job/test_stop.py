"""``stop``: terminates all instances of one job and no others; the job can be resumed."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest
from command_line import CommandLine, wait_until
from small_disk import fill, small_disk
from store_facts import at, instance, launch_request, new_store

from cloud_tasks.cli.commands.job.stop import _Records
from cloud_tasks.model import InstanceState
from cloud_tasks.store import Store


@pytest.fixture
def left(shell: CommandLine) -> CommandLine:
    """Job whose interrupted controller left its instance running."""
    shell.configure()
    (shell.folder / "tasks.json").write_text('[{"task_id": "a", "data": {}}]', encoding="utf-8")
    options = ("--task-file", "tasks.json", "--on-interrupt", "leave", "--secrets", "{token: 'file:tasks.json'}")
    run = shell.start("run", "--config", "config.yml", *options)
    wait_until(lambda: shell.running("job"))
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    return shell


def records(folder: Path) -> list[tuple[bool, str]]:
    with Store.open(folder / "job.db", read_only=True) as store:
        return [(record.ended_at is not None, record.end_reason) for record in store.instances()]


def test_stop_terminates_the_instances_and_records_it(left: CommandLine) -> None:
    other = left.launch("b", job_id="another").instance_id
    assert left.running("job")
    secrets = left.folder / ".cloud-tasks" / "job" / "secrets"
    assert (secrets / "token").exists(), "for the instance that was left running"
    stopped = left.run("stop", "--config", "config.yml")
    assert not secrets.exists()
    assert (stopped.code, left.running()) == (0, {other})
    assert stopped.out.endswith("Terminated 1 instance of job job\n")
    assert records(left.folder) == [(True, "job stopped")]


def test_stop_books_an_instance_that_is_listed_after_its_own_end_until_now(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        store.record_intents(
            [attrs.evolve(launch_request("t1"), max_lifetime=timedelta(hours=1))], at(0), own_end=timedelta(0)
        )
        store.record_launched("t1", instance("i1", "t1"))
    before = datetime.now(UTC)
    with _Records(tmp_path / "job.db", "job", force=False) as records_of_job:
        records_of_job.update([instance("i1", "t1", state=InstanceState.STOPPING)], before)
    with Store.open(tmp_path / "job.db", read_only=True) as store:
        (record,) = store.instances()
    assert record.ended_at is not None
    assert record.ended_at >= before


def test_stopped_job_resumes_with_its_queue_removed(left: CommandLine) -> None:
    stopped = left.run("stop", "--config", "config.yml", "--purge-queue")
    assert "Removed the queued tasks" in stopped.out
    left.configure(script=f'python -c "{PROGRAM}"')
    finished = left.run("run", "--config", "config.yml", "--continue")
    assert finished.code == 0, finished.err
    assert "Completed: 1" in finished.out


PROGRAM = (
    "import asyncio,sys; from cloud_tasks.worker import Worker; "
    "asyncio.run(Worker(lambda i,d,w: (False, i), args=[]).start())"
)


@pytest.mark.parametrize("way", ["full disk", "damaged", "locked", "no lock file"])
def test_stop_terminates_and_lists_the_instances_whatever_the_database(
    left: CommandLine, tmp_path: Path, way: str
) -> None:
    (instance,) = left.running("job")
    database, more = left.folder / "job.db", ("--config", "config.yml")
    with contextlib.ExitStack() as stack:
        if way == "full disk":
            disk = stack.enter_context(small_disk(tmp_path / "disk", "size=2m"))
            shutil.copy(database, disk)
            fill(disk)
            database = disk / "job.db"
        elif way == "damaged":
            content = database.read_bytes()
            database.write_bytes(content[:100] + b"x" * len(content[100:]))
        elif way == "locked":
            other = stack.enter_context(contextlib.closing(sqlite3.connect(database, isolation_level=None)))
            other.execute("BEGIN IMMEDIATE")
        else:
            (left.folder / "job.db.lock").symlink_to("elsewhere")
        stopped = left.run("stop", *more, "--db-file", str(database))
    assert left.running() == set()
    assert f"Terminated {instance} (" in stopped.out
    assert stopped.out.endswith("Terminated 1 instance of job job\n")
    (error,) = stopped.err.splitlines()[-1:]
    assert error.startswith(f"Error: {database}")
    assert stopped.code == 1


def test_stop_refuses_the_database_of_another_job(left: CommandLine) -> None:
    stopped = left.run("stop", "--config", "config.yml", "--job-id", "another", "--db-file", "job.db")
    assert stopped.code != 0
    assert left.running("job")


def test_stop_works_without_a_database(shell: CommandLine) -> None:
    shell.configure()
    shell.launch("a")
    stopped = shell.run("stop", "--config", "config.yml")
    assert (stopped.code, shell.running()) == (0, set())


def test_stop_prints_the_terminated_instances_as_json(shell: CommandLine) -> None:
    shell.configure()
    name = shell.launch("job").instance_id
    stopped = shell.run("stop", "--config", "config.yml", "--json")
    assert json.loads(stopped.out) == {"job_id": "job", "terminated": [name], "queue_removed": False}
    assert f"Terminated {name}" in stopped.err


def test_stop_without_instances_succeeds(shell: CommandLine) -> None:
    shell.configure()
    stopped = shell.run("stop", "--config", "config.yml")
    assert (stopped.code, stopped.out) == (0, "No instances of job job\n")


@pytest.mark.parametrize("command", ["stop", "cleanup", "list-running-instances"])
def test_command_in_another_folder_than_the_job_names_the_folders(left: CommandLine, command: str) -> None:
    other = left.folder / "other"
    other.mkdir()
    shutil.copy(left.folder / "config.yml", other)
    found = CommandLine(other).run(command, "--config", "config.yml")
    assert found.code == 0
    assert f"No record of job job: {other / 'job.db'} not found" in found.err
    assert left.running("job")


def test_status_in_another_folder_than_the_job_names_the_folder(left: CommandLine) -> None:
    other = left.folder / "other"
    other.mkdir()
    found = CommandLine(other).run("status", "--job-id", "job")
    assert (found.code, f"job database job.db not found in {other}" in found.err) == (2, True)


def test_stop_beside_a_running_controller_requires_force(left: CommandLine) -> None:
    with Store.open(left.folder / "job.db"):
        refused = left.run("stop", "--config", "config.yml")
        assert (refused.code, len(left.running("job"))) == (1, 1)
        assert "in use by another cloud-tasks process" in refused.err
        assert left.run("stop", "--config", "config.yml", "--force").code == 0
        assert left.running("job") == set()


def test_stop_requires_a_job(shell: CommandLine) -> None:
    refused = shell.run("stop", "--provider", "local")
    assert (refused.code, refused.err.splitlines()) == (
        2,
        ["Error: no job given; add --job-id or --config"],
    )


ELSEWHERE = ("--local-state-dir", "elsewhere")


COMMANDS_ELSEWHERE: tuple[tuple[str, ...], ...] = (
    ("stop",),
    ("stop", "--force"),
    ("status",),
    ("cleanup", "--all", "--force"),
    ("run", "--continue"),
    ("run", "--task-file", "tasks.json", "--force"),
)


def test_command_in_another_place_than_the_instances_is_refused(left: CommandLine) -> None:
    for command in COMMANDS_ELSEWHERE:
        refused = left.run(*command, "--config", "config.yml", *ELSEWHERE)
        assert refused.code == 2, command
        (line,) = [line for line in refused.err.splitlines() if line.startswith("Error")]
        assert f'local.state_dir: the job was started with "{left.folder / ".cloud-tasks"}", and now has' in line
        # The command that it would advise has the same options.
        assert "cloud-tasks stop" not in refused.err
        assert len(left.running("job")) == 1
        assert records(left.folder) == [(False, "")]


def test_other_task_file_does_not_resume_a_job(left: CommandLine) -> None:
    (left.folder / "others.json").write_text('[{"task_id": "b", "data": {}}]', encoding="utf-8")
    refused = left.run("run", "--config", "config.yml", "--continue", "--task-file", "others.json")
    assert (refused.code, len(left.running("job"))) == (2, 1)
    assert "--task-file: the tasks of the job are those of tasks.json, not of others.json" in refused.err


def test_stop_leaves_instances_of_other_users(left: CommandLine) -> None:
    theirs = left.launch("theirs", owner="bob").instance_id
    stopped = left.run("stop", "--config", "config.yml")
    assert (stopped.code, left.running()) == (0, {theirs})
    assert "Left 1 instance of other users" in stopped.err


def test_stop_without_a_database_is_refused_beside_a_controller(shell: CommandLine) -> None:
    shell.configure()
    (shell.folder / "tasks.json").write_text('[{"task_id": "a", "data": {}}]', encoding="utf-8")
    run = shell.start("run", "--config", "config.yml", "--task-file", "tasks.json")
    wait_until(lambda: shell.running("job"))
    refused = shell.run("stop", "--config", "config.yml", "--db-file", "elsewhere.db")
    assert (refused.code, len(shell.running("job"))) == (1, 1)
    assert f"the job is in use by the controller of job job (PID {run.pid})" in refused.err
