"""Output files that would overwrite what a job is made of."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from memory_commands import MemoryCommands
from store_facts import completed, new_store

from cloud_tasks.errors import InputError
from cloud_tasks.store import JobRecord, Store

CONFIGURATION = "run: {job_id: job, db_file: job.db, startup_script_file: start.sh}\ntask_source: tasks.json\n"
OWN = ("job.db", "job.db-wal", "job.db.lock", "config.yml", "tasks.json", "start.sh", "earlier.db")
COMMANDS = (("export", "tasks", "--format", "csv"), ("report", "--format", "text"))


@pytest.fixture(autouse=True)
def _job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with new_store(tmp_path, ["a"]) as store:
        store.apply_events([completed("a")])
    new_store(tmp_path, ["b"], name="earlier.db").close()
    (tmp_path / "config.yml").write_text(CONFIGURATION)
    (tmp_path / "tasks.json").write_text(json.dumps([{"id": "a", "data": {}}]))
    (tmp_path / "start.sh").write_text("#!/bin/sh\nexit\n")


def other_name(path: Path, way: str) -> Path:
    if way == "symbolic link":
        Path("link").symlink_to(path)
        return Path("link")
    if way == "hard link":
        os.link(path, "link")
        return Path("link")
    return path.absolute() if way == "absolute" else Path("..") / Path.cwd().name / path if way == "dots" else path


def refuse(command: tuple[str, ...], output: Path) -> None:
    before = {file.name: file.read_bytes() for file in Path().iterdir() if file.is_file()}
    answer = MemoryCommands().call(*command, "--config", "config.yml", "--output", str(output), provider=False)
    assert isinstance(answer.error, InputError)
    assert str(answer.error).startswith(f"--output: {output}")
    assert "overwrit" in str(answer.error)
    assert {file.name: file.read_bytes() for file in Path().iterdir() if file.is_file()} == before


@pytest.mark.parametrize("name", OWN)
def test_output_path_of_a_file_of_a_job_is_refused(name: str) -> None:
    refuse(COMMANDS[0], Path(name))


@pytest.mark.parametrize("way", ["absolute", "dots", "symbolic link", "hard link"])
def test_output_path_of_a_job_database_by_another_name_is_refused(way: str) -> None:
    refuse(COMMANDS[1], other_name(Path("job.db"), way))
    refuse(COMMANDS[1], Path("job.db"))


def test_output_path_of_the_task_file_that_the_run_was_given_is_refused(tmp_path: Path) -> None:
    Path("config.yml").write_text("run: {job_id: given, db_file: given.db}\n")
    Path("given.json").touch()
    record = JobRecord(
        job_id="given", queue_name="given", run_id="r", created_at=datetime.now(UTC), task_source="json:given.json"
    )
    Store.create(tmp_path / "given.db", record).close()
    refuse(COMMANDS[1], Path("given.json"))


def test_output_path_of_a_new_file_is_accepted() -> None:
    assert MemoryCommands().call(*COMMANDS[1], "-c", "config.yml", "-o", "new.txt", provider=False).code == 0
    assert "JOB COMPLETE" in Path("new.txt").read_text()
