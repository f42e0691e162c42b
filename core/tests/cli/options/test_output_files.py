"""Output files of commands: none is a file that the command reads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from memory_commands import MemoryCommands

from cloud_tasks.errors import InputError

FILES = {
    "t.json": '[{"task_id": "a", "data": {}}]',
    "c.yml": "run:\n  job_id: job\n  startup_script_file: s.sh\n",
    "s.sh": "true\n",
    "job_failed.json": '[{"task_id": "a", "data": {}}]',
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text, encoding="utf-8")
    Path("link.json").symlink_to("t.json")
    os.link("c.yml", "hard.yml")
    return tmp_path


@pytest.mark.parametrize("command", ["run", "load-queue"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--db-file", "t.json"), "--db-file: t.json is the task file, and would be overwritten; use another file"),
        (("--db-file", "./t.json"), "the task file"),
        (("--db-file", "link.json"), "the task file"),
        (("--db-file", "hard.yml"), "the configuration file"),
        (("--db-file", "s.sh"), "the startup script"),
        (("--task-file", "json:t.json", "--db-file", "t.json"), "the task file"),
        (("--output-file", "t.json"), "--output-file: t.json is the task file"),
        (("--output-file", "c.yml"), "the configuration file"),
        (("--output-file", "job.db"), "the job database"),
        (("--output-file", "job.db-wal"), "the job database"),
        (("--output-file", "JOB.DB"), "the job database"),
        (("--db-file", "x.db", "--output-file", "x.db"), "the job database"),
        (("--task-file", "job_failed.json", "--dump-tasks"), "--dump-tasks: job_failed.json is the task file"),
    ],
)
def test_output_file_that_is_an_input_is_refused(
    folder: Path, command: str, options: tuple[str, ...], message: str
) -> None:
    if command == "load-queue" and {"--output-file", "--dump-tasks"} & set(options):
        command = "run"
    for more in (("--dry-run",), ("--force",)):
        done = MemoryCommands().call(command, "--config", "c.yml", "--task-file", "t.json", *options, *more)
        assert isinstance(done.error, InputError)
        assert message in str(done.error)
    assert {name: (folder / name).read_text(encoding="utf-8") for name in FILES} == FILES
    assert not list(folder.glob("*.db"))


def test_output_of_a_report_is_not_its_database(folder: Path) -> None:
    Path("job.db").write_bytes(b"x")
    for command, kind in (("report", "json"), ("export tasks", "csv")):
        done = MemoryCommands().call(*command.split(), "--config", "c.yml", "--format", kind, "--output", "job.db")
        assert "--output: job.db is the job database" in str(done.error)
    assert Path("job.db").read_bytes() == b"x"
