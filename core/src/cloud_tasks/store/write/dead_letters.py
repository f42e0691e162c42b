"""Messages of the event queue that could not be read: a few are kept, all are counted."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from cloud_tasks.store.db.times import to_unix
from cloud_tasks.store.write.counters import CounterUpdates

__all__ = ["dead_letter"]

_KEPT = 1000
_BYTES = 4096


def dead_letter(connection: sqlite3.Connection, body: bytes, reason: str, now: datetime) -> None:
    """Keep the beginning of a message, in the place of the oldest where there are many, and count it."""
    cursor = connection.execute(
        "INSERT INTO set_aside (at, reason, body) VALUES (?, ?, ?)", (to_unix(now), reason, body[:_BYTES])
    )
    connection.execute("DELETE FROM set_aside WHERE id <= ?", ((cursor.lastrowid or 0) - _KEPT,))
    deltas = CounterUpdates(connection)
    deltas.add("set_aside", 1)
    deltas.write()
