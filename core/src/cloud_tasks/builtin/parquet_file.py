"""One Parquet file of events, made from JSON lines, piece by piece."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cloud_tasks.builtin.event_row import COLUMNS, row_of
from cloud_tasks.convert import MalformedMessage, decode_events
from cloud_tasks.errors import InputError
from cloud_tasks.model import Event

__all__ = ["event_ids", "require_pyarrow", "write_events"]

_GROUP_ROWS = 20_000
_GROUP_BYTES = 32 * 2**20
"""A row group ends at either; so much is held in memory."""


def require_pyarrow() -> Any:
    """The package. Raises `InputError` where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            "the event sink parquet needs the package pyarrow",
            hint="install it with: pip install 'cloud-tasks[parquet]'",
        ) from error
    return pyarrow


def write_events(lines: Path, target: Path) -> int:
    """Write the events of a file of JSON lines, and sync; returns how many there were (for none there is no file).

    A last line that is cut off, as a power failure leaves it, was never flushed and is left out.
    """
    arrow = require_pyarrow()
    kinds = {
        "text": arrow.string(),
        "json": arrow.string(),
        "integer": arrow.int64(),
        "number": arrow.float64(),
        "flag": arrow.bool_(),
        "time": arrow.timestamp("us", tz="UTC"),
    }
    schema = arrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    writer = None
    count = 0
    try:
        for group in _groups(lines):
            if writer is None:
                writer = arrow.parquet.ParquetWriter(target, schema, compression="zstd")
            count += len(group)
            columns = zip(*map(row_of, group), strict=True)
            arrays = [arrow.array(list(column), type=field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
    finally:
        if writer is not None:
            writer.close()
    if count:
        with target.open("rb") as file:
            os.fsync(file.fileno())
    return count


def _groups(lines: Path) -> Iterator[list[Event]]:
    group: list[Event] = []
    size = 0
    with lines.open("rb") as file:
        for line in file:
            try:
                events, _ = decode_events(line)
            except MalformedMessage:
                continue
            group.extend(events)
            size += len(line)
            if len(group) >= _GROUP_ROWS or size >= _GROUP_BYTES:
                yield group
                group, size = [], 0
    if group:
        yield group


def event_ids(path: Path, most: int) -> list[str]:
    """The ids of the last events of a file, ``most`` at most."""
    arrow = require_pyarrow()
    with arrow.parquet.ParquetFile(path) as file:
        last = file.metadata.num_row_groups
        found: list[str] = []
        while last and len(found) < most:
            last -= 1
            found = file.read_row_group(last, columns=["event_id"]).column(0).to_pylist() + found
    return found[-most:]
