"""Damage of a database that SQLite does not notice: missing tables and columns, and values that no version writes.

Invariants, each with a test:

1. Checking changes nothing, and never raises anything but `StoreError`, in one line without content of the database.
2. With a sample, its duration does not depend on the number of tasks.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from cloud_tasks.store.db.enum_codes import STATUS_OF_CODE
from cloud_tasks.store.db.obstacles import damage_error
from cloud_tasks.store.db.schema import migrate
from cloud_tasks.store.records import JobState

__all__ = ["check_content", "check_tables"]

_CODES = f"({', '.join(map(str, STATUS_OF_CODE))})"
_ODD_TASK = (
    f"typeof(status) != 'integer' OR status NOT IN {_CODES} OR typeof(attempt) != 'integer' OR typeof(losses)"
    " != 'integer'"
)
_ODD_COUNTER = "(name = 'total' OR name LIKE 'status:%') AND (typeof(value) NOT IN ('integer', 'real') OR value < 0)"
_STATES = ", ".join(f"'{state.value}'" for state in JobState)


def check_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `StoreError` if a table or column of the database's version is missing."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    found = _columns(connection)
    for table, columns in _expected(version).items():
        if table not in found:
            raise damage_error(path, f"the table {table} is missing")
        if missing := sorted(columns - found[table]):
            raise damage_error(path, f"the table {table} has no column {missing[0]}")


def check_content(connection: sqlite3.Connection, path: Path, *, sample: int | None = None) -> None:
    """Check tables, columns, and the values that decide what is shown of a job.

    Args:
        connection: In a transaction, or of a database that does not change.
        sample: Number of tasks to check at each end of the table; None: all.

    Raises:
        StoreError: One of them is missing or invalid.
    """
    check_tables(connection, path)
    if connection.execute(f"SELECT 1 FROM job WHERE state NOT IN ({_STATES})").fetchone():
        raise damage_error(path, "the state of the job is unknown")
    if connection.execute(f"SELECT 1 FROM counters WHERE {_ODD_COUNTER}").fetchone():
        raise damage_error(path, "a number of tasks is invalid")
    (has_tasks, total) = connection.execute(
        "SELECT (SELECT max(seq) FROM tasks) IS NOT NULL,"
        " coalesce((SELECT value FROM counters WHERE name = 'total'), 0)"
    ).fetchone()
    if has_tasks and connection.execute("SELECT 1 FROM job").fetchone() is None:
        raise damage_error(path, "the record of the job is missing")
    if bool(has_tasks) != bool(total):
        raise damage_error(path, "the tasks or their number are missing")
    ends = ("",) if sample is None else (f"ORDER BY seq LIMIT {sample}", f"ORDER BY seq DESC LIMIT {sample}")
    for end in ends:
        rows = f"SELECT status, attempt, losses FROM tasks {end}"
        if connection.execute(f"SELECT 1 FROM ({rows}) WHERE {_ODD_TASK} LIMIT 1").fetchone():
            raise damage_error(path, "the status of a task, or the number of its attempts, is invalid")


def _columns(connection: sqlite3.Connection) -> dict[str, frozenset[str]]:
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return {
        table: frozenset(name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,)))
        for table in tables
    }


@functools.cache
def _expected(version: int) -> Mapping[str, frozenset[str]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, until=version)
        return _columns(connection)
