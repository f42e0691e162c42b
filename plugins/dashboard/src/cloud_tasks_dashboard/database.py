"""Read-only access to job databases, and detection of changes.

Invariants, each with a test:

1. A connection is open only during a read, is read-only, and holds no transaction between reads: a running controller
   never waits for it.
2. An unchanged database is not read again.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from cloud_tasks.store import connect_reader, readable

__all__ = ["CHECKED_TASKS", "Signature", "open_reader", "signature_of"]

CHECKED_TASKS = 200
"""Number of tasks at each end of the table that are checked for damage at each read."""

_SETTLED_SECONDS = 1.0
"""Minimum age of a change after which a later one has a different timestamp, given coarse file system clocks."""


@attrs.frozen
class Signature:
    """Size, inode and modification time of a database and its log."""

    parts: tuple[int, ...]
    settled: bool
    """Whether an equal signature proves that the database is unchanged."""

    def same(self, other: Signature | None) -> bool:
        return other is not None and other.settled and self.parts == other.parts


def signature_of(path: Path) -> Signature | None:
    """Return the current signature, including the write-ahead log; None if the file does not exist."""
    parts: list[int] = []
    latest = 0
    for name in (path.name, f"{path.name}-wal"):
        try:
            found = path.with_name(name).stat()
        except OSError:
            if name == path.name:
                return None
            continue
        # Readers create an empty log and delete it, which changes nothing.
        if found.st_size:
            parts += [found.st_ino if name == path.name else 0, found.st_size, found.st_mtime_ns]
            latest = max(latest, found.st_mtime_ns)
    return Signature(tuple(parts), time.time() - latest / 1e9 > _SETTLED_SECONDS)


@contextlib.contextmanager
def open_reader(path: Path, *, snapshot: bool = False) -> Iterator[sqlite3.Connection]:
    """Open a read-only connection for the duration of the context.

    Args:
        snapshot: Read everything in one transaction.

    Raises:
        StoreError: The database does not exist, has another version, or cannot be read.
    """
    with contextlib.closing(connect_reader(path)) as connection, readable(path):
        if snapshot:
            connection.execute("BEGIN")
        try:
            yield connection
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
