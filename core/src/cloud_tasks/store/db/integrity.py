"""Damage to an open database by other programs that write to its file, as ``truncate`` and ``dd`` do.

Invariants, each with a test:

1. A change of the file or its log that no transaction of this process made is noticed before the next transaction, and
   the content is checked; a harmless change (``touch``, a transaction of another program) is no damage.
2. The file is only opened by SQLite: closing it otherwise would release the locks of this process (POSIX).
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

from cloud_tasks.store.db.schema import APPLICATION_ID

__all__ = ["FileState", "is_sound", "state_of"]

FileState = tuple[tuple[int, int], tuple[int, int]]
"""Modification time and size of a database and of its write-ahead log."""

_TRIES = 3
_PAUSE = 0.1
"""Seconds between two tries: another program may be moving its transactions from the log into the file."""


def state_of(path: Path) -> FileState:
    """Return the present state of a database; zeros for a file that does not exist."""
    return _state(path), _state(path.with_name(f"{path.name}-wal"))


def _state(path: Path) -> tuple[int, int]:
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_mtime_ns, found.st_size
    return 0, 0


def is_sound(path: Path, *, deep: bool) -> bool:
    """Return whether a database is whole.

    Args:
        deep: Read all of it, and its log; else only its header and size.
    """
    for number in range(_TRIES):
        if number:
            time.sleep(_PAUSE)
        # The file without its log is a complete state of the database: that of the last checkpoint.
        if _passes(path, "mode=ro&immutable=1", deep=deep) and (not deep or _passes(path, "mode=rw", deep=deep)):
            return True
    return False


def _passes(path: Path, parameters: str, *, deep: bool) -> bool:
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?{parameters}", uri=True, isolation_level=None)
        with contextlib.closing(connection):
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            return application == APPLICATION_ID and (
                not deep or connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
            )
    except sqlite3.Error as error:
        # A lock proves nothing.
        return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
