"""Export of tasks, attempts and events as CSV, JSON Lines or Parquet.

Invariants, each with a test:

1. Memory does not depend on the number of rows.
2. The columns of a kind are always the same, in the same order: a value of an unexpected type becomes empty, and lone
   surrogates, which JSON can hold, are replaced. In CSV, columns for the members of objects follow: `MemberColumns`.
3. JSON is strict: NaN and infinities are the texts ``NaN``, ``Infinity`` and ``-Infinity``.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import attrs

from cloud_tasks.errors import InputError
from cloud_tasks.escape import csv_cell
from cloud_tasks.model import Event, TaskStatus
from cloud_tasks.report.data.member_columns import MemberColumns
from cloud_tasks.sanitize import clean_text, shown_value
from cloud_tasks.store import TaskAttempt, TaskRecord, iterate_attempts, iterate_events, iterate_tasks

__all__ = ["FORMATS", "KINDS", "export_rows"]

FORMATS = ("csv", "jsonl", "parquet")
_GROUP = 20_000
"""Rows of a Parquet row group, which are held in memory."""


@attrs.frozen(kw_only=True)
class _Kind:
    """A kind of rows."""

    columns: Mapping[str, str]
    """Type by name: ``text``, ``integer``, ``number``, ``flag``, ``time``, or ``json`` for arbitrary values."""
    rows: Callable[[Path, frozenset[TaskStatus] | None], Iterator[dict[str, Any]]]
    expanded: tuple[str, ...] = ()
    """Columns whose objects have a column for each member in CSV."""


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
            "result_type": "text",
            "result_bytes": "integer",
            "result_address": "text",
        },
        rows=_tasks,
        expanded=("result", "data"),
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
"""Kinds of rows by name."""


def export_rows(
    path: Path,
    kind: str,
    file_format: str,
    out: BinaryIO,
    *,
    statuses: frozenset[TaskStatus] | None = None,
    spreadsheet: bool = False,
) -> int:
    """Write all rows of a kind; return their number.

    Args:
        path: Job database.
        kind: One of `KINDS`.
        file_format: One of `FORMATS`.
        statuses: Restrict ``tasks`` to these; None: all.
        spreadsheet: Whether text that a spreadsheet would take for a formula gets an apostrophe in CSV (`csv_cell`).

    Raises:
        InputError: The format is Parquet and pyarrow is not installed.
    """
    columns = KINDS[kind].columns
    rows = (
        {name: _typed(row[name], value_type) for name, value_type in columns.items()}
        for row in KINDS[kind].rows(path, statuses)
    )
    if file_format == "csv":
        members = MemberColumns.of(KINDS[kind].rows(path, statuses), KINDS[kind].expanded)
        return _write_csv(rows, columns, out, members, csv_cell if spreadsheet else str)
    write = {"jsonl": _write_json_lines, "parquet": _write_parquet}[file_format]
    return write(rows, columns, out)


_MAX_INTEGER = 2**63


def _typed(value: Any, kind: str) -> Any:
    """Return a value of a column's type; None for any other value, which only a damaged or odd database has."""
    if kind == "json" or value is None:
        return value
    if kind == "text":
        return clean_text(value) if isinstance(value, str) else None
    if kind == "time":
        return value if isinstance(value, datetime) else None
    if kind == "flag" or isinstance(value, bool):
        return value if kind == "flag" and isinstance(value, bool) else None
    if kind == "integer":
        return value if isinstance(value, int) and -_MAX_INTEGER <= value < _MAX_INTEGER else None
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _write_csv(
    rows: Iterable[Mapping[str, Any]],
    columns: Mapping[str, str],
    out: BinaryIO,
    members: MemberColumns,
    escape: Callable[[str], str],
) -> int:
    text = io.TextIOWrapper(out, encoding="utf-8", errors="replace", newline="", write_through=True)
    try:
        writer = csv.writer(text)
        writer.writerow(map(escape, (*columns, *members.names)))
        count = 0
        for row in rows:
            count += 1
            cells = [_cell(row[name], kind) for name, kind in columns.items()]
            cells += [_cell(value, _kind_of(value)) for value in members.values(row)]
            writer.writerow([escape(cell) if isinstance(cell, str) else cell for cell in cells])
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


def _kind_of(value: Any) -> str:
    """Return the kind of a member's value: containers are JSON, anything else is itself."""
    if isinstance(value, bool):
        return "flag"
    return "json" if isinstance(value, dict | list) else "text"


_LINE_BREAKS = {number: f"\\u{number:04x}" for number in (0x85, 0x2028, 0x2029)}
"""Characters that some readers, such as `str.splitlines`, take for the end of a line; JSON escapes the others."""


def _write_json_lines(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], out: BinaryIO) -> int:
    count = 0
    for row in rows:
        count += 1
        line = _json({name: row[name] for name in columns}).translate(_LINE_BREAKS)
        out.write(line.encode("utf-8", "replace") + b"\n")
    return count


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


# One encoder for all values: `json.dumps` would create one for each.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode


def _json(value: Any) -> str:
    try:
        return _encode(value)
    except (ValueError, RecursionError):
        return _encode(_strict(value))


def _strict(value: Any) -> Any:
    """Return a value that strict JSON cannot hold as one that it can; a row member by member."""
    if not isinstance(value, dict):
        return shown_value(value)
    return {name: member if isinstance(member, datetime) else shown_value(member) for name, member in value.items()}


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
