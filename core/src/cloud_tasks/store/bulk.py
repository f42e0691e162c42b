"""Inserting many rows: several per statement, for each statement costs more than a row."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any

__all__ = ["insert_rows"]

_ROWS_PER_STATEMENT = 100
"""Times ten columns, that is well below SQLite's limit of parameters (32,766 since 3.32)."""


def insert_rows(connection: sqlite3.Connection, insert: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Execute ``insert`` (up to and without ``VALUES``) for all rows, which have one length.

    Say ``INSERT OR FAIL`` where the caller rolls back anyway: plain ``INSERT`` makes SQLite keep a journal of every
    statement of several rows, which costs more than is won.

    Raises:
        sqlite3.IntegrityError: Rows before the one at fault are there.
    """
    if not rows:
        return
    place = f"({', '.join('?' * len(rows[0]))})"
    whole = len(rows) - len(rows) % _ROWS_PER_STATEMENT
    statement = f"{insert} VALUES {', '.join([place] * _ROWS_PER_STATEMENT)}"
    for first in range(0, whole, _ROWS_PER_STATEMENT):
        connection.execute(statement, tuple(chain.from_iterable(rows[first : first + _ROWS_PER_STATEMENT])))
    if whole < len(rows):
        connection.executemany(f"{insert} VALUES {place}", rows[whole:])
