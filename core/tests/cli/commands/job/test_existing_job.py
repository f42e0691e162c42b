"""``run`` of a job that exists: continued, overwritten with a copy kept, or left as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import CommandLine, wait_until
from terminal import Screen

from cloud_tasks.model import TaskStatus
from cloud_tasks.store import Store

RUN = ("run", "-c", "config.yml", "--task-file", "tasks.json", "--no-live", "--no-dump-tasks")


@pytest.fixture
def existing(shell: CommandLine) -> CommandLine:
    """Folder with a job of two tasks, and a task file of three others."""
    shell.configure()
    (shell.folder / "tasks.json").write_text('[{"id": "a", "data": {}}, {"id": "b", "data": {}}]')
    assert shell.run("load-queue", "-c", "config.yml", "--task-file", "tasks.json").code == 0
    (shell.folder / "tasks.json").write_text(
        '[{"id": "x", "data": {}}, {"id": "y", "data": {}}, {"id": "z", "data": {}}]'
    )
    return shell


def copies(folder: Path) -> list[Path]:
    return sorted(folder.glob("job.db.bak-*"))


def tasks(database: Path) -> int:
    with Store.open(database, read_only=True) as store:
        return store.summary().total


def ask(screen: Screen, answer: str) -> None:
    wait_until(lambda: "[C]ontinue it, [o]verwrite it" in screen.shown)
    assert "Job job exists: 0 of 2 tasks finished (job.db)." in screen.shown
    screen.type(answer)


@pytest.mark.parametrize("answer", ["\r", "c\r"])
def test_run_continues_an_existing_job_by_default(existing: CommandLine, answer: str) -> None:
    with Screen(existing.folder, *RUN) as screen:
        ask(screen, answer)
        wait_until(lambda: "Resuming: 0 of 2 tasks finished" in screen.shown)
        wait_until(lambda: existing.running())
        screen.type("\x03")
        wait_until(lambda: "[T]erminate all instances" in screen.shown)
        screen.type("t\r")
        assert screen.end() == 130
    assert (tasks(existing.folder / "job.db"), copies(existing.folder)) == (2, [])
    assert existing.running() == set()


def test_run_overwrites_an_existing_job_on_request_and_keeps_its_database(existing: CommandLine) -> None:
    with Screen(existing.folder, *RUN) as screen:
        ask(screen, "o\r")
        wait_until(lambda: "The earlier database was kept as job.db.bak-" in screen.shown)
        wait_until(lambda: existing.running())
    (copy,) = copies(existing.folder)
    assert (tasks(copy), tasks(existing.folder / "job.db")) == (2, 3)


@pytest.mark.parametrize("answer", ["q\r", "yes\r"])
def test_run_leaves_an_existing_job_as_it_is_after_other_answers(existing: CommandLine, answer: str) -> None:
    with Screen(existing.folder, *RUN) as screen:
        ask(screen, answer)
        assert screen.end() == 2
        assert "nothing was changed" in screen.shown
    assert (tasks(existing.folder / "job.db"), copies(existing.folder)) == (2, [])


def test_run_without_a_terminal_refuses_and_names_both_options(existing: CommandLine) -> None:
    refused = existing.run(*RUN)
    assert refused.code == 2
    assert refused.err.splitlines()[-1].endswith("add --force to confirm, or --continue to resume the job")
    assert (tasks(existing.folder / "job.db"), copies(existing.folder)) == (2, [])


def test_forced_load_keeps_the_earlier_database_with_its_results(existing: CommandLine) -> None:
    done = existing.run("load-queue", "-c", "config.yml", "--task-file", "tasks.json", "--force")
    assert done.code == 0, done.err
    (copy,) = copies(existing.folder)
    assert f"The earlier database was kept as {copy.name}" in done.err
    with Store.open(copy, read_only=True) as store:
        assert store.summary().counts[TaskStatus.QUEUED] == 2


@pytest.mark.parametrize("labels", [{"run": "elsewhere"}, {"owner": "bob", "run": "elsewhere"}, {"owner": "bob"}])
def test_run_does_not_overwrite_a_job_that_runs_elsewhere_even_with_force(
    existing: CommandLine, labels: dict[str, str]
) -> None:
    name = existing.launch("theirs", **labels).instance_id
    refused = existing.run(*RUN, "--force")
    assert refused.code == 2
    owner, run = labels.get("owner", "unknown"), labels.get("run", "unknown")
    assert f"job job is running elsewhere: instance {name} of owner {owner}, run {run}, created 2" in refused.err
    assert "use another job_id" in refused.err
    assert (existing.running(), tasks(existing.folder / "job.db"), copies(existing.folder)) == ({name}, 2, [])


def test_run_with_force_overwrites_a_job_of_its_own_database(existing: CommandLine) -> None:
    with Store.open(existing.folder / "job.db", read_only=True) as store:
        earlier = store.job.run_id
    name = existing.launch("earlier", run=earlier).instance_id
    asked = existing.run(*RUN)
    assert (asked.code, f"1 running instance ({name} of owner unknown, run {earlier}" in asked.err) == (2, True)
    run = existing.start(*RUN, "--force", "--on-interrupt", "terminate")
    wait_until(lambda: existing.running() - {name})
    assert name not in existing.running()
    run.terminate()
    run.communicate(timeout=60)
    with Store.open(existing.folder / "job.db", read_only=True) as store:
        assert store.job.run_id != earlier
        assert store.known_runs() == {earlier, store.job.run_id}
