"""Opening job databases to look at them: which files are any, and whether one has changed since the last look.

Invariants, each with a test:

1. A connection is open only while something is read, can change nothing, and holds no transaction between two reads:
   a controller at work never waits for it.
2. A file that is not a job database is not opened with SQLite at all.
3. A database that has not changed is not read again.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from cloud_tasks.errors import StoreError
from cloud_tasks.store import APPLICATION_ID, connect_reader

__all__ = ["Signature", "is_job_database", "reading", "sign"]

_MAGIC = b"SQLite format 3\0"
_APPLICATION_ID_AT = 68
"""Where the header keeps it: four bytes, the highest first (https://www.sqlite.org/fileformat2.html, section 1.3)."""

_SETTLED_SECONDS = 1.0
"""How old a change must be to be sure that no later one bears the same time: file systems count in coarse steps."""


@attrs.frozen
class Signature:
    """What changes whenever a database does."""

    parts: tuple[int, ...]
    settled: bool
    """Whether an equal signature means that nothing has changed."""

    def same(self, other: Signature | None) -> bool:
        return other is not None and other.settled and self.parts == other.parts


def sign(path: Path) -> Signature | None:
    """The file as it is now, its write-ahead log included; None where there is none."""
    parts: list[int] = []
    latest = 0
    for name in (path.name, f"{path.name}-wal"):
        try:
            found = path.with_name(name).stat()
        except OSError:
            if name == path.name:
                return None
            continue
        # A reader makes an empty log and removes it again; that changes nothing.
        if found.st_size:
            parts += [found.st_ino if name == path.name else 0, found.st_size, found.st_mtime_ns]
            latest = max(latest, found.st_mtime_ns)
    return Signature(tuple(parts), time.time() - latest / 1e9 > _SETTLED_SECONDS)


def is_job_database(path: Path) -> bool:
    """Whether the header says so; also true where it cannot tell yet, for all is in the write-ahead log still."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
        beside = path.with_name(f"{path.name}-wal").exists()
    except OSError:
        return False
    if len(head) < 100 or not head.startswith(_MAGIC):
        return False
    mark = int.from_bytes(head[_APPLICATION_ID_AT : _APPLICATION_ID_AT + 4], "big")
    return mark == APPLICATION_ID or (mark == 0 and beside)


@contextlib.contextmanager
def reading(path: Path, *, snapshot: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection to read with, for as long as it takes.

    Args:
        snapshot: Whether all that is read shall be of one moment.

    Raises:
        StoreError: The database is not there, is of another version, or cannot be read.
    """
    with contextlib.closing(connect_reader(path)) as connection:
        if snapshot:
            connection.execute("BEGIN")
        try:
            yield connection
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"{path.name}: cannot be read: {error}", hint="try again; see that the disk works"
            ) from error
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
