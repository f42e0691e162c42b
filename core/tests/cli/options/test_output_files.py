"""Output files of commands: none is an input, and only own outputs are overwritten."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from memory_commands import Answer, MemoryCommands
from store_facts import completed, new_store

from cloud_tasks.errors import InputError
from cloud_tasks.report import is_export_or_report
from cloud_tasks.store import JobRecord, Store

CONFIGURATION = "run:\n  job_id: job\n  startup_script_file: s.sh\n"
FILES = {
    "t.json": '[{"task_id": "a", "data": {}}]',
    "c.yml": CONFIGURATION,
    "s.sh": "true\n",
    "job_failed.json": '[{"task_id": "a", "data": {}}]',
}
WRITTEN = [
    *(("export", kind, "--format", form) for kind in ("tasks", "attempts", "events") for form in ("csv", "jsonl")),
    *(("export", kind, "--format", "parquet") for kind in ("tasks", "attempts", "events")),
    *(("report", "--format", form) for form in ("text", "json", "markdown", "html")),
]
"""Each kind of output in each format."""
FOREIGN = {
    "configuration": CONFIGURATION,
    "program": "import cloud_tasks\n",
    "script": "#!/bin/sh\nexit\n",
    "tasks as JSON": '[{"task_id": "a", "data": {}}]',
    "tasks as JSON Lines": '{"task_id": "a", "data": {}}\n',
    "compact tasks as JSON Lines": '{"task_id":"a","data":{"status":1}}\n',
    "tasks as YAML": "- task_id: a\n  data: {}\n",
    "table": "task,status,result\na,1,2\n",
    "page": "<!DOCTYPE html>\n<html></html>\n",
    "notes": "# Job sums\n\nAs of today, all is well\n",
    "JSON": '{\n  "job_id": "sums"\n}\n',
    "binary": "PAR1\0\0\0\0PAR1",
    "blank": "\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text, encoding="utf-8")
    Path("link.json").symlink_to("t.json")
    os.link("c.yml", "hard.yml")
    return tmp_path


@pytest.fixture
def job(folder: Path) -> Path:
    """Return a folder with a finished job, and with the database of another one."""
    with new_store(folder, ["a"]) as store:
        store.apply_events([completed("a")])
    new_store(folder, ["b"], name="earlier.db").close()
    return folder


def refuse(*command: str) -> str:
    """Check that a command is refused and changes no file; return the message."""
    before = {file.name: file.read_bytes() for file in Path().iterdir() if file.is_file()}
    done = MemoryCommands().call(*command, provider=False)
    assert isinstance(done.error, InputError)
    assert {file.name: file.read_bytes() for file in Path().iterdir() if file.is_file()} == before
    return str(done.error)


def write(command: tuple[str, ...], output: str) -> Answer:
    done = MemoryCommands().call(*command, "--db-file", "job.db", "-o", output, provider=False)
    assert done.code == 0
    assert done.error is None
    return done


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
        (("--output-file", "job_failed.json"), "job_failed.json exists and is not a file of events (JSON Lines)"),
        (("--output-file", "-"), "--output-file: cannot write to standard output; set event_sinks: [console]"),
        (("--task-file", "job_failed.json", "--dump-tasks"), "--dump-tasks: job_failed.json is the task file"),
        (
            ("--set", "event_sinks=sqlite", "--set", "sqlite.file=hard.yml"),
            "sqlite.file: hard.yml is the configuration",
        ),
    ],
)
def test_output_file_that_is_an_input_is_refused(
    folder: Path, command: str, options: tuple[str, ...], message: str
) -> None:
    if command == "load-queue" and {"--output-file", "--dump-tasks", "--set"} & set(options):
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


@pytest.mark.parametrize(
    "name", ["job.db", "job.db-wal", "job.db.lock", "c.yml", "hard.yml", "t.json", "s.sh", "earlier.db"]
)
def test_output_file_of_a_file_of_a_job_is_refused(job: Path, name: str) -> None:
    for command in (("export", "tasks", "--format", "csv"), ("report", "--format", "text")):
        message = refuse(*command, "-c", "c.yml", "--set", "task_source=t.json", "--output", name)
        assert message.startswith(f"--output: {name} is ")


@pytest.mark.parametrize("way", ["absolute", "dots", "symbolic link", "hard link"])
def test_output_file_that_is_a_job_database_by_another_name_is_refused(job: Path, way: str) -> None:
    for number, name in enumerate(("job.db", "earlier.db")):
        other = Path(f"link{number}")
        if way == "symbolic link":
            other.symlink_to(name)
        elif way == "hard link":
            os.link(name, other)
        else:
            other = job / name if way == "absolute" else Path("..") / job.name / name
        assert "database" in refuse("report", "-c", "c.yml", "--format", "text", "-o", str(other))


def test_output_file_that_is_the_recorded_task_file_is_refused(folder: Path) -> None:
    record = JobRecord(
        job_id="job", queue_name="job", run_id="r", created_at=datetime.now(UTC), task_source="json:given.json"
    )
    Store.create(folder / "job.db", record).close()
    Path("given.json").touch()
    assert "the task file" in refuse("report", "--job-id", "job", "--format", "json", "-o", "given.json")
    assert "the task file" in refuse("run", "-c", "c.yml", "--continue", "--output-file", "given.json")


def test_output_file_dash_is_standard_output(job: Path) -> None:
    for command in WRITTEN:
        if "parquet" not in command:
            assert write(command, "-").out
    assert not Path("-").exists()
    write(WRITTEN[0], "./-")
    assert Path("-").exists()


@pytest.mark.parametrize("name", ["", " ", "new/", "c.yml/"])
def test_output_file_without_a_name_is_refused(job: Path, name: str) -> None:
    assert refuse("report", "--db-file", "job.db", "--format", "text", "-o", name).startswith("--output: not a file")


def test_output_file_in_the_home_folder_is_expanded(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(job))
    write(WRITTEN[0], "~/expanded.csv")
    assert (job / "expanded.csv").exists()


def test_output_file_that_is_an_export_or_report_is_overwritten(job: Path) -> None:
    Path("empty").touch()
    write(WRITTEN[0], "empty")
    for number, command in enumerate(WRITTEN):
        write(command, f"output{number}")
    for number, command in enumerate(reversed(WRITTEN)):
        write(command, f"output{number}")


@pytest.mark.parametrize("kind", FOREIGN)
def test_output_file_of_another_origin_is_refused(job: Path, kind: str) -> None:
    Path("found").write_text(FOREIGN[kind])
    for command in (WRITTEN[0], WRITTEN[-1]):
        message = refuse(*command, "--db-file", "job.db", "-o", "found")
        assert message == (
            "--output: found exists and is not an export or report, and would be overwritten; use another file"
        )


def test_output_file_with_other_parquet_columns_is_refused(job: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"task": ["a"], "status": [1]}), "found")
    assert "is not an export" in refuse(*WRITTEN[0], "--db-file", "job.db", "-o", "found")


def test_output_file_of_events_is_appended_to_events_only(job: Path) -> None:
    options = ("run", "-c", "c.yml", "--task-file", "t.json", "--dry-run", "--provider", "memory", "--output-file")
    for name in ("c.yml", "s.sh", "link.json"):
        refuse(*options, name)
    Path("notes.txt").write_text("x")
    assert "is not a file of events" in refuse(*options, "notes.txt")
    with Path("events.jsonl").open("w") as file:
        file.write(json.dumps({"timestamp": "2026-01-01T00:00:00+00:00", "hostname": "h", "event_type": "task_dead"}))
    done = MemoryCommands().call(*options, "events.jsonl", provider=False)
    assert "events.jsonl" not in str(done.error)


def test_output_file_dumped_over_a_file_of_another_origin_is_refused(job: Path) -> None:
    options = ("run", "-c", "c.yml", "--task-file", "t.json", "--dry-run", "--provider", "memory", "--dump-tasks")
    assert "--dump-tasks: job_failed.json exists" in refuse(*options)


@given(content=st.binary(min_size=1, max_size=300))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_output_file_with_any_content_is_refused(job: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=job) as file:
        file.write(content)
        file.flush()
        # Hypothesis tries texts that it finds in the program, such as the first columns of an export.
        assume(not is_export_or_report(Path(file.name)))
        refuse(*WRITTEN[0], "--db-file", "job.db", "-o", file.name)
        assert Path(file.name).read_bytes() == content


def test_output_file_that_is_standard_output_is_written(job: Path) -> None:
    program = "from cloud_tasks.cli.main import main; main()"
    command = [sys.executable, "-c", program, "export", "tasks", "--db-file", "job.db", "-o", "/dev/stdout"]
    done = subprocess.run([*command, "--format", "csv"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("task_id,status,")
