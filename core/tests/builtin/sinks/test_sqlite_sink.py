"""`SqliteSink` beyond its contract: kills, duplicates, concurrent writers, other files."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from cloud_tasks.builtin.sinks.sqlite_sink import SqliteSink
from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.testing.contracts.event_sink import make_event

# Writes batches of ten until it is killed, and prints a line after each.
WRITER = """
import sys
from pathlib import Path
from cloud_tasks.builtin.sinks.sqlite_sink import SqliteSink
from cloud_tasks.testing.contracts.event_sink import make_event
sink = SqliteSink(Path(sys.argv[1]))
for first in range(0, 10**9, 10):
    sink.write([make_event(number) for number in range(first, first + 10)])
    sink.flush()
    print(first + 10, flush=True)
"""


def ids(file: Path) -> list[str]:
    connection = sqlite3.connect(file)
    try:
        return [row[0] for row in connection.execute("SELECT event_id FROM events ORDER BY number")]
    finally:
        connection.close()


def test_killed_writer_leaves_whole_batches_and_the_next_adds_no_duplicates(tmp_path: Path) -> None:
    file = tmp_path / "events.sqlite"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(20)][-1]
        writer.send_signal(signal.SIGKILL)
    found = ids(file)
    assert len(found) >= said
    assert len(found) % 10 == 0
    sink = SqliteSink(file)
    sink.write([make_event(number) for number in range(len(found) + 5)])
    sink.close()
    assert ids(file) == [f"event-{number}" for number in range(len(found) + 5)]


def test_write_accepts_two_processes(tmp_path: Path) -> None:
    file = tmp_path / "events.sqlite"
    first, second = SqliteSink(file), SqliteSink(file)
    first.write([make_event(1)])
    second.write([make_event(2), make_event(1)])
    first.close()
    second.close()
    assert ids(file) == ["event-1", "event-2"]


def test_times_sort_and_values_of_a_wrong_type_are_null(tmp_path: Path) -> None:
    file = tmp_path / "events.sqlite"
    odd: dict[str, Any] = {"attempt": 2**70, "retry": "perhaps", "hostname": "half \ud800", "instance_id": 7}
    sink = SqliteSink(file)
    sink.write([attrs.evolve(make_event(0), **odd)])
    sink.close()
    connection = sqlite3.connect(file)
    query = "SELECT timestamp, attempt, retry, hostname, instance_id FROM events"
    assert connection.execute(query).fetchone() == ("2026-01-02T03:04:05.000000+00:00", None, None, "half ?", "7")
    connection.close()


def test_failed_batch_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    file = tmp_path / "events.sqlite"
    sink = SqliteSink(file)
    blocker = sqlite3.connect(file, isolation_level=None)
    blocker.execute(
        "CREATE TRIGGER full AFTER INSERT ON events WHEN new.event_id = 'event-2' "
        "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
    )
    with pytest.raises(CloudTasksError, match="disk full"):
        sink.write([make_event(1), make_event(2)])
    assert ids(file) == []
    blocker.execute("DROP TRIGGER full")
    blocker.close()
    sink.write([make_event(1), make_event(2)])
    sink.close()
    assert ids(file) == ["event-1", "event-2"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("CREATE TABLE events (name TEXT)", "the file has another table named events"),
        ("PRAGMA user_version = 99", "the file was written by a newer version of cloud-tasks"),
    ],
)
def test_open_refuses_another_database(tmp_path: Path, content: str, complaint: str) -> None:
    file = tmp_path / "other.sqlite"
    connection = sqlite3.connect(file)
    connection.execute(content)
    connection.commit()
    connection.close()
    before = file.read_bytes()
    with pytest.raises(InputError, match=complaint):
        SqliteSink(file)
    assert file.read_bytes() == before


def test_open_refuses_a_file_that_is_not_a_database(tmp_path: Path) -> None:
    file = tmp_path / "text.sqlite"
    file.write_text("no database at all, " * 100)
    with pytest.raises(InputError, match="cannot use the file as a database of events"):
        SqliteSink(file)
    with pytest.raises(InputError, match="cannot use the file as a database of events"):
        SqliteSink(tmp_path / "no" / "folder.sqlite")
