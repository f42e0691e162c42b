"""Validating and inserting the tasks of a job, in constant memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice

from cloud_tasks.compact_json import compact_encoder
from cloud_tasks.errors import InputError
from cloud_tasks.model import Task, TaskStatus
from cloud_tasks.store.db.batch_insert import insert_rows
from cloud_tasks.store.db.enum_codes import STATUS_TO_CODE
from cloud_tasks.store.write.counters import add_to_counters

__all__ = ["insert_tasks"]

_BATCH = 1000
_PENDING = f"status:{STATUS_TO_CODE[TaskStatus.PENDING]}"
_INSERT = "INSERT OR FAIL INTO tasks (seq, task_id, data)"

_Row = tuple[int, str, str]


def insert_tasks(
    connection: sqlite3.Connection, tasks: Iterable[Task], *, start: int, limit: int | None, where: str
) -> int:
    """Insert tasks inside the caller's transaction and count them as pending; return how many.

    Skipped tasks are read, and so validated by their source, but not compared with the others. Nothing is read beyond
    the limit: a generator may be endless.

    Args:
        start: Number of tasks to skip.
        limit: Maximum number of tasks to insert; None for all.
        where: Location shown in errors.

    Raises:
        InputError: A duplicate task id, or data that JSON cannot represent.
    """
    (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM tasks").fetchone()
    selected = islice(tasks, start, None if limit is None else start + limit)
    rows = _rows(selected, first_seq=last + 1, first_number=start + 1, where=where)
    offset = start - last
    count = 0
    while batch := list(islice(rows, _BATCH)):
        try:
            insert_rows(connection, _INSERT, batch)
        except sqlite3.IntegrityError as error:
            raise _duplicate(connection, batch, offset=offset, last=last, where=where) from error
        count += len(batch)
    add_to_counters(connection, {"total": count, _PENDING: count})
    return count


def _rows(tasks: Iterable[Task], *, first_seq: int, first_number: int, where: str) -> Iterator[_Row]:
    encode = compact_encoder()
    for index, task in enumerate(tasks):
        try:
            data = encode(task.data if type(task.data) is dict else dict(task.data))
            if not task.task_id.isascii():
                task.task_id.encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f'task {first_number + index} ("{task.task_id}"): cannot be encoded as JSON: {error}',
                where=where,
                hint="use text, numbers, true, false, null, lists and objects only",
            ) from error
        yield first_seq + index, task.task_id, data


def _duplicate(connection: sqlite3.Connection, batch: list[_Row], *, offset: int, last: int, where: str) -> InputError:
    """Return the error that names the first duplicate of a rejected batch and the task that it repeats."""
    in_batch: dict[str, int] = {}
    for seq, task_id, _ in batch:
        row = connection.execute("SELECT seq FROM tasks WHERE task_id = ? AND seq < ?", (task_id, seq)).fetchone()
        first = in_batch.get(task_id) or (row[0] if row else None)
        if first is not None:
            earlier = f"task {first + offset}" if first > last else "a task loaded earlier"
            return InputError(
                f'task {seq + offset}: duplicate id "{task_id}", already used by {earlier}',
                where=where,
                hint="give every task a unique id",
            )
        in_batch[task_id] = seq
    return InputError("duplicate task id", where=where)
