"""Tasks, attempts and events as rows for other programs: CSV, JSON Lines, Parquet.

Invariants, each with a test:

1. Memory does not depend on the number of rows.
2. A file is written whole or not at all; an older one is replaced only by a whole one.
3. The columns of a kind are always the same, in the same order, whatever the rows hold: a value of another type is
   empty, and half of a character (a lone surrogate, which JSON can hold) is replaced.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import attrs

from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.model import Event, TaskStatus
from cloud_tasks.store.queries.history import TaskAttempt, TaskRecord, iterate_attempts, iterate_events, iterate_tasks

__all__ = ["FORMATS", "KINDS", "export_rows", "replacing"]

FORMATS = ("csv", "jsonl", "parquet")
_GROUP = 20_000
"""Rows of a Parquet row group; so many are held in memory."""


@attrs.frozen(kw_only=True)
class _Kind:
    """What can be exported, and how a row of it is made."""

    columns: Mapping[str, str]
    """The type of each: ``text``, ``integer``, ``number``, ``flag``, ``time``, or ``json`` for what has any shape."""
    rows: Callable[[Path, frozenset[TaskStatus] | None], Iterator[dict[str, Any]]]


def _tasks(path: Path, statuses: frozenset[TaskStatus] | None) -> Iterator[dict[str, Any]]:
    return (_task(record) for record in iterate_tasks(path, statuses=statuses))


def _task(record: TaskRecord) -> dict[str, Any]:
    return {**{name: getattr(record, name) for name in KINDS["tasks"].columns}, "status": record.status.value}


def _attempts(path: Path, statuses: frozenset[TaskStatus] | None) -> Iterator[dict[str, Any]]:
    return (_attempt(found) for found in iterate_attempts(path))


def _attempt(found: TaskAttempt) -> dict[str, Any]:
    values = attrs.asdict(found.record, recurse=False)
    outcome = found.record.outcome
    return {
        "task_id": found.task_id,
        **values,
        "outcome": None if outcome is None else outcome.value,
        "stack_trace": found.details.get("stack_trace"),
        "log_tail": found.details.get("log_tail"),
    }


def _events(path: Path, statuses: frozenset[TaskStatus] | None) -> Iterator[dict[str, Any]]:
    return (_event(event) for event in iterate_events(path))


def _event(event: Event) -> dict[str, Any]:
    return {
        "timestamp": event.timestamp,
        **{name: value for name, value in attrs.asdict(event, recurse=False).items() if name != "timestamp"},
        "event_type": event.event_type.value,
        "retry": event.retry if isinstance(event.retry, bool) else None,
        "details": dict(event.details),
    }


KINDS: Mapping[str, _Kind] = {
    "tasks": _Kind(
        columns={
            "task_id": "text",
            "status": "text",
            "attempt": "integer",
            "losses": "integer",
            "elapsed_time": "number",
            "ended_at": "time",
            "hostname": "text",
            "reason": "text",
            "result": "json",
            "data": "json",
        },
        rows=_tasks,
    ),
    "attempts": _Kind(
        columns={
            "task_id": "text",
            "attempt": "integer",
            "outcome": "text",
            "started_at": "time",
            "ended_at": "time",
            "elapsed_time": "number",
            "hostname": "text",
            "instance_id": "text",
            "reason": "text",
            "stack_trace": "text",
            "log_tail": "text",
        },
        rows=_attempts,
    ),
    "events": _Kind(
        columns={
            "timestamp": "time",
            "event_id": "text",
            "event_type": "text",
            "hostname": "text",
            "instance_id": "text",
            "task_id": "text",
            "attempt": "integer",
            "retry": "flag",
            "elapsed_time": "number",
            "details": "json",
        },
        rows=_events,
    ),
}
"""What can be exported, by name."""


def export_rows(
    path: Path, kind: str, file_format: str, out: BinaryIO, *, statuses: frozenset[TaskStatus] | None = None
) -> int:
    """Write every row of a kind; returns how many there were.

    Args:
        path: The job's database.
        kind: One of `KINDS`.
        file_format: One of `FORMATS`.
        statuses: Only tasks of these, for ``tasks``; None: all.

    Raises:
        InputError: Parquet is asked for and pyarrow is not installed.
    """
    columns = KINDS[kind].columns
    rows = KINDS[kind].rows(path, statuses)
    write = {"csv": _write_csv, "jsonl": _write_json_lines, "parquet": _write_parquet}[file_format]
    return write(rows, columns, out)


def _write_csv(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], out: BinaryIO) -> int:
    text = io.TextIOWrapper(out, encoding="utf-8", errors="replace", newline="", write_through=True)
    try:
        writer = csv.writer(text)
        writer.writerow(columns)
        count = 0
        for row in rows:
            count += 1
            writer.writerow([_cell(row[name], kind) for name, kind in columns.items()])
        text.flush()
        return count
    finally:
        text.detach()


def _cell(value: Any, kind: str) -> Any:
    if value is None:
        return ""
    if kind == "json":
        return _json(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return {True: "true", False: "false"}[value] if kind == "flag" else value


def _write_json_lines(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], out: BinaryIO) -> int:
    count = 0
    for row in rows:
        count += 1
        out.write(_json({name: row[name] for name in columns}).encode("utf-8", "replace") + b"\n")
    return count


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


# Made once: `json.dumps` would make one for each value.
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_plain).encode


def _write_parquet(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], out: BinaryIO) -> int:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            "Parquet needs the package pyarrow", hint="install it with: pip install 'cloud-tasks[parquet]'"
        ) from error
    types = {
        "text": pyarrow.string(),
        "json": pyarrow.string(),
        "integer": pyarrow.int64(),
        "number": pyarrow.float64(),
        "flag": pyarrow.bool_(),
        "time": pyarrow.timestamp("us", tz="UTC"),
    }
    schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
    count = 0
    remaining = iter(rows)
    with pyarrow.parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        while group := list(itertools.islice(remaining, _GROUP)):
            count += len(group)
            arrays = [
                pyarrow.array([_parquet_value(row[name], kind) for row in group], type=types[kind])
                for name, kind in columns.items()
            ]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
    return count


def _parquet_value(value: Any, kind: str) -> Any:
    return _json(value).encode("utf-8", "replace") if kind == "json" and value is not None else value


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of ``file`` when all went well, and is removed when not.

    Raises:
        InputError: There is no such folder, or it cannot be written to.
        CloudTasksError: Writing failed.
    """
    unfinished = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        out = unfinished.open("wb")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", where=str(file), hint="name another place") from error
    try:
        with out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(unfinished, file)
    except OSError as error:
        raise CloudTasksError(f"{file}: cannot be written: {error.strerror}", hint="check the disk") from error
    finally:
        unfinished.unlink(missing_ok=True)
