"""Event sinks of a real job: events, recovery after a kill, secrets."""

from __future__ import annotations

import json
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from otlp_receiver import Receiver
from webhook_server import SECRET, WebhookServer


def configure(desk: Any, sinks: list[str], sections: dict[str, Any], **run: Any) -> str:
    file: Path = desk.configure(**run)
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "event_sinks": sinks, **sections}))
    return str(file)


def events_of(folder: Path) -> list[tuple[str, str | None]]:
    """Return (event type, task id) of each event in the SQLite event sink."""
    connection = sqlite3.connect(folder / "addition-events.sqlite")
    try:
        rows = connection.execute("SELECT event_id, event_type, task_id FROM events").fetchall()
    except sqlite3.OperationalError:
        return []
    finally:
        connection.close()
    assert len({row[0] for row in rows}) == len(rows)
    return [(kind, task) for _, kind, task in rows]


def tasks_with(events: list[tuple[str, str | None]], kind: str) -> list[str]:
    return sorted(task or "" for found, task in events if found == kind)


def test_sqlite_event_sink_and_parquet_export_hold_every_event_of_a_job(desk: Any) -> None:
    config = configure(desk, ["sqlite"], {})
    job = desk.run("run", "--config", config, "--task-file", str(desk.tasks(40)))
    assert job.returncode == 0, job.stderr
    expected = [f"task-{number:05d}" for number in range(1, 41)]
    desk.run("export", "events", "--config", config, "--output", "events.parquet")
    table = pyarrow.parquet.read_table(desk.folder / "events.parquet")
    exported = zip(table["event_type"].to_pylist(), table["task_id"].to_pylist(), strict=True)
    for events in (events_of(desk.folder), list(exported)):
        assert tasks_with(events, "task_completed") == tasks_with(events, "task_started") == expected
        assert tasks_with(events, "worker_started") == [""]


def test_parquet_event_sink_is_refused_before_anything_is_created(desk: Any) -> None:
    config = configure(desk, ["parquet"], {"parquet": {"rows_per_file": 20}})
    job = desk.run("run", "--config", config, "--task-file", str(desk.tasks(5)))
    assert job.returncode == 2
    assert len(job.stderr.splitlines()) == 1
    assert "cloud-tasks export events --format parquet" in job.stderr
    assert desk.left_behind() == []


def test_resumed_job_adds_missing_events_to_the_sqlite_event_sink_once(desk: Any, eventually: Any) -> None:
    config = configure(desk, ["sqlite"], {}, environment="export ADDITION_TASK_DELAY=0.1")
    controller = desk.start("run", "--config", config, "--task-file", str(desk.tasks(60)))
    eventually(lambda: len(tasks_with(events_of(desk.folder), "task_completed")) >= 10)
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    before = events_of(desk.folder)
    # Events that the controller had committed but not yet sent to the sink.
    connection = sqlite3.connect(desk.folder / "addition-events.sqlite")
    connection.execute("DELETE FROM events WHERE number > (SELECT max(number) - 5 FROM events)")
    connection.commit()
    connection.close()
    again = desk.run("run", "--config", config, "--continue")
    assert again.returncode == 0, again.stderr
    assert desk.status()["counts"]["completed"] == 60
    events = events_of(desk.folder)
    assert set(before) < set(events)
    assert set(tasks_with(events, "task_completed")) == {f"task-{number:05d}" for number in range(1, 61)}


def test_webhook_notifies_of_failures_and_the_end_without_exposing_its_url(desk: Any) -> None:
    with WebhookServer((503,)) as server:
        config = configure(
            desk,
            ["webhook"],
            {"webhook": {"failure_rate": 0.5, "failure_sample": 10}},
            worker="worker_addition_exceptions.py",
            environment="export ADDITION_EXCEPTION_PROBABILITY=1",
        )
        secret = {"CLOUD_TASKS_WEBHOOK_URL": server.address}
        shown = desk.run("config", "show", "--config", config, env=secret)
        job = desk.run("run", "-vv", "--config", config, "--task-file", str(desk.tasks(30)), env=secret)
    assert job.returncode == 3, job.stderr
    failures, end = server.texts
    assert failures.startswith("Job addition: 100% of the last 10 tasks failed (10 of 10); latest: ZeroDivisionError")
    assert end.startswith("Job addition: finished: 30 of 30 tasks finished (30 failed) in 0:00:")
    for output in (shown.stdout, shown.stderr, job.stdout, job.stderr):
        assert SECRET not in output
    databases = [path.read_bytes() for path in desk.folder.glob("*.db*")]
    assert databases
    assert [content for content in databases if SECRET.encode() in content] == []


def test_unreachable_webhook_neither_fails_nor_delays_a_job(desk: Any) -> None:
    with WebhookServer() as server:
        address = server.address
    config = configure(desk, ["webhook"], {"webhook": {"patience": 0.5}})
    arguments = ("run", "--config", config, "--task-file", str(desk.tasks(5)))
    job = desk.run(*arguments, env={"CLOUD_TASKS_WEBHOOK_URL": address})
    assert job.returncode == 0, job.stderr
    assert "1 notification was not delivered (Connection refused)" in job.stderr
    assert SECRET not in job.stderr


def test_webhook_without_a_url_is_reported_in_one_line(desk: Any) -> None:
    config = configure(desk, ["webhook"], {})
    job = desk.run("run", "--config", config, "--task-file", str(desk.tasks(5)))
    assert job.returncode == 2
    assert "webhook.url: required; set CLOUD_TASKS_WEBHOOK_URL" in job.stderr
    assert desk.left_behind() == []


@pytest.fixture
def receiver() -> Any:
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_otel_event_sink_sends_a_trace_and_metrics_of_a_job(desk: Any, receiver: Receiver) -> None:
    config = configure(desk, ["otel"], {"otel": {"endpoint": receiver.address}})
    job = desk.run("run", "--config", config, "--task-file", str(desk.tasks(30)))
    assert job.returncode == 0, job.stderr
    attempts = [span for span in receiver.spans if span.name == "attempt"]
    (whole,) = [span for span in receiver.spans if span.name == "job"]
    assert len(attempts) == 30
    assert {(span.trace_id, span.parent_span_id) for span in attempts} == {(whole.trace_id, whole.span_id)}
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in attempts)
    assert receiver.points("cloud_tasks.attempts") == {"outcome=completed,retry=False": 30}
    assert receiver.points("cloud_tasks.tasks")["status=completed"] == 30
    assert receiver.points("cloud_tasks.instances") == {"": 0}
    assert list(receiver.points("cloud_tasks.cost")) == [""]
