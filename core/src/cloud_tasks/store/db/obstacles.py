"""Errors of SQLite as errors of the store: obstacles that may pass, and errors that do not.

Invariant, with a test: an obstacle (`StoreUnavailableError`) is a lock of another program, a full disk or an I/O error,
and nothing else; errors in values and statements are left as they are.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from pathlib import Path
from types import TracebackType

from cloud_tasks.errors import StoreBusyError, StoreError, StoreFullError, StoreUnavailableError

__all__ = ["Guard", "damage_error", "is_damage", "store_error"]

_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_IO = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def store_error(error: sqlite3.Error, path: Path) -> StoreError:
    """Return the store's error for an error of SQLite; the message never has content of the database."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _LOCKED:
        holders = _lock_holders(path)
        by = f"a program (PID {', '.join(map(str, holders))})" if holders else "another program"
        return StoreBusyError(f"{path}: locked by {by}", hint="close the program that has the file open")
    if code == sqlite3.SQLITE_FULL or (code in _IO and _is_full(path.parent)):
        return StoreFullError(f"{path}: no space left on the disk", hint="free disk space")
    if code in _IO:
        return StoreUnavailableError(f"{path}: {error}", hint="check the disk and the permissions of the folder")
    if code == sqlite3.SQLITE_READONLY:
        return StoreError(f"{path}: read-only", hint="check the permissions of the file and its folder")
    if is_damage(error) or "decode" in str(error):
        return damage_error(path)
    if str(error).startswith(("no such table", "no such column")):
        return damage_error(path, str(error))
    return StoreError(f"{path}: cannot use the job database: {error}", hint="check the file")


def damage_error(path: Path, reason: str = "") -> StoreError:
    """Return the error for a damaged database."""
    problem = f"the job database is damaged: {reason}" if reason else "the job database is damaged"
    return StoreError(f"{path}: {problem}", hint="restore a copy of it, if there is one")


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether SQLite found the file damaged; a truncated log is a short read."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in _DAMAGED or code == sqlite3.SQLITE_IOERR_SHORT_READ


class Guard:
    """Reentrant lock of a connection, that also converts SQLite's errors to the store's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()

    def __enter__(self) -> Guard:
        self._lock.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()
        # The subclasses that stand for wrong values or statements are not the database's fault.
        if type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError):
            assert isinstance(error, sqlite3.Error)
            raise store_error(error, self.path) from error


def _is_full(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.statvfs(folder).f_bavail == 0
    return False


def _lock_holders(path: Path) -> list[int]:
    """Return the PIDs of the other processes that hold a write lock on the database, where the system shows them."""
    inodes = set()
    for name in (path.name, f"{path.name}-shm"):
        with contextlib.suppress(OSError):
            inodes.add(str(path.with_name(name).stat().st_ino))
    found = set()
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            # "1: POSIX  ADVISORY  WRITE 1234 08:01:5678 120 120"; a waiting lock has "->" after the number.
            fields = line.split()
            if "->" not in fields and fields[3] == "WRITE" and fields[5].rpartition(":")[2] in inodes:
                found.add(int(fields[4]))
    return sorted(found - {os.getpid(), -1})
