"""Opening the file: what it must be, how it is written, and how one file takes the place of another."""

from __future__ import annotations

import contextlib
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
"""32 MB: pages that many batches change are moved into the database once, not for each."""
_SIDE_FILES = ("-wal", "-shm", "-journal")


def connect_writer(path: Path, *, create: bool, durable: bool = True) -> sqlite3.Connection:
    """The one connection that writes. The caller holds the lock.

    Every commit is synced to disk (``synchronous=FULL``): events are acked after it, and what is acked never comes
    again, so a commit has to survive a power failure. Batches make that cheap. A database
    that is not ``durable`` survives the death of its process, but not that of the machine.

    Raises:
        StoreError: The file is not there, is not a job database, or was made by a newer version.
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
        raise StoreError(f"{path}: cannot be opened as a job database: {error}", hint=_another(path)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads, beside a writer at work if there is one.

    It is opened as one that could write, so that the last one to close leaves no log behind.

    Raises:
        StoreError: The file is not there, is not a job database, or its version is another.
    """
    connection = _connect(path, create=False)
    try:
        connection.execute("PRAGMA query_only = ON")
        version = _check(connection, path)
        if version < READABLE_SINCE:
            raise StoreError(
                f"{path}: made by an older version of cloud-tasks (schema {version})",
                hint="resume the job once with `cloud-tasks run --continue` to bring it up to date",
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path, *, create: bool) -> sqlite3.Connection:
    if not create and not path.exists():
        raise StoreError(f"{path}: there is no such job database", hint="check --db-file, or start the job with `run`")
    try:
        return sqlite3.connect(
            f"{path.resolve().as_uri()}?mode={'rwc' if create else 'rw'}",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
    except sqlite3.Error as error:
        raise StoreError(f"{path}: cannot be opened: {error}", hint="check the path and its permissions") from error


def _check(connection: sqlite3.Connection, path: Path) -> int:
    """The schema version of a job database. Raises `StoreError` where it is none, or a newer one."""
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path}: not a job database ({error})", hint=_another(path)) from error
    if application != APPLICATION_ID:
        raise StoreError(f"{path}: not a job database of cloud-tasks", hint=_another(path))
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path}: made by a newer version of cloud-tasks (schema {version}, this one knows {SCHEMA_VERSION})",
            hint="upgrade with: pip install --upgrade cloud-tasks",
        )
    return int(version)


def _another(path: Path) -> str:
    return f"{path.name} was left untouched; name another file with --db-file"


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; a failure leaves the database as it was.

    Raises:
        StoreError: The database could not be written (disk full, file system read-only, input or output error).
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
            f"the job database could not be written: {error}", hint="check the disk, then resume"
        ) from error


def replace_database(new: Path, old: Path) -> None:
    """Put the closed database ``new`` in the place of ``old``, whole: a crash leaves the one or the other.

    The old write-ahead log goes first, after its content was moved into the old file: left beside the new file it
    would be taken for the new file's.
    """
    with contextlib.suppress(sqlite3.Error, StoreError), contextlib.closing(_connect(old, create=False)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in _SIDE_FILES:
        old.with_name(old.name + suffix).unlink(missing_ok=True)
    _sync(new)
    os.replace(new, old)
    _sync(old.parent)


def remove_database(path: Path) -> None:
    """Remove a database and what SQLite keeps beside it; does nothing where there is none."""
    for suffix in ("", *_SIDE_FILES):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
