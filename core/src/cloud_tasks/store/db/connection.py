"""Connections to the database file: opening, checking, transactions, and replacing one file by another."""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from cloud_tasks.errors import StoreError
from cloud_tasks.store.db.backups import SIDE_FILES, keep
from cloud_tasks.store.db.damage import check_tables
from cloud_tasks.store.db.file_header import require_regular_file
from cloud_tasks.store.db.obstacles import damage_error, store_error
from cloud_tasks.store.db.schema import APPLICATION_ID, READABLE_SINCE, SCHEMA_VERSION, migrate

__all__ = [
    "BUSY_SECONDS",
    "connect_reader",
    "connect_writer",
    "file_identity",
    "remove_database",
    "replace_database",
    "side_files",
    "transaction",
    "use_write_ahead_log",
]

BUSY_SECONDS = 5.0
"""Maximum time for which a call waits for a lock of another program; the controller then continues without it."""
_CACHE_KIB = 16 * 1024
_CHECKPOINT_PAGES = 8000
"""32 MB, so that a page that many batches change is moved into the database once."""
_TEXT = functools.partial(str, encoding="utf-8", errors="backslashreplace")


def connect_writer(path: Path, *, create: bool, durable: bool = True) -> sqlite3.Connection:
    """Return the only connection that writes; the caller holds the writer lock.

    Every commit is synced to disk (``synchronous=FULL``): events are acked after the commit and never delivered again,
    so it has to survive a power failure.

    Args:
        create: Create the file if it does not exist.
        durable: Sync every commit; without it, commits survive the end of the process but no power failure.

    Raises:
        StoreUnavailableError: It is locked, its disk is full, or an I/O error.
        StoreError: No such file, not a job database, or a newer version.
    """
    connection = _connect(path, create=create)
    try:
        if not create:
            _check(connection, path)
        use_write_ahead_log(connection)
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        migrate(connection)
        check_tables(connection, path)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise store_error(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Change to a write-ahead log, and open it: an open log needs neither disk space nor the file's name."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("SELECT 1 FROM sqlite_schema").fetchone()


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
    require_regular_file(path)
    if not create and not path.exists():
        folder = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise StoreError(
            f"job database {path} not found{folder}", hint="check --db-file, or start the job with `cloud-tasks run`"
        )
    try:
        if create:
            # Others must not read results and task data. The write-ahead log gets the mode of the database.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode={'rwc' if create else 'rw'}",
            uri=True,
            timeout=BUSY_SECONDS,
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
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_NOTADB:
            raise store_error(error, path) from error
        raise StoreError(f"{path}: not a job database ({error})", hint=_untouched(path)) from error
    if application != APPLICATION_ID:
        raise StoreError(f"{path}: not a job database of cloud-tasks", hint=_untouched(path))
    if version < 1:
        raise StoreError(f"{path}: the job database is damaged (schema {version})", hint=_untouched(path))
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path}: created by a newer version of cloud-tasks (schema {version}, supported: {SCHEMA_VERSION})",
            hint="upgrade with: pip install --upgrade cloud-tasks",
        )
    _check_length(connection, path)
    return int(version)


def _check_length(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `StoreError` if the last page is cut off, which SQLite takes for zeros; a log may still have the page."""
    (page,) = connection.execute("PRAGMA page_size").fetchone()
    log = path.with_name(f"{path.name}-wal")
    if path.stat().st_size % page and not (log.exists() and log.stat().st_size):
        raise damage_error(path, "the file is cut off")


def _untouched(path: Path) -> str:
    return f"{path.name} is unchanged; choose another file with --db-file"


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run a transaction; an error rolls it back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def replace_database(new: Path, old: Path) -> Path | None:
    """Replace the database ``old`` by the closed database ``new``, atomically: a crash leaves one or the other.

    The old write-ahead log is checkpointed and removed first: SQLite would apply it to the new file. A log that cannot
    be checkpointed is kept with the old database.

    Returns:
        The new name of the old database; None if there was none.
    """
    kept: Path | None = None
    if old.exists():
        with contextlib.suppress(sqlite3.Error, StoreError), contextlib.closing(_connect(old, create=False)) as reader:
            reader.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        kept = keep(old)
    for file in side_files(old):
        file.unlink(missing_ok=True)
    _sync(new)
    os.replace(new, old)
    _sync(old.parent)
    return kept


def file_identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of the file with this name; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def side_files(path: Path) -> tuple[Path, ...]:
    """Return the names of the write-ahead log, its index and the rollback journal of a database."""
    return tuple(path.with_name(path.name + suffix) for suffix in SIDE_FILES)


def remove_database(path: Path) -> None:
    """Delete a database and its side files, if they exist."""
    for file in (path, *side_files(path)):
        file.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
