"""Connections to the database file: opening, checking, transactions, and replacing one file by another."""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from cloud_tasks.errors import StoreError
from cloud_tasks.store.db.schema import APPLICATION_ID, READABLE_SINCE, SCHEMA_VERSION, migrate

__all__ = ["connect_reader", "connect_writer", "remove_database", "replace_database", "transaction"]

_BUSY_SECONDS = 10.0
_CACHE_KIB = 16 * 1024
_CHECKPOINT_PAGES = 8000
"""32 MB, so that a page that many batches change is moved into the database once."""
_SIDE_FILES = ("-wal", "-shm", "-journal")
_TEXT = functools.partial(str, encoding="utf-8", errors="backslashreplace")


def connect_writer(path: Path, *, create: bool, durable: bool = True) -> sqlite3.Connection:
    """Return the only connection that writes; the caller holds the writer lock.

    Every commit is synced to disk (``synchronous=FULL``): events are acked after the commit and never delivered again,
    so it has to survive a power failure.

    Args:
        create: Create the file if it does not exist.
        durable: Sync every commit; without it, commits survive the end of the process but no power failure.

    Raises:
        StoreError: No such file, not a job database, or a newer version.
    """
    connection = _connect(path, create=create)
    try:
        if not create:
            _check(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        migrate(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise StoreError(f"{path}: cannot open the job database: {error}", hint=_untouched(path)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """Return a read-only connection, also while a controller writes.

    The file itself is opened for writing, so that the last connection to close removes the write-ahead log.

    Raises:
        StoreError: No such file, not a job database, or a version that this one cannot read.
    """
    connection = _connect(path, create=False)
    try:
        connection.execute("PRAGMA query_only = ON")
        version = _check(connection, path)
        if version < READABLE_SINCE:
            raise StoreError(
                f"{path}: created by an older version of cloud-tasks (schema {version})",
                hint="resume the job once with `cloud-tasks run --continue` to upgrade it",
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path, *, create: bool) -> sqlite3.Connection:
    if not create and not path.exists():
        raise StoreError(
            f"job database {path} not found", hint="check --db-file, or start the job with `cloud-tasks run`"
        )
    try:
        if create:
            # Others must not read results and task data. The write-ahead log gets the mode of the database.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode={'rwc' if create else 'rw'}",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        connection.text_factory = _TEXT
        return connection
    except (sqlite3.Error, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StoreError(f"{path}: cannot open: {reason}", hint="check the path and its permissions") from error


def _check(connection: sqlite3.Connection, path: Path) -> int:
    """Return the schema version. Raise `StoreError` for another kind of file or a newer version."""
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path}: not a job database ({error})", hint=_untouched(path)) from error
    if application != APPLICATION_ID:
        raise StoreError(f"{path}: not a job database of cloud-tasks", hint=_untouched(path))
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path}: created by a newer version of cloud-tasks (schema {version}, supported: {SCHEMA_VERSION})",
            hint="upgrade with: pip install --upgrade cloud-tasks",
        )
    return int(version)


def _untouched(path: Path) -> str:
    return f"{path.name} is unchanged; choose another file with --db-file"


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run a transaction; an error rolls it back.

    Raises:
        StoreError: The database cannot be written (disk full, read-only file system, I/O error).
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    except sqlite3.OperationalError as error:
        raise StoreError(
            f"cannot write the job database: {error}", hint="check the disk, then resume the job"
        ) from error


def replace_database(new: Path, old: Path) -> None:
    """Replace the database ``old`` by the closed database ``new``, atomically: a crash leaves one or the other.

    The old write-ahead log is checkpointed and removed first: SQLite would apply it to the new file.
    """
    with contextlib.suppress(sqlite3.Error, StoreError), contextlib.closing(_connect(old, create=False)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in _SIDE_FILES:
        old.with_name(old.name + suffix).unlink(missing_ok=True)
    _sync(new)
    os.replace(new, old)
    _sync(old.parent)


def remove_database(path: Path) -> None:
    """Delete a database and its side files, if they exist."""
    for suffix in ("", *_SIDE_FILES):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
