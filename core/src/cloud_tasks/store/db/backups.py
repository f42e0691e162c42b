"""Copies of a job database that are kept beside it: ``<database>.bak-<time>``, which sort by time.

Nothing deletes them: they may be the only copy of results. A written copy is for its owner only, like the database.
"""

from __future__ import annotations

import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["SIDE_FILES", "backup_path", "keep", "save_copy"]

SIDE_FILES = ("-wal", "-shm", "-journal")


def backup_path(database: Path) -> Path:
    """Return a free name for a copy of a database that is made now; the time is in UTC."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return database.with_name(f"{database.name}.bak-{stamp}")


def keep(database: Path) -> Path:
    """Give a closed database, which keeps its name until it is replaced, a second name; return that.

    A write-ahead log or journal that was not checkpointed is kept with it.
    """
    kept = backup_path(database)
    try:
        os.link(database, kept)
    except OSError:
        if not database.is_file():
            raise
        # A file system without hard links: for a moment, there is no database of this name.
        os.replace(database, kept)
    for suffix in ("-wal", "-journal"):
        side = database.with_name(database.name + suffix)
        if side.exists() and side.stat().st_size:
            os.replace(side, kept.with_name(kept.name + suffix))
    return kept


def save_copy(connection: sqlite3.Connection, copy: Path) -> Path:
    """Write the content of an open database, whose file may be deleted, to a new file; return its path."""
    # VACUUM accepts an empty file, and leaves its mode unchanged.
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    try:
        connection.execute("VACUUM INTO ?", (str(copy),))
        with copy.open("rb") as file:
            os.fsync(file.fileno())
    except BaseException:
        copy.unlink(missing_ok=True)
        raise
    return copy
