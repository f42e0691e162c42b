"""`JobDatabase`: an open database file with its writer lock, transactions and name.

Invariants, each with a test:

1. One process writes. Readers open the file read-only, at any time, and never wait for the writer.
2. A database is loaded under a temporary name and takes its final name by `publish`; an existing database is unchanged
   until then, and kept under another name afterwards.
3. No transaction counts as committed unless the database's name still refers to the file that was written. A deleted
   database is written again from the open file; next to one that was replaced, one copy is kept, and every later
   transaction raises the same error.
4. Nor if another program has damaged the file or its log: what can still be read is saved as a copy, as for 3.
5. The write-ahead log of this file is never left for another file of the same name: SQLite would apply it to that.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from cloud_tasks.errors import StoreError, StoreGoneError
from cloud_tasks.store.db import connection as database
from cloud_tasks.store.db.backups import backup_path, save_copy
from cloud_tasks.store.db.integrity import is_sound, state_of
from cloud_tasks.store.db.obstacles import Guard, is_damage
from cloud_tasks.store.db.reading import readable
from cloud_tasks.store.db.salvage import salvage
from cloud_tasks.store.db.writer_lock import WriterLock

__all__ = ["JobDatabase"]

log = structlog.get_logger()

_BUSY_SECONDS_WHILE_LOCKED = 0.1
"""Maximum time for which a call waits for a lock that an earlier call has waited for."""


class JobDatabase:
    """An open database file, from `create` or `open`; its content is the business of `Store`.

    Thread-safe; hold `guard` to use `connection` directly.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: WriterLock | None, *, durable: bool) -> None:
        self.path = path
        self.connection = connection
        self.guard = Guard(path)
        self._lock = lock
        self._durable = durable
        self.complete: Callable[[sqlite3.Connection], None] = lambda copy: None
        """Completion of the copy of a damaged database with what the process knows."""
        self._claim: WriterLock | None = None
        self._is_available = True
        self._state = state_of(path)
        self._note_files()
        self._gone: StoreGoneError | None = None

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
        if not read_only and path.is_file() and not os.access(path, os.W_OK):
            raise StoreError(f"{path}: read-only", hint="check the permissions of the file and its folder")
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

    def publish(self, path: Path) -> Path | None:
        """Rename the database to ``path``, atomically; an existing one is kept under the name that is returned.

        Raises:
            StoreError: ``path`` is in use by another process or cannot be written; this file is unchanged.
        """
        with self.guard:
            new_lock = WriterLock(path) if self._claim is None else self._claim
            self._claim = None
            try:
                self.connection.execute("PRAGMA journal_mode = DELETE")
                self.connection.close()
                kept = database.replace_database(self.path, path)
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
            self.path = self.guard.path = path
            self._lock = new_lock
            self._note_files()
            return kept

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
            if self._gone is not None:
                raise self._gone
            self._check_content(deep=True)
            try:
                with database.transaction(self.connection):
                    yield self.connection
            except sqlite3.OperationalError:
                self._note_available(False)
                # SQLite reports a deleted file as an I/O error where it has not opened the log yet.
                self._check_names()
                raise
            except sqlite3.DatabaseError as error:
                if is_damage(error):
                    raise self._save_damaged() from error
                raise
            self._note_available(True)
            self._check_names()
            self._check_content(deep=False)

    def _note_available(self, is_available: bool) -> None:
        """Wait less for a lock that has just been waited for: the caller has other things to do."""
        if is_available is self._is_available:
            return
        self._is_available = is_available
        seconds = database.BUSY_SECONDS if is_available else _BUSY_SECONDS_WHILE_LOCKED
        self.connection.execute(f"PRAGMA busy_timeout = {seconds * 1000:.0f}")

    # -- the file --------------------------------------------------------------------------------------------------

    def check_file(self) -> None:
        """Check that the database and its lock are still the open files, and undamaged.

        A database that was deleted is written again; a deleted lock is taken again.

        Raises:
            StoreGoneError: The database was replaced or damaged, or its folder is gone; the message has the path of a
                copy.
            StoreUnavailableError: The copy cannot be written at present.
            StoreError: Another process holds the new lock.
        """
        with self.guard:
            if self._gone is not None:
                raise self._gone
            self._check_names()
            self._check_content(deep=True)

    def _check_names(self) -> None:
        found = database.file_identity(self.path)
        if found == self._file:
            self._note_side_files()
        elif found is not None or not self.path.parent.is_dir():
            raise self._save("replaced by another file" if found is not None else "deleted with its folder")
        else:
            self._write_again()
        if self._lock is not None:
            self._lock.renew()

    def _check_content(self, *, deep: bool) -> None:
        """Check the content if the files have changed since this was called last.

        Args:
            deep: No transaction of this process can be the reason.
        """
        found = state_of(self.path)
        if found == self._state or database.file_identity(self.path) != self._file:
            return
        # A transaction changes the log, and the file only when the log is moved into it.
        if (deep or found[0] != self._state[0]) and not is_sound(self.path, deep=deep):
            raise self._save_damaged()
        self._state = found

    def _save_damaged(self) -> StoreGoneError:
        return self._save("damaged by another program", is_damaged=True)

    def _note_files(self) -> None:
        self._file = database.file_identity(self.path)
        self._state = state_of(self.path)
        self._note_side_files()

    def _note_side_files(self) -> None:
        self._side_files = {database.file_identity(path) for path in database.side_files(self.path)}

    def _write_again(self) -> None:
        """Write the database under its name again, from the open file."""
        try:
            copy = save_copy(self.connection, backup_path(self.path))
        except FileNotFoundError as error:
            # The folder exists, and was deleted: it is the current one, by a relative path.
            raise self._save("deleted with its folder") from error
        # Side files are found by their names, so they are deleted before the copy has the name.
        self.connection.close()
        self._remove_side_files()
        try:
            os.link(copy, self.path)
            copy.unlink()
        except OSError as error:
            self._gone = StoreGoneError(f"{self.path}: deleted while it was open", copy=copy)
            raise self._gone from error
        self.connection = database.connect_writer(self.path, create=False, durable=self._durable)
        self._note_files()
        log.warning(f"The job database {self.path} was deleted; written again with all its content")

    def _remove_side_files(self) -> None:
        """Delete the log of this file, which closing leaves where the file has lost its name."""
        for path in database.side_files(self.path):
            if database.file_identity(path) in self._side_files - {None}:
                path.unlink(missing_ok=True)

    def _save(self, problem: str, *, is_damaged: bool = False) -> StoreGoneError:
        """Save the content; return the error to raise, which is kept once there is a copy."""
        message = f"{self.path}: {problem}"
        for folder in (self.path.parent, Path(), Path(tempfile.gettempdir())):
            copy = backup_path(folder / self.path.name)
            with suppress(sqlite3.Error, OSError):
                if is_damaged:
                    salvage(self.connection, copy, self.complete)
                    self._gone = StoreGoneError(message, copy=copy, hint=f"what could be read was saved as {copy}")
                else:
                    save_copy(self.connection, copy)
                    self._remove_side_files()
                    self._gone = StoreGoneError(message, copy=copy)
                return self._gone
        return StoreGoneError(message, copy=None)

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
                    database.use_write_ahead_log(self.connection)
                    self._note_files()
