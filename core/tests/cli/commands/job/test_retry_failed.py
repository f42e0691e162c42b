"""``run --retry-failed``: rerun of failed tasks in the same database."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import CommandLine, Finished

from cloud_tasks.model import TaskStatus
from cloud_tasks.store import Store

PROGRAM = """
import asyncio, os, sys
from pathlib import Path
from cloud_tasks.worker import Worker

HERE = Path(__file__).parent

def work(task_id, data, worker_data):
    with (HERE / "ran").open("a") as journal:
        journal.write(task_id + chr(10))
    if not (HERE / "fixed").exists():
        if task_id == "raises":
            raise ValueError("not fixed yet")
        if task_id == "exits":
            os._exit(3)
    return False, "done"

asyncio.run(Worker(work, args=sys.argv[1:]).start())
"""


@pytest.fixture
def finished(shell: CommandLine) -> CommandLine:
    """Finished job of three tasks: one raised, one exited; both would succeed now."""
    (shell.folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    shell.configure(script=f"python {shell.folder}/program.py")
    tasks = ", ".join(f'{{"task_id": "{name}", "data": {{}}}}' for name in ("raises", "exits", "works"))
    (shell.folder / "tasks.json").write_text(f"[{tasks}]", encoding="utf-8")
    first = shell.run("run", "--config", "config.yml", "--task-file", "tasks.json")
    assert first.code == 3, first.err
    assert statuses(shell.folder) == {"raises": "failed", "exits": "exited", "works": "completed"}
    (shell.folder / "fixed").touch()
    (shell.folder / "ran").unlink()
    return shell


def statuses(folder: Path) -> dict[str, str]:
    with Store.open(folder / "job.db", read_only=True) as store:
        return {task.task_id: status.value for status in TaskStatus for task in store.export_tasks([status])}


def retry(shell: CommandLine, *arguments: str) -> Finished:
    return shell.run("run", "--config", "config.yml", "--retry-failed", *arguments)


def test_retry_failed_reruns_the_failed_tasks_only(finished: CommandLine) -> None:
    again = retry(finished)
    assert again.code == 0, again.err
    assert set(statuses(finished.folder).values()) == {"completed"}
    assert sorted((finished.folder / "ran").read_text().split()) == ["exits", "raises"]
    assert "Rerunning 2 finished tasks" in again.err
    assert "(this run, 2 tasks)" in again.out
    with Store.open(finished.folder / "job.db", read_only=True) as store:
        assert [attempt.attempt for attempt in store.attempts("raises")] == [1, 2]
        summary = store.summary()
        assert summary.finished_before == 1
        assert summary.run_started_at is not None
        assert summary.run_started_at > summary.job.created_at


def test_retry_failed_selects_by_status(finished: CommandLine) -> None:
    assert retry(finished, "--where", "exited,timed_out").code == 3
    assert statuses(finished.folder) == {"raises": "failed", "exits": "completed", "works": "completed"}
    assert retry(finished, "--where", "exited").code == 2


def test_retry_failed_dry_run_counts_and_changes_nothing(finished: CommandLine) -> None:
    before = statuses(finished.folder)
    dry = retry(finished, "--dry-run")
    assert "Dry run: 2 tasks would be run; nothing was changed" in dry.err
    assert statuses(finished.folder) == before


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--retry-failed", "--where", "completed"], 'invalid status "completed"'),
        (["--retry-failed", "--where", ","], "no status given"),
        (["--where", "failed"], "add --retry-failed"),
        (["--retry-failed", "--task-file", "t.json"], "omit --task-file"),
        (["--retry-failed"], "job database job.db not found in "),
    ],
)
def test_retry_failed_reports_bad_input_in_one_line(shell: CommandLine, arguments: list[str], reason: str) -> None:
    shell.configure()
    refused = shell.run("run", "--config", "config.yml", *arguments)
    assert refused.code == 2
    errors = [line for line in refused.err.splitlines() if " INFO - " not in line]
    assert len(errors) == 1
    assert reason in errors[0]
