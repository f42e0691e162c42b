"""Rescue of the content of an open database whose file was damaged: pages in memory and in the log are readable.

``VACUUM`` cannot do this: it reads the schema again, which is in the first page of the file.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from cloud_tasks.store.db.schema import migrate

__all__ = ["salvage"]


def salvage(connection: sqlite3.Connection, copy: Path, complete: Callable[[sqlite3.Connection], None]) -> Path:
    """Write what can be read to a new database; return its path.

    Args:
        complete: Adds what is missing and the process knows.
    """
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    try:
        with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as out:
            migrate(out)
            out.execute("BEGIN")
            for (table,) in out.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
                _copy_rows(connection, out, table)
            complete(out)
            out.execute("COMMIT")
        return copy
    except BaseException:
        copy.unlink(missing_ok=True)
        raise


def _copy_rows(connection: sqlite3.Connection, out: sqlite3.Connection, table: str) -> None:
    """Copy the rows from both ends of a table up to the damage."""
    names = [name for _, name, *_ in out.execute(f"PRAGMA table_info({table})")]
    columns = ", ".join(names)
    insert = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({', '.join('?' * len(names))})"
    for direction in ("ASC", "DESC"):
        order = ", ".join(f"{name} {direction}" for name in _key(out, table))
        with contextlib.suppress(sqlite3.DatabaseError):
            for row in connection.execute(f"SELECT {columns} FROM {table} NOT INDEXED ORDER BY {order}"):
                out.execute(insert, row)
            return


def _key(out: sqlite3.Connection, table: str) -> list[str]:
    """Return the columns that a table is stored by, so that no sorting reads all of it first."""
    (sql,) = out.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    if "WITHOUT ROWID" not in sql:
        return ["rowid"]
    keys = [(position, name) for _, name, _, _, _, position in out.execute(f"PRAGMA table_info({table})") if position]
    return [name for _, name in sorted(keys)]
