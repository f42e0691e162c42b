"""`JobDatabase`: an open database file with its writer lock, transactions and name.

Invariants, each with a test:

1. One process writes. Readers open the file read-only, at any time, and never wait for the writer.
2. A database is loaded under a temporary name and takes its final name by `publish`; an existing database is unchanged
   until then.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud_tasks.errors import StoreError
from cloud_tasks.store.db import connection as database
from cloud_tasks.store.db.reading import readable
from cloud_tasks.store.db.writer_lock import WriterLock

__all__ = ["JobDatabase"]


class JobDatabase:
    """An open database file, from `create` or `open`; its content is the business of `Store`.

    Thread-safe; hold `guard` to use `connection` directly.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: WriterLock | None, *, durable: bool) -> None:
        self.path = path
        self.connection = connection
        self.guard = threading.RLock()
        self._lock = lock
        self._durable = durable
        self._claim: WriterLock | None = None

    # -- opening and closing ---------------------------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path, *, overwrite: bool, durable: bool) -> JobDatabase:
        """Create a database with empty tables.

        Args:
            overwrite: Delete an existing file first.
            durable: Sync each commit to disk.

        Raises:
            StoreError: The file exists, is in use, or cannot be written.
        """
        if not path.parent.is_dir():
            raise StoreError(f"{path}: folder {path.parent} not found", hint="create it first")
        lock = WriterLock(path)
        try:
            if path.exists() and not overwrite:
                raise StoreError(
                    f"{path}: already exists", hint="resume it with --continue, or choose another --db-file"
                )
            database.remove_database(path)
            connection = database.connect_writer(path, create=True, durable=durable)
            return cls(path, connection, lock, durable=durable)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, path: Path, *, read_only: bool, durable: bool) -> JobDatabase:
        """Open an existing database.

        Raises:
            StoreError: No such file, not a job database, a newer version, or in use.
        """
        lock = None if read_only else WriterLock(path) if path.exists() else None
        try:
            if lock is None:
                connection = database.connect_reader(path)
            else:
                connection = database.connect_writer(path, create=False, durable=durable)
            return cls(path, connection, lock, durable=durable)
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    @property
    def writable(self) -> bool:
        """Whether this process holds the writer lock; false once closed."""
        return self._lock is not None

    def close(self) -> None:
        """Close the file and release its lock; idempotent."""
        with self.guard:
            self.connection.close()
            self._release()

    def discard(self) -> None:
        """Close and delete the file."""
        with self.guard:
            self.connection.close()
            database.remove_database(self.path)
            self._release()

    def _release(self) -> None:
        if self._claim is not None:
            self._claim.release()
            self._claim = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    # -- name ------------------------------------------------------------------------------------------------------

    def claim(self, path: Path) -> None:
        """Lock the database ``path``, which this one is going to replace (`publish`).

        Raises:
            StoreError: It is in use by another process.
        """
        with self.guard:
            if self._claim is None:
                self._claim = WriterLock(path)

    def publish(self, path: Path) -> None:
        """Rename the database to ``path``, atomically, overwriting an existing one.

        Raises:
            StoreError: ``path`` is in use by another process or cannot be written; this file is unchanged.
        """
        with self.guard:
            new_lock = WriterLock(path) if self._claim is None else self._claim
            self._claim = None
            try:
                self.connection.execute("PRAGMA journal_mode = DELETE")
                self.connection.close()
                database.replace_database(self.path, path)
                self.connection = database.connect_writer(path, create=False, durable=self._durable)
            except (OSError, sqlite3.Error) as error:
                new_lock.release()
                self.connection.close()
                self.connection = database.connect_writer(self.path, create=False, durable=self._durable)
                raise StoreError(f"{path}: cannot replace the file: {error}", hint="check its permissions") from error
            except BaseException:
                new_lock.release()
                raise
            if self._lock is not None:
                self._lock.release()
            self.path, self._lock = path, new_lock

    # -- transactions ----------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Run a transaction, synced to disk at its end.

        Raises:
            StoreError: The file is read-only or closed, or cannot be written.
        """
        with self.guard:
            if self._lock is None:
                raise StoreError(f"{self.path}: opened read-only, or closed")
            with database.transaction(self.connection):
                yield self.connection

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Run several reads on one snapshot.

        Raises:
            StoreError: The file cannot be read.
        """
        with self.guard, readable(self.path):
            if self.connection.in_transaction:
                yield self.connection
                return
            self.connection.execute("BEGIN")
            try:
                yield self.connection
            finally:
                self.connection.execute("ROLLBACK")

    @contextmanager
    def querying(self) -> Iterator[sqlite3.Connection]:
        """Run one read.

        Raises:
            StoreError: The file cannot be read.
        """
        with self.guard, readable(self.path):
            yield self.connection

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Use a rollback journal while a new database is loaded: it writes each page once, a write-ahead log twice."""
        with self.guard:
            empty = self._lock is not None and self.connection.execute("SELECT 1 FROM tasks LIMIT 1").fetchone() is None
            if empty:
                try:
                    self.connection.execute("PRAGMA journal_mode = DELETE")
                except sqlite3.OperationalError:
                    # A reader has the file open.
                    empty = False
            try:
                yield
            finally:
                if empty:
                    self.connection.execute("PRAGMA journal_mode = WAL")
