"""Many rows per statement, for each statement costs more than a row."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from itertools import chain, islice
from typing import Any

__all__ = ["chunks", "insert_rows"]

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


_CHUNK_SIZES = (8, 64, 512)


def chunks(values: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    """Pieces of ``values`` for ``… IN (?, ?, …)``, each with its placeholders.

    Pieces are filled up with their last value to one of a few sizes, so that SQLite has few statements to compile.
    (One JSON text for ``json_each`` looks simpler, but that ends at a NUL character, which an id may hold.)
    """
    remaining = iter(values)
    while piece := list(islice(remaining, _CHUNK_SIZES[-1])):
        size = next(size for size in _CHUNK_SIZES if size >= len(piece))
        piece.extend([piece[-1]] * (size - len(piece)))
        yield ", ".join("?" * size), piece
