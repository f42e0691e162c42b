"""Connection pool for one SQLite file shared by many processes and threads.

Invariants, each with a test (in test_queue.py):

1. A connection is used by one thread at a time, and never by a forked child of the process that opened it.
2. A removed or replaced file is detected by its inode before the next operation.
3. No SQLite error leaves this module: it becomes `NotFoundError` or `ProviderError`, transient for a locked file and a
   full disk.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_local.private_files import create_private

__all__ = ["Connection", "ConnectionPool", "write"]

_CACHE_KIB = 4096
_TRANSIENT = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
"""Errors of a locked file, and of a disk that is full for a time."""


class Connection(sqlite3.Connection):
    """Connection with the identity of its file (device and inode) and its lock timeout in seconds."""

    identity: tuple[int, int] | None = None
    timeout: float = 0.0


class ConnectionPool:
    """Pool of connections to one file, one per concurrent thread; reopened after a fork or when the file is replaced.

    Args:
        timeout: Time limit in seconds for waiting on a lock.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._idle: list[Connection] = []
        self._closed = False
        self._inherited: list[object] = []

    @contextmanager
    def connection(self, *, create: bool = False) -> Iterator[Connection]:
        """Yield a connection for one operation. Raise `NotFoundError` or `ProviderError` for SQLite errors."""
        if os.getpid() != self._pid:
            # Kept, not closed: closing a parent's connections in a child is undefined.
            self._inherited.append(self._idle)
            self._lock, self._pid, self._idle = threading.Lock(), os.getpid(), []
        try:
            connection = self._take(create)
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise self._translate_error(error) from error
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def is_current(self, connection: Connection) -> bool:
        """Return whether the connection's file still has the name."""
        return connection.identity == _identity(self._path)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        if os.getpid() == self._pid:
            for connection in idle:
                connection.close()

    def _take(self, create: bool) -> Connection:
        while True:
            with self._lock:
                if not self._idle:
                    break
                connection = self._idle.pop()
            if self.is_current(connection):
                return connection
            connection.close()
        return _open(self._path, create, self._timeout)

    def _translate_error(self, error: sqlite3.Error) -> ProviderError:
        if "no such table" in str(error) or not self._path.exists():
            return NotFoundError(f"queue {self._path} not found")
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return ProviderError(f"queue {self._path}: {error}", transient=code in _TRANSIENT)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _open(path: Path, create: bool, timeout: float) -> Connection:
    if create:
        # SQLite gives the write-ahead log the mode of the database.
        try:
            create_private(path)
        except OSError as error:
            raise ProviderError(f"queue {path}: cannot create the file: {error.strerror}") from error
    mode = "rw"
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
        factory=Connection,
    )
    connection.timeout = timeout
    try:
        _execute_with_retry(connection, "PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute("PRAGMA journal_size_limit = 16777216")
    except BaseException:
        connection.close()
        raise
    connection.identity = _identity(path)
    return connection


@contextmanager
def write(connection: Connection) -> Iterator[None]:
    """Run a write transaction. It takes the lock first, so data read inside is never stale."""
    _execute_with_retry(connection, "BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _execute_with_retry(connection: Connection, statement: str) -> None:
    """Execute a statement that takes the write lock, retrying with short pauses: locks last well under a millisecond,
    and SQLite's own pauses are longer."""
    deadline = time.monotonic() + connection.timeout
    pause = 0.0002
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while not _try_execute(connection, statement, last=time.monotonic() > deadline):
            time.sleep(random.uniform(0.5, 1.0) * pause)
            pause = min(pause * 1.5, 0.01)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {connection.timeout * 1000:.0f}")


def _try_execute(connection: Connection, statement: str, *, last: bool) -> bool:
    """Execute a statement; return False when the file is locked. On the last attempt raise the error instead."""
    try:
        with closing(connection.execute(statement)) as cursor:
            cursor.fetchall()
    except sqlite3.OperationalError as error:
        if last or error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise
        return False
    return True
