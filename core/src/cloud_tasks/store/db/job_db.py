"""`JobDatabase`: a job's database as an open file: whose it is to write, its transactions, and its name.

Invariants, each with a test:

1. One process writes. Readers open the file read-only, at any time, and never wait for the writer.
2. A database is created under a temporary name and takes its final name by `publish`, loaded; nothing that was there
   before is touched until then.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud_tasks.errors import StoreError
from cloud_tasks.store.db import connection as database
from cloud_tasks.store.db.writer_lock import WriterLock

__all__ = ["JobDatabase"]


class JobDatabase:
    """An open job database, made by `create` and `open`; knows nothing of what is in it.

    Its methods may be called from several threads; whoever uses `connection` directly holds the `guard`.
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
        """A new database with empty tables.

        Args:
            overwrite: Whether a file that is there is removed first.
            durable: Whether a commit survives a power failure.

        Raises:
            StoreError: The file exists, another process works on it, or it cannot be written.
        """
        if not path.parent.is_dir():
            raise StoreError(f"{path}: its folder does not exist", hint=f"create {path.parent}")
        lock = WriterLock(path)
        try:
            if path.exists() and not overwrite:
                raise StoreError(
                    f"{path}: exists already", hint="resume it with --continue, or choose another --db-file"
                )
            database.remove_database(path)
            connection = database.connect_writer(path, create=True, durable=durable)
            return cls(path, connection, lock, durable=durable)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, path: Path, *, read_only: bool, durable: bool) -> JobDatabase:
        """An existing database.

        Raises:
            StoreError: No such file, not a job database, of a newer version, or in use.
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
        """Whether this process is the one that writes; not after closing."""
        return self._lock is not None

    def close(self) -> None:
        """Close the file and free its lock; does nothing the second time."""
        with self.guard:
            self.connection.close()
            self._release()

    def discard(self) -> None:
        """Close, and remove the file."""
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

    # -- its name --------------------------------------------------------------------------------------------------

    def claim(self, path: Path) -> None:
        """Keep others from working on the database ``path``, which this one is about to replace (`publish`).

        Raises:
            StoreError: Another process works on it.
        """
        with self.guard:
            if self._claim is None:
                self._claim = WriterLock(path)

    def publish(self, path: Path) -> None:
        """Take the place of the database ``path``, if there is one, and go on under that name. Atomic.

        Raises:
            StoreError: Another process works on ``path``, or it cannot be written; this file is then as it was.
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
                raise StoreError(f"{path}: cannot be replaced: {error}", hint="check its permissions") from error
            except BaseException:
                new_lock.release()
                raise
            if self._lock is not None:
                self._lock.release()
            self.path, self._lock = path, new_lock

    # -- transactions ----------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all or nothing, and on disk afterwards.

        Raises:
            StoreError: The file is open for reading only or closed, or it could not be written.
        """
        with self.guard:
            if self._lock is None:
                raise StoreError(f"{self.path}: open for reading only, or closed")
            with database.transaction(self.connection):
                yield self.connection

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Several reads that belong together see one state, whatever a writer does meanwhile."""
        with self.guard:
            if self.connection.in_transaction:
                yield self.connection
                return
            self.connection.execute("BEGIN")
            try:
                yield self.connection
            finally:
                self.connection.execute("ROLLBACK")

    @contextmanager
    def filling(self) -> Iterator[None]:
        """While a new database is filled, a rollback journal: it writes each page once, the write-ahead log twice."""
        with self.guard:
            empty = self._lock is not None and self.connection.execute("SELECT 1 FROM tasks LIMIT 1").fetchone() is None
            if empty:
                try:
                    self.connection.execute("PRAGMA journal_mode = DELETE")
                except sqlite3.OperationalError:
                    # A reader is looking at it.
                    empty = False
            try:
                yield
            finally:
                if empty:
                    self.connection.execute("PRAGMA journal_mode = WAL")
