"""Any value in any field of any event: the good events are counted, and every command works afterwards."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from controller_fakes import FakeQueue
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_commands import MemoryCommands
from store_facts import new_store
from virtual_loop import VirtualLoop

from cloud_tasks.controller.messaging.event_collector import EventCollector
from cloud_tasks.model import EventType, TaskStatus

TEXT = st.text(st.characters(), max_size=12)
VALUES = st.recursive(
    st.integers()
    | st.floats()
    | st.booleans()
    | st.none()
    | TEXT
    | st.sampled_from(["9999-12-31T23:59:59-23:59", 10**400, 2**63, -(2**70), "\ud800", "a\0b", "x" * 6000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "event_id",
    "event_type",
    "timestamp",
    "hostname",
    "instance_id",
    "task_id",
    "attempt",
    "retry",
    "elapsed_time",
]
DETAILS = ["result", "exception", "exception_type", "stack_trace", "log_tail", "exit_code", "signal", "cause"]
DETAILS += ["running_tasks", "reason", "run_id", "note", "details", "result_address", "result_type", "result_bytes"]
GOOD = ["g1", "g2", "g3"]


def entry(task_id: str, kind: str, event_id: str, **fields: Any) -> dict[str, Any]:
    base = {"timestamp": "2026-01-01T00:00:05+00:00", "hostname": "h", "instance_id": "i", "attempt": 1}
    return {**base, "event_id": event_id, "event_type": kind, "task_id": task_id, **fields}


def good(number: int) -> dict[str, Any]:
    fields = {"retry": False, "elapsed_time": 1.5, "result": {"n": number}}
    return entry(GOOD[number], "task_completed", f"good-{number}", **fields)


@st.composite
def hostile_messages(draw: st.DrawFn) -> list[bytes]:
    """Messages with good events before, between and behind bad ones."""
    bad = []
    for number in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from([kind.value for kind in EventType]))
        changes = draw(st.dictionaries(st.sampled_from(FIELDS + DETAILS), VALUES, min_size=1, max_size=4))
        # Only an event that names a good task can change one.
        if changes.get("task_id") in GOOD:
            del changes["task_id"]
        bad.append({**entry("bad", kind, f"bad-{number}"), **changes})
    if draw(st.booleans()):
        bad.append(draw(VALUES))
    raw = draw(st.sampled_from([b"", b"\xff", b"[" * 5000, b'{"event_type":"keep_alive"', b"9" * 5000]) | st.binary())
    together = json.dumps([good(0), *bad, good(1)]).encode()
    return [raw, together, json.dumps(draw(VALUES)).encode(), raw, json.dumps(good(2)).encode()]


def call(folder: Path, *command: str) -> str:
    answer = MemoryCommands().call(*command, "--db-file", str(folder / "job.db"), provider=False)
    assert answer.code == 0, (command, answer.err, answer.error)
    answer.out.encode()
    return answer.out


def assert_every_command_works(folder: Path) -> None:
    call(folder, "status")
    json.loads(call(folder, "status", "--json"), parse_constant=pytest.fail)
    for form in ("text", "html", "json", "markdown"):
        call(folder, "report", "--format", form)
    for task_id in ("g1", "bad"):
        call(folder, "logs", task_id)
        json.loads(call(folder, "logs", task_id, "--json"), parse_constant=pytest.fail)
    for kind in ("tasks", "attempts", "events"):
        for line in call(folder, "export", kind, "--format", "jsonl").splitlines():
            json.loads(line, parse_constant=pytest.fail)
        for form in ("csv", "parquet"):
            call(folder, "export", kind, "--output", str(folder / f"{kind}.{form}"))
        rows = list(csv.reader(io.StringIO((folder / f"{kind}.csv").read_text(), newline="")))
        assert len({len(row) for row in rows}) == 1
        assert pyarrow.parquet.read_table(folder / f"{kind}.parquet").num_rows == len(rows) - 1


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(hostile_messages())
def test_good_events_are_counted_and_every_command_works(bodies: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        loop = VirtualLoop()
        queue = FakeQueue(loop)
        queue.inbox.extend(bodies)
        with new_store(folder, [*GOOD, "bad"]) as store:
            collector = EventCollector(loop, store, queue)
            collector.start()
            loop.run(lambda: len(queue.acked) == len(bodies))
            found = [store.task(task_id) for task_id in GOOD]
            assert [entry and entry[1] for entry in found] == [TaskStatus.COMPLETED] * 3
            summary = store.summary()
            assert summary.total == 4
            assert all(isinstance(moment, datetime | None) for moment in (summary.first_start, summary.last_end))
        assert_every_command_works(folder)
