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

__all__ = ["MAX_LOADED", "check_length", "read_all"]

MAX_LOADED = 100_000_000
"""Tasks that are loaded into a database; more are taken for a mistake."""
_BATCH = 1000


def check_length(source: Iterable[Task], *, limit: int | None = None) -> None:
    """Refuse a source of known length with more tasks than are loaded into a database, as `cloud_tasks.builtin`."""
    expected_length = getattr(source, "expected_length", None)
    length = expected_length() if expected_length is not None else None
    if length is not None and min(length, length if limit is None else limit) > MAX_LOADED:
        raise InputError(
            f"{length:,} tasks are more than the {MAX_LOADED:,} that a job can have",
            where=str(getattr(source, "where", "")),
            hint="split them into jobs, or let each task do more work",
        )


def read_all(source: Iterable[Task], *, where: str = "") -> int:
    """Check all tasks, as `cloud_tasks.builtin.validate`; a temporary database finds duplicate ids."""
    where = where or str(getattr(source, "where", ""))
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
