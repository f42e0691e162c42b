"""An event sink: a table of a SQLite database.

Invariants, each with a test:

1. A batch is in the file whole or not at all, whenever the process is killed; when `write` returns it is durable.
2. An event that comes again changes nothing: its id is the key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from cloud_tasks.builtin.sinks.event_row import COLUMNS, row_of
from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.model import Event

__all__ = ["SqliteSink"]

_VERSION = 1
_BUSY_SECONDS = 30.0
"""How long to wait for another writer: workers of one machine may share the file."""
_KINDS = {"text": "TEXT", "time": "TEXT", "integer": "INTEGER", "flag": "INTEGER", "number": "REAL", "json": "TEXT"}


class SqliteSink:
    """Adds events to the table ``events``; times are ISO 8601 text (UTC), so that they sort.

    Raises:
        InputError: The file cannot be written, or is something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        connection: sqlite3.Connection | None = None
        try:
            # The controller calls from whichever thread is free, one at a time.
            connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._prepare(connection)
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise InputError(
                f"cannot be used as a database of events: {error}", where=str(path), hint="name another sqlite.file"
            ) from error
        except InputError:
            if connection is not None:
                connection.close()
            raise
        self._connection: sqlite3.Connection | None = connection
        marks = ", ".join("?" * len(COLUMNS))
        self._insert = f"INSERT OR IGNORE INTO events ({', '.join(COLUMNS)}) VALUES ({marks})"

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # Looked at before anything of it is changed: it may be somebody else's.
        advice = {"where": str(self._path), "hint": "name another sqlite.file"}
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        present = {row[1] for row in connection.execute("PRAGMA table_info(events)")}
        if present and not present >= set(COLUMNS):
            raise InputError("has a table events of another kind", **advice)
        if version > _VERSION:
            raise InputError("was written by a newer cloud-tasks", **advice)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        columns = ", ".join(f"{name} {_KINDS[kind]}" for name, kind in COLUMNS.items())
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, {columns}, UNIQUE (event_id)) STRICT"
        )
        connection.execute("CREATE INDEX IF NOT EXISTS events_by_task ON events (task_id)")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")

    def write(self, events: Sequence[Event]) -> None:
        if self._connection is None or not events:
            return
        rows = [(row[0], row[1].isoformat(timespec="microseconds"), *row[2:]) for row in map(row_of, events)]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany(self._insert, rows)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise CloudTasksError(f"{self._path}: {error}", hint="check the disk") from error

    def flush(self) -> None:
        """Nothing to do: every batch is committed, and synced, before `write` returns."""

    def close(self) -> None:
        """Close the file; does nothing the second time."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
