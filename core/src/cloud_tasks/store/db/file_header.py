"""The first bytes of a database file, read without SQLite.

Invariant, with a test: only a regular file is opened. SQLite would wait for the writer of a pipe forever.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from cloud_tasks.errors import StoreError
from cloud_tasks.store.db.schema import APPLICATION_ID

__all__ = ["is_job_database", "require_regular_file"]

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_APPLICATION_ID_AT = 68
"""Offset of the application id in the header: 4 bytes, big-endian (https://www.sqlite.org/fileformat2.html, 1.3)."""


def require_regular_file(path: Path) -> None:
    """Raise `StoreError` for a device, a pipe or a socket; a folder or a path without a file passes."""
    with contextlib.suppress(OSError):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            kind = "a pipe" if stat.S_ISFIFO(mode) else "not a regular file"
            raise StoreError(f"{path}: not a job database ({kind})", hint="check --db-file")


def is_job_database(path: Path) -> bool:
    """Return whether the header identifies a job database, or its content is still in the write-ahead log."""
    try:
        # The check of an open file leaves no time for another one to take its name.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with open(descriptor, "rb") as file:
            head = file.read(_HEADER_BYTES) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
        beside = path.with_name(f"{path.name}-wal").exists()
    except (OSError, ValueError):
        return False
    if len(head) < _HEADER_BYTES or not head.startswith(_MAGIC):
        return False
    mark = int.from_bytes(head[_APPLICATION_ID_AT : _APPLICATION_ID_AT + 4], "big")
    return mark == APPLICATION_ID or (mark == 0 and beside)
