"""Every command reads a database with odd values, and reports a damaged one in one line."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from memory_commands import Answer, MemoryCommands
from store_facts import at, completed, event, instance, launch_request, new_store, started

from cloud_tasks.errors import CloudTasksError, InputError, StoreError
from cloud_tasks.model import EventType, Task, TaskStatus
from cloud_tasks.store import (
    RecentFailures,
    Store,
    check_content,
    connect_reader,
    iterate_events,
    iterate_tasks,
    read_timeline,
)

COMMANDS = [
    ("status",),
    ("status", "--json"),
    ("report",),
    ("report", "--format", "html"),
    ("report", "--format", "json"),
    ("logs", "t2"),
    ("logs", "t2", "--json"),
    *[("export", kind, "--format", form) for kind in ("tasks", "attempts", "events") for form in ("csv", "jsonl")],
]


@pytest.fixture(autouse=True)
def _job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with new_store(tmp_path) as store:
        store.load_tasks([Task(task_id=name, data={"x": float("nan"), "n": 1}) for name in ("t1", "t2", "t3")])
        store.record_intents([launch_request("k1")], at(0), slots=4)
        store.record_launched("k1", instance("i1", "k1"))
        store.apply_events(
            [
                started("t1", timestamp=at(1)),
                completed("t1", elapsed=1.5, timestamp=at(3), details={"result": {"sum": float("inf")}}),
                started("t2", timestamp=at(2)),
                event(
                    EventType.TASK_EXCEPTION,
                    "t2",
                    timestamp=at(4),
                    retry=False,
                    details={"exception": "bad", "stack_trace": {"a": 1}, "log_tail": 5},
                ),
                event(EventType.KEEP_ALIVE, timestamp=at(5)),
            ]
        )


def call(*command: str) -> Answer:
    return MemoryCommands().call(*command, "--db-file", "job.db", provider=False)


def change(statement: str, *values: Any) -> None:
    connection = sqlite3.connect("job.db")
    with connection:
        assert connection.execute(statement, values).rowcount > 0
    connection.close()


def drop(statement: str) -> None:
    with closing(sqlite3.connect("job.db")) as connection:
        connection.execute(statement)


def assert_everything_is_readable(damage: str = "") -> None:
    """Check all commands; with damage, ``status`` and ``report`` report it, and the others show what there is."""
    for command in COMMANDS:
        answer = call(*command)
        if damage and command[0] in ("status", "report"):
            assert isinstance(answer.error, InputError), command
            assert str(answer.error) == (
                f"job.db: the job database is damaged: {damage}; restore a copy of it, if there is one"
            )
            continue
        assert answer.code == 0, (command, answer.err, answer.error)
        answer.out.encode()
        if "--json" in command or command[-1] == "json":
            json.loads(answer.out, parse_constant=pytest.fail)
        elif command[-1] == "jsonl":
            for line in answer.out.splitlines():
                json.loads(line, parse_constant=pytest.fail)
        elif command[-1] == "csv":
            assert len({len(row) for row in csv.reader(io.StringIO(answer.out))}) == 1
    for kind in ("tasks", "attempts", "events"):
        assert call("export", kind, "--output", f"{kind}.parquet").code == 0
        assert pyarrow.parquet.read_table(f"{kind}.parquet").num_rows > 0
    assert len(RecentFailures(Path("job.db")).read()) >= 0
    with Store.open(Path("job.db"), read_only=True) as store:
        store.statistics()
        store.instances()


TIMES = """job.finished_at tasks.ended_at attempts.started_at attempts.ended_at events.at hosts.last_heard
    hosts.last_busy hosts.spot_terminated_at instances.intended_at instances.launched_at instances.ended_at"""
TEXTS = """job.provider job.tool_version attempts.reason events.event_id events.task_id hosts.hostname hosts.instance_id
    instances.zone instances.end_reason tasks.data events.details"""
CODES = "attempts.outcome events.type instances.state instances.purchase"
NUMBERS = "tasks.elapsed attempts.elapsed"
ODD_TASK = "the status of a task, or the number of its attempts, is invalid"


def change_all(columns: str, expression: str, *values: Any) -> None:
    for column in columns.split():
        table, name = column.split(".")
        # Ids and names are unique: one row of each table.
        change(f"UPDATE {table} SET {name} = {expression} WHERE {'rowid' if table == 'events' else 1} = 1", *values)


@pytest.mark.parametrize("value", [253402387140.0, -1e15, 1e300, "soon", b"\xff"], ids=repr)
def test_time_out_of_range_is_unknown(value: Any) -> None:
    change_all(TIMES, "?", value)
    assert_everything_is_readable()


def test_text_that_is_not_utf8_is_shown_escaped() -> None:
    change_all(TEXTS, "CAST(x'636166e9' AS TEXT)")
    assert_everything_is_readable()
    assert "caf\\xe9" in call("logs", "t2").out


def test_unknown_code_is_shown_as_one_that_is_known() -> None:
    change_all(CODES, "99")
    assert_everything_is_readable()


@pytest.mark.parametrize(
    ("statement", "damage"),
    [
        ("UPDATE tasks SET status = 'weird' WHERE seq = 2", ODD_TASK),
        ("UPDATE tasks SET status = 99 WHERE seq = 2", ODD_TASK),
        ("UPDATE tasks SET attempt = 'x' WHERE seq = 2", ODD_TASK),
        ("UPDATE tasks SET losses = x'ff' WHERE seq = 2", ODD_TASK),
        ("UPDATE job SET state = 'weird'", "the state of the job is unknown"),
        ("UPDATE counters SET value = 'many' WHERE name = 'total'", "a number of tasks is invalid"),
        ("UPDATE counters SET value = -5 WHERE name = 'status:3'", "a number of tasks is invalid"),
        ("DELETE FROM counters", "the tasks or their number are missing"),
    ],
)
def test_value_that_no_version_writes_is_damage(statement: str, damage: str) -> None:
    change(statement)
    assert_everything_is_readable(damage)


TABLES = "job tasks attempts events hosts instances spending counters exceptions elapsed_sketch set_aside consoles"


@pytest.mark.parametrize("table", TABLES.split())
def test_missing_table_is_damage(table: str) -> None:
    drop(f"DROP TABLE {table}")
    for command in COMMANDS:
        answer = call(*command)
        assert answer.error is None or isinstance(answer.error, InputError), command
        if command[0] in ("status", "report") or answer.error is not None:
            assert str(answer.error).startswith("job.db: the job database is damaged: ")
            assert table in str(answer.error)
    with pytest.raises(StoreError, match=f"is damaged: the table {table} is missing"):
        Store.open(Path("job.db"))


@pytest.mark.parametrize("column", ["tasks.losses", "tasks.elapsed", "hosts.last_heard", "instances.zone", "events.at"])
def test_missing_column_is_damage(column: str) -> None:
    table, _, name = column.partition(".")
    drop(f"ALTER TABLE {table} DROP COLUMN {name}")
    for command in ("status", "report"):
        assert f"is damaged: the table {table} has no column {name}; restore" in str(call(command).error)
    with pytest.raises(StoreError, match="has no column"):
        Store.open(Path("job.db"))


def test_missing_job_of_tasks_is_damage() -> None:
    change("DELETE FROM job")
    for command in COMMANDS:
        assert "is damaged: the record of the job is missing; restore" in str(call(*command).error)


def test_check_of_a_sample_looks_at_both_ends_only(tmp_path: Path) -> None:
    with Store.open(tmp_path / "job.db") as store:
        store.load_tasks(Task(task_id=f"more-{n}") for n in range(100))
    with closing(connect_reader(Path("job.db"))) as connection:
        for number, is_found in ((1, True), (50, False), (103, True)):
            change("UPDATE tasks SET status = 3")
            change("UPDATE tasks SET status = 'weird' WHERE seq = ?", number)
            with pytest.raises(StoreError) if is_found else nullcontext():
                check_content(connection, Path("job.db"), sample=10)
            with pytest.raises(StoreError):
                check_content(connection, Path("job.db"))


@pytest.mark.parametrize("text", ["{broken", "[1]", "[" * 5000, '{"x": NaN, "y": 1e999}', '{"a": "\\ud800"}', ""])
def test_json_that_cannot_be_used_is_shown_as_such(text: str) -> None:
    change_all("tasks.data events.details job.config", "?", text)
    assert_everything_is_readable()


@pytest.mark.parametrize("value", [-5.0, float("inf"), float("-inf"), "long", 2**62])
def test_odd_number_is_readable(value: Any) -> None:
    change_all(NUMBERS, "?", value)
    change("UPDATE counters SET value = ? WHERE name LIKE 'elapsed:%' AND name != 'elapsed:count'", value)
    assert_everything_is_readable()


def test_details_of_unknown_form_are_noted() -> None:
    change("UPDATE tasks SET status = 99 WHERE task_id = 't1'")
    change("UPDATE tasks SET data = '{broken' WHERE task_id = 't1'")
    change("UPDATE events SET type = 99, at = 1e300 WHERE id = 1")
    first = next(iterate_tasks(Path("job.db")))
    assert (first.status, first.data) == (TaskStatus.PENDING, {"note": "not readable"})
    oldest = next(iterate_events(Path("job.db")))
    assert oldest.event_type is EventType.NON_FATAL_EXCEPTION
    assert oldest.details["note"] == "an event of the unknown type 99"
    assert read_timeline(Path("job.db"), at(60)).end >= at(5)


def test_damaged_database_is_one_line_without_its_content(tmp_path: Path) -> None:
    with Store.open(tmp_path / "job.db") as store:
        store.load_tasks(Task(task_id=f"more-{n}", data={"password": "hunter2" * 50}) for n in range(2000))
    content = bytearray((tmp_path / "job.db").read_bytes())
    for page in range(3, len(content) // 4096):
        content[page * 4096 : page * 4096 + 100] = b"\xaa" * 100
    (tmp_path / "job.db").write_bytes(content)
    for command in [("status",), ("report",), ("logs", "more-1999"), ("export", "tasks", "--format", "jsonl")]:
        answer = call(*command)
        assert isinstance(answer.error, CloudTasksError), (command, answer)
        text = str(answer.error)
        assert "the job database is damaged; restore a copy of it" in text
        assert "hunter2" not in text
        assert "\n" not in answer.error.message
