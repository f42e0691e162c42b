"""Validation of a whole task source in constant memory."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Iterable
from contextlib import closing
from itertools import islice

from cloud_tasks.errors import InputError
from cloud_tasks.model import Task

__all__ = ["read_all"]

_BATCH = 1000


def read_all(source: Iterable[Task]) -> int:
    """Check all tasks, as `cloud_tasks.builtin.validate`; a temporary database finds duplicate ids."""
    where = str(getattr(source, "where", ""))
    with (
        tempfile.TemporaryDirectory(prefix="cloud-tasks-") as folder,
        closing(sqlite3.connect(os.path.join(folder, "ids"), isolation_level=None)) as ids,
    ):
        # Durability does not matter: the file is temporary.
        ids.execute("PRAGMA journal_mode = OFF")
        ids.execute("PRAGMA synchronous = OFF")
        ids.execute("PRAGMA locking_mode = EXCLUSIVE")
        ids.execute("CREATE TABLE ids (task_id TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID")
        tasks = iter(source)
        count = 0
        while batch := list(islice(tasks, _BATCH)):
            rows = [(task.task_id, number) for number, task in enumerate(batch, start=count + 1)]
            for (_, number), task in zip(rows, batch, strict=True):
                _check_encoding(task, number, where)
            _insert(ids, rows, where)
            count += len(batch)
    return count


def _check_encoding(task: Task, number: int, where: str) -> None:
    try:
        json.dumps(task.data if type(task.data) is dict else dict(task.data))
        task.task_id.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f'task {number} ("{task.task_id}"): cannot be encoded as JSON: {error}',
            where=where,
            hint="use text, numbers, true, false, null, lists and objects only",
        ) from error


def _insert(ids: sqlite3.Connection, rows: list[tuple[str, int]], where: str) -> None:
    # Duplicates are ignored by the insert, so the count differs; then find them.
    ids.execute("BEGIN")
    before = ids.total_changes
    ids.executemany("INSERT OR IGNORE INTO ids VALUES (?, ?)", rows)
    ids.execute("COMMIT")
    if ids.total_changes - before == len(rows):
        return
    for task_id, number in rows:
        (first,) = ids.execute("SELECT number FROM ids WHERE task_id = ?", (task_id,)).fetchone()
        if first != number:
            raise InputError(
                f'task {number}: duplicate id "{task_id}", already used by task {first}',
                where=where,
                hint="give every task a unique id",
            )
