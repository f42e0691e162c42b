"""`JsonLinesSink` beyond its contract: appending, names, pipes, errors."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloud_tasks.builtin.sinks.files import JsonLinesSink
from cloud_tasks.errors import InputError
from cloud_tasks.model import Event, EventType
from cloud_tasks.plugin import EventSinkContext

EVENT = Event(
    event_id="e1",
    event_type=EventType.TASK_COMPLETED,
    timestamp=datetime(2025, 7, 8, tzinfo=UTC),
    hostname="here",
    task_id="a",
    details={"result": "line one\nline two"},
)


def test_write_appends_to_an_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    path.write_text("{}\n")
    for _ in range(2):
        sink = JsonLinesSink(path)
        sink.write([EVENT])
        sink.close()
        sink.close()
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    assert json.loads(lines[2])["result"] == "line one\nline two"


def test_for_job_names_the_file_after_the_job_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    JsonLinesSink.for_job(EventSinkContext(job_id="my-job")).close()
    JsonLinesSink.for_job(EventSinkContext(job_id="my-job", output_file=tmp_path / "other")).close()
    (tmp_path / "there").mkdir()
    JsonLinesSink.for_job(EventSinkContext(job_id="my-job", base_dir=tmp_path / "there")).close()
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert found == ["my-job-events.jsonl", "other", "there/my-job-events.jsonl"]


def test_write_accepts_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink = JsonLinesSink(path)
    sink.write([EVENT])
    sink.close()
    assert json.loads(os.read(reader, 4096))["task_id"] == "a"
    os.close(reader)


def test_open_refuses_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write the file: Is a directory"):
        JsonLinesSink(tmp_path)
