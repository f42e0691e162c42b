"""Event sink: a table of a SQLite database.

Invariants, each with a test:

1. A batch is in the file completely or not at all, even if the process is killed; `write` returns when it is durable.
2. An event that is written again changes nothing: its id is the key.
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
"""Time limit for waiting for another writer, such as another worker of the same instance."""
_KINDS = {"text": "TEXT", "time": "TEXT", "integer": "INTEGER", "flag": "INTEGER", "number": "REAL", "json": "TEXT"}


class SqliteSink:
    """Sink that adds events to the table ``events``; times are sortable ISO 8601 text (UTC).

    Raises:
        InputError: The file cannot be written, or is not a database of events.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        connection: sqlite3.Connection | None = None
        try:
            # The controller calls from different threads, one at a time.
            connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._prepare(connection)
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise InputError(
                f"cannot use the file as a database of events: {error}", where=str(path), hint="set another sqlite.file"
            ) from error
        except InputError:
            if connection is not None:
                connection.close()
            raise
        self._connection: sqlite3.Connection | None = connection
        marks = ", ".join("?" * len(COLUMNS))
        self._insert = f"INSERT OR IGNORE INTO events ({', '.join(COLUMNS)}) VALUES ({marks})"

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # Check before any change: the file may belong to another program.
        advice = {"where": str(self._path), "hint": "set another sqlite.file"}
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        present = {row[1] for row in connection.execute("PRAGMA table_info(events)")}
        if present and not present >= set(COLUMNS):
            raise InputError("the file has another table named events", **advice)
        if version > _VERSION:
            raise InputError("the file was written by a newer version of cloud-tasks", **advice)
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
        """Do nothing: `write` has committed and synced every batch."""

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
