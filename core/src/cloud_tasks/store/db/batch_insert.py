"""Batches: many rows or values in one SQL statement, since a statement costs more than a row."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from itertools import chain, islice
from typing import Any

__all__ = ["chunks", "insert_rows"]

_ROWS_PER_STATEMENT = 100
"""With ten columns, far below SQLite's limit of parameters (32,766 since 3.32)."""


def insert_rows(connection: sqlite3.Connection, insert: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Execute ``insert``, the statement without its ``VALUES``, for rows of equal length.

    Use ``INSERT OR FAIL`` if the caller rolls back anyway: for a plain ``INSERT`` of several rows SQLite keeps a
    statement journal, which costs more than the batch saves.

    Raises:
        sqlite3.IntegrityError: A row is rejected; the rows before it are inserted.
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


_CHUNK_SIZES = (8, 64, 512)


def chunks(values: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield ``values`` in chunks for ``IN (?, ?, …)``, each with its placeholders.

    A chunk is padded with its last value to one of a few sizes, so that SQLite compiles few statements. (``json_each``
    is no alternative: its text ends at a NUL character, which an id may contain.)
    """
    remaining = iter(values)
    while piece := list(islice(remaining, _CHUNK_SIZES[-1])):
        size = next(size for size in _CHUNK_SIZES if size >= len(piece))
        piece.extend([piece[-1]] * (size - len(piece)))
        yield ", ".join("?" * size), piece
