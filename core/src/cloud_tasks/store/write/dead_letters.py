"""Dead letters: messages and events of the event queue that cannot be used. The latest are kept, all are counted."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from cloud_tasks.sanitize import as_bytes, clean_text
from cloud_tasks.store.db.times import to_unix
from cloud_tasks.store.write.counters import add_to_counters

__all__ = ["dead_letter"]

_KEPT = 1000
_BYTES = 4096
_REASON_LENGTH = 500


def dead_letter(connection: sqlite3.Connection, body: object, reason: str, now: datetime) -> None:
    """Keep the first 4 KiB of a message of any type and count it; beyond 1,000 messages the oldest is deleted."""
    cursor = connection.execute(
        "INSERT INTO set_aside (at, reason, body) VALUES (?, ?, ?)",
        (to_unix(now), clean_text(reason, _REASON_LENGTH), as_bytes(body)[:_BYTES]),
    )
    connection.execute("DELETE FROM set_aside WHERE id <= ?", ((cursor.lastrowid or 0) - _KEPT,))
    add_to_counters(connection, {"set_aside": 1})
