"""`monitor` feeds event sinks, and tells them how the job stands."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from memory_commands import MemoryCommands
from store_facts import completed, failed
from webhook_server import WebhookServer

from cloud_tasks.convert import encode_events


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryCommands:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.json").write_text(json.dumps([{"id": name, "data": {}} for name in ("a", "b")]))
    commands = MemoryCommands()
    assert commands.call("load-queue", "--job-id", "job", "--task-file", "tasks.json").error is None
    return commands


def test_what_it_collects_goes_to_every_sink_and_the_end_is_told(
    commands: MemoryCommands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yml").write_text("event_sinks: [sqlite, webhook]\nrun: {scaling_check_interval: 0.05}\n")
    commands.queue("job-events").send([encode_events([completed("a"), failed("b")])])
    with WebhookServer() as server:
        monkeypatch.setenv("CLOUD_TASKS_WEBHOOK_URL", server.address)
        answer = commands.call("monitor", "--config", "config.yml", "--job-id", "job")
    assert answer.code == 0, answer.err
    connection = sqlite3.connect(tmp_path / "job-events.sqlite")
    assert connection.execute("SELECT task_id FROM events ORDER BY number").fetchall() == [("a",), ("b",)]
    connection.close()
    (text,) = server.texts
    assert text.startswith("Job job: it is complete: 2 of 2 tasks have ended, 1 of them failed; it took 0:00:")
