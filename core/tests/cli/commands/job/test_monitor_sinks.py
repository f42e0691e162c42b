"""`monitor` feeds event sinks with events and progress."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from memory_commands import MemoryCommands
from store_facts import completed, failed

from cloud_tasks.convert import encode_events
from cloud_tasks.model import Event, JobPhase, JobProgress
from cloud_tasks.plugin import EventSinkBackend, hookimpl


class Pager:
    """Event sink that keeps the progress reported to it."""

    def __init__(self) -> None:
        self.reported: list[JobProgress] = []

    def write(self, events: Sequence[Event]) -> None:
        """Keep nothing."""

    def flush(self) -> None:
        """Keep nothing."""

    def close(self) -> None:
        """Keep nothing."""

    def progress(self, progress: JobProgress) -> None:
        self.reported.append(progress)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryCommands:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.json").write_text(json.dumps([{"id": name, "data": {}} for name in ("a", "b")]))
    commands = MemoryCommands()
    assert commands.call("load-queue", "--job-id", "job", "--task-file", "tasks.json").error is None
    return commands


def test_monitor_feeds_every_event_sink_and_reports_the_end(commands: MemoryCommands, tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text("event_sinks: [sqlite, pager]\nrun: {scaling_check_interval: 0.05}\n")
    commands.job_queue("event").send([encode_events([completed("a"), failed("b")])])
    pager = Pager()
    backend = EventSinkBackend(name="pager", summary="Pager", open=lambda *_: nullcontext(pager))
    hook = hookimpl(lambda: (backend,))
    commands.registry.register("pager", SimpleNamespace(cloud_tasks_register_event_sink=hook))
    answer = commands.call("monitor", "--config", "config.yml", "--job-id", "job")
    assert answer.code == 3, answer.err
    connection = sqlite3.connect(tmp_path / "job-events.sqlite")
    assert connection.execute("SELECT task_id FROM events ORDER BY number").fetchall() == [("a",), ("b",)]
    connection.close()
    last = pager.reported[-1]
    assert (last.phase, last.finished, last.failed, last.total) == (JobPhase.COMPLETE, 2, 1, 2)
