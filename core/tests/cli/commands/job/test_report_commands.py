"""`report`, `export` and `logs` from a job database, in every format."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import tracemalloc
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow.parquet
import pytest
from memory_commands import Answer, MemoryCommands
from store_facts import JOB, at, completed, event, failed, instance, launch_request, new_store, started

from cloud_tasks.convert import decode_events
from cloud_tasks.model import EventType, Task
from cloud_tasks.report.data.export import export_rows
from cloud_tasks.store import Store

EVIL = "<script>alert('x')</script>"


@pytest.fixture(autouse=True)
def _job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Create a job of six tasks: three completed, one of them in the second attempt; one failed; two pending."""
    monkeypatch.chdir(tmp_path)
    trace = 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: bad <b>'
    story = [
        started("t1", timestamp=at(1)),
        completed("t1", elapsed=1.5, timestamp=at(3), details={"result": {"sum": 3}}),
        started("t2", timestamp=at(2)),
        failed("t2", retry=True, timestamp=at(4)),
        started("t2", attempt=2, timestamp=at(5)),
        completed("t2", attempt=2, elapsed=4.0, timestamp=at(9), details={"result": 'fine, "quoted"\nand long'}),
        started("t3", timestamp=at(3)),
        event(
            EventType.TASK_EXCEPTION,
            "t3",
            timestamp=at(6),
            retry=False,
            elapsed_time=3.0,
            details={
                "exception": "bad <b>",
                "exception_type": "ValueError",
                "stack_trace": trace,
                "log_tail": f"reading {EVIL}\n{trace}\n",
            },
        ),
        completed(EVIL, elapsed=2.0, timestamp=at(8)),
        event(EventType.KEEP_ALIVE, timestamp=at(8), details={"load": 0.5}),
    ]
    with new_store(tmp_path, ["t1", "t2", "t3", EVIL, "t5", "t6"]) as store:
        store.record_intents([launch_request("k1")], at(0), slots=4)
        store.record_launched("k1", instance("i1", "k1"))
        store.apply_events(story)
        store.record_ended("i1", at(3600), "idle")


def call(command: str, *arguments: str) -> Answer:
    return MemoryCommands().call(command, "--db-file", "job.db", *arguments, provider=False)


# report


def test_report_of_an_unfinished_job_shows_the_remaining_tasks() -> None:
    text = call("report").out
    assert "=== JOB NOT COMPLETE: 2 TASKS REMAIN ===" in text
    assert "Total tasks: 6\n  Completed: 3\n  Pending: 2\n  Failed: 1\n" in text
    assert "Elapsed time: 9s\n" in text
    assert "Cost: $0.10 for 1 instance" in text


def test_report_of_a_finished_job_equals_that_of_the_run(tmp_path: Path) -> None:
    with Store.open(tmp_path / "job.db") as store:
        store.apply_events([completed("t5", timestamp=at(10)), completed("t6", timestamp=at(19))])
    assert "=== JOB FINISHED: 1 of 6 tasks failed ===" in call("report").out
    assert "Elapsed time: 19s\n" in call("report").out


def test_report_as_json_has_all_data() -> None:
    facts = call("report", "--json").data
    assert (facts["total"], facts["counts"]["completed"], facts["remaining"]) == (6, 3, 2)
    assert facts["exceptions"][0] == {"summary": "ValueError: bad", "count": 1}
    assert [task["task_id"] for task in facts["slowest_tasks"]] == ["t2", EVIL, "t1"]
    assert float(facts["cost_usd"]) == 0.1
    assert sum(step["completed"] for step in facts["course"]) == 3
    assert sum(step["failed"] for step in facts["course"]) == 1
    (machine,) = facts["machines"]
    assert (machine["instance_id"], machine["end_reason"], machine["tasks_completed"]) == ("i1", "idle", 3)
    # The instance lived for exactly an hour.
    paid = sum(step["price_per_hour_usd"] for step in facts["course"]) / len(facts["course"])
    assert paid == pytest.approx(0.1)
    assert facts["course"][-1]["end"] == at(3600).isoformat()


def test_report_as_markdown_escapes_markup() -> None:
    text = call("report", "--format", "markdown").out
    assert text.startswith("# Job job: job not complete: 2 tasks remain\n")
    assert "| Tasks | 6 |" in text
    assert "\\<script\\>" in text
    assert "<script>" not in text


class Page(HTMLParser):
    """Tags, links and text of an HTML page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attributes if name in ("src", "href", "data", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_report_escapes_markup_and_is_self_contained() -> None:
    found = call("report", "--format", "html").out
    page = Page(found)
    assert "script" not in page.tags
    assert page.links == []
    assert "url(" not in found
    assert "@import" not in found
    assert EVIL in page.text
    assert "Traceback (most recent call last):" in page.text


def test_html_report_has_the_charts() -> None:
    found = call("report", "--format", "html").out
    pictures = [part.split("</svg>")[0] for part in found.split("<svg ")[1:]]
    roots = [ElementTree.fromstring(f"<svg {picture}</svg>") for picture in pictures]
    assert [root.findtext("title") for root in roots] == [
        "Finished tasks over time",
        "Tasks per minute over time",
        "Task durations",
        "Cost in US dollars over time",
        "Instances from launch to termination",
    ]
    (lane,) = (each for each in roots[-1].iter("rect") if each.get("class") == "instances")
    assert (lane.findtext("title") or "").startswith("i1: type-4, zone-a, spot, 3 tasks completed; idle")


def test_report_of_a_job_without_events_works_in_every_format(tmp_path: Path) -> None:
    new_store(tmp_path, ["a"], name="new.db").close()
    for name in ("text", "json", "markdown", "html"):
        answer = MemoryCommands().call("report", "--db-file", "new.db", "--format", name, provider=False)
        assert answer.code == 0
        assert answer.out


@pytest.mark.parametrize(
    ("file", "begin"),
    [("r.html", "<!DOCTYPE html>"), ("r.md", "# Job"), ("r.json", "{"), ("r.txt", "====")],
)
def test_report_format_follows_the_file_extension(tmp_path: Path, file: str, begin: str) -> None:
    answer = call("report", "--output", file)
    assert answer.out == ""
    assert (tmp_path / file).read_text(encoding="utf-8").startswith(begin)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["job.db", file])


# export


def exported(kind: str, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in call("export", kind, "--format", "jsonl", *arguments).out.splitlines()]


def test_export_tasks_includes_status_and_result() -> None:
    rows = exported("tasks")
    assert [row["status"] for row in rows] == ["completed", "completed", "failed", "completed", "pending", "pending"]
    one, two, three = rows[:3]
    assert (one["result"], one["elapsed_time"], one["data"]) == ({"sum": 3}, 1.5, {"of": "t1"})
    assert (two["attempt"], two["result"]) == (2, 'fine, "quoted"\nand long')
    assert (three["reason"], three["result"], three["hostname"]) == ("ValueError: bad <b>", None, "h1")


def test_export_tasks_selects_by_status() -> None:
    assert [row["task_id"] for row in exported("tasks", "--where", "failed,pending")] == ["t3", "t5", "t6"]


def test_export_attempts_includes_every_attempt() -> None:
    rows = exported("attempts")
    assert [(row["task_id"], row["attempt"], row["outcome"]) for row in rows] == [
        ("t1", 1, "completed"),
        ("t2", 1, "exception"),
        ("t2", 2, "completed"),
        ("t3", 1, "exception"),
        (EVIL, 1, "completed"),
    ]
    assert rows[3]["stack_trace"].endswith("ValueError: bad <b>")


def test_export_events_includes_every_event_unchanged() -> None:
    rows = exported("events")
    assert [row["event_type"] for row in rows][-2:] == ["task_completed", "keep_alive"]
    assert (rows[1]["task_id"], rows[1]["retry"], rows[1]["elapsed_time"]) == ("t1", False, 1.5)
    assert rows[1]["details"] == {"result": {"sum": 3}}
    assert rows[-1]["details"] == {"load": 0.5}


@pytest.mark.parametrize("kind", ["tasks", "attempts", "events"])
def test_export_has_the_same_columns_and_rows_in_all_formats(tmp_path: Path, kind: str) -> None:
    lines = exported(kind)
    table = list(csv.DictReader(io.StringIO(call("export", kind).out)))
    call("export", kind, "--output", "rows.parquet")
    columns = pyarrow.parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    own = [list(row) for row in lines]
    # In CSV, columns for the members of objects follow.
    assert own == [list(row)[: len(own[0])] for row in table] == [list(row) for row in columns]
    for line, cells, values in zip(lines, table, columns, strict=True):
        for name, value in line.items():
            if isinstance(value, str) and name not in ("result", "details", "data"):
                assert cells[name] == value
                assert values[name] == value or values[name].isoformat() == value
            elif value is None:
                assert (cells[name], values[name]) == ("", None)
            elif isinstance(value, bool | int | float):
                assert (json.loads(cells[name]), values[name]) == (value, value)
            else:
                assert json.loads(cells[name]) == json.loads(values[name]) == value


@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])
def test_export_writes_events_of_unusual_types_in_every_format(tmp_path: Path, file_format: str) -> None:
    line = {
        "event_id": "odd",
        "timestamp": "2026-01-01T00:00:00+00:00",
        "event_type": "task_completed",
        "task_id": "t5",
    }
    odd = {"attempt": 1, "retry": "yes", "result": {"half \ud800": "\udfff", "large": 2**80}}
    events, problems = decode_events(json.dumps(line | odd).encode())
    assert problems == []
    with Store.open(tmp_path / "job.db") as store:
        store.apply_events(events)
    call("export", "events", "--output", f"rows.{file_format}")
    content = (tmp_path / f"rows.{file_format}").read_bytes()
    if file_format == "parquet":
        row = pyarrow.parquet.read_table(tmp_path / "rows.parquet").to_pylist()[-1]
        assert (row["retry"], json.loads(row["details"])["result"]) == (
            None,
            {"half \\ud800": "\\udfff", "large": 2**80},
        )
    else:
        assert rb"half \\ud800" in content.splitlines()[-1]


def test_export_that_fails_keeps_the_existing_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(old := "task_id,status,\n")
    with Store.open(tmp_path / "job.db") as store:
        store.load_tasks([Task(task_id="t7")])
    with sqlite3.connect(tmp_path / "job.db") as connection:
        connection.execute("DROP TABLE hosts")
    connection.close()
    answer = call("export", "tasks", "--output", "t.csv")
    assert "the job database is damaged: no such table: hosts" in str(answer.error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.db", "t.csv"]
    assert (tmp_path / "t.csv").read_text() == old


def test_export_replaces_an_existing_file(tmp_path: Path) -> None:
    call("export", "tasks", "--output", "t.jsonl")
    with (tmp_path / "t.jsonl").open("a") as file:
        file.write("old\n" * 1000)
    call("export", "tasks", "--output", "t.jsonl")
    assert len((tmp_path / "t.jsonl").read_text().splitlines()) == 6


def test_export_memory_does_not_depend_on_the_number_of_rows(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        with Store.create(tmp_path / f"{count}.db", JOB, durable=False) as store:
            store.load_tasks(Task(task_id=f"t{number}", data={"text": "x" * 200}) for number in range(count))
        tracemalloc.start()
        with (tmp_path / "out.csv").open("wb") as out:
            assert export_rows(tmp_path / f"{count}.db", "tasks", "csv", out) == count
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(10)
    assert peak(10_000) < peak(1_000) + 200_000


# logs


def test_logs_shows_attempts_and_events() -> None:
    text = call("logs", "t2").out
    assert text.startswith('Task t2: completed\nData: {"of": "t2"}\n\nAttempt 1: exception after 2.00 s\n')
    assert (
        "Attempt 2: completed after 4.00 s\n  2025-07-08 12:00:05.000 to 2025-07-08 12:00:09.000 on h1 (instance i1)"
        in text
    )
    assert "  2025-07-08 12:00:02.000 task_started attempt 1 on h1" in text


def test_logs_shows_output_and_traceback_once() -> None:
    text = call("logs", "t3").out
    assert "  Reason: ValueError: bad <b>\n" in text
    assert f"  Output:\n    reading {EVIL}\n" in text
    assert text.count("Traceback (most recent call last):") == 1


def test_logs_of_a_task_without_attempts() -> None:
    assert call("logs", "t5").out == 'Task t5: pending\nData: {"of": "t5"}\nNo attempts yet\n'


def complete_t5(tmp_path: Path, **details: Any) -> None:
    with Store.open(tmp_path / "job.db") as store:
        store.apply_events([completed("t5", details={"result": None, **details})])


PICKLE = {"result_type": "model.Fit", "result_bytes": 1234}


@pytest.mark.parametrize(
    ("details", "shown"),
    [
        ({**PICKLE, "result_pickle": "Zm9v" * 99}, "Result: <model.Fit, 1,234 bytes>\n"),
        ({**PICKLE, "result_address": "s3://b/t.pickle"}, "Result: <model.Fit, 1,234 bytes> in s3://b/t.pickle\n"),
        ({"result_bytes": 9, "result_address": "/r/t.json"}, "Result: <JSON, 9 bytes> in /r/t.json\n"),
        ({"result_type": "m.Lock", "result_repr": "<lock>"}, "Result: <m.Lock, not kept> <lock>\n"),
        ({"log_address": "s3://b/t5.1.log"}, "\n  Log: s3://b/t5.1.log\n"),
        ({"warning": "the result cannot be pickled"}, "\n  Warning: the result cannot be pickled\n"),
        ({"log_tail": "12 stars found\n"}, "\n  Output:\n    12 stars found\n"),
    ],
)
def test_logs_shows_type_size_and_addresses_of_a_result(tmp_path: Path, details: dict[str, Any], shown: str) -> None:
    complete_t5(tmp_path, **details)
    text = call("logs", "t5").out
    assert shown in text
    assert "Zm9v" not in text
    assert "log_address=" not in text


def test_logs_shows_the_whole_message_of_a_failure_without_traceback(tmp_path: Path) -> None:
    with Store.open(tmp_path / "job.db") as store:
        details = {"exception_type": "ResultTooLong", "exception": f"too long\nkept in /{'x' * 500}.json"}
        store.apply_events([event(EventType.TASK_EXCEPTION, "t5", details=details)])
    assert f"Reason: ResultTooLong: too long; kept in /{'x' * 500}.json\n" in call("logs", "t5").out


def test_export_tasks_has_type_size_and_address_of_a_result(tmp_path: Path) -> None:
    complete_t5(tmp_path, **PICKLE, result_address="s3://b/t.pickle", result_pickle="Zm9v")
    row = next(row for row in exported("tasks") if row["task_id"] == "t5")
    assert (row["result"], row["result_type"], row["result_bytes"]) == (None, "model.Fit", 1234)
    assert row["result_address"] == "s3://b/t.pickle"
    assert "result_pickle" not in row


@pytest.mark.parametrize("odd", [3, None, [], {"a": 1}, -1, 1 << 70])
@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])
def test_export_tasks_leaves_out_unusable_descriptions_of_results(tmp_path: Path, odd: Any, file_format: str) -> None:
    complete_t5(tmp_path, result_type=odd, result_bytes={"a": odd}, result_address=odd)
    call("export", "tasks", "--output", f"rows.{file_format}")
    assert call("logs", "t5").out


def test_logs_as_json() -> None:
    facts = call("logs", "t2", "--json").data
    assert [attempt["outcome"] for attempt in facts["attempts"]] == ["exception", "completed"]
    assert [each["event_type"] for each in facts["events"]] == [
        "task_started",
        "task_exception",
        "task_started",
        "task_completed",
    ]
    assert facts["attempts"][0]["started_at"] == (at(0) + timedelta(seconds=2)).isoformat()


def test_logs_suggests_a_similar_task_id() -> None:
    assert str(call("logs", "t33").error) == 'job.db: the job has no task "t33"; did you mean "t3"?'
