"""Reading of a job database, whatever is in the file.

Invariants, each with a test:

1. A value that is in the file never stops a read: text that is not UTF-8, JSON that cannot be decoded and codes of
   unknown meaning are shown as such.
2. A file that is damaged or locked is a `StoreError` of one line, without any content of the file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from cloud_tasks.errors import CloudTasksError
from cloud_tasks.store.db.connection import connect_reader
from cloud_tasks.store.db.obstacles import damage_error, store_error

__all__ = ["decode_object", "open_reader", "readable", "whole"]


@contextmanager
def open_reader(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database read-only, and close it at the end.

    Raises:
        StoreError: As `connect_reader`, or the file cannot be read.
    """
    with closing(connect_reader(path)) as connection, readable(path):
        yield connection


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise `StoreError` for any error of the reads inside, which only access and decode the file."""
    try:
        yield
    except (CloudTasksError, UnicodeEncodeError):
        # Text that cannot be encoded is an argument of the read, never a value of the file.
        raise
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    except Exception as error:
        raise damage_error(path, f"a value of an unexpected form ({type(error).__name__})") from error


def whole(value: object) -> int:
    """Return a count or number of the file; 0 if it is none."""
    return value if isinstance(value, int) else 0


def decode_object(text: object) -> dict[str, Any]:
    """Return a JSON object of the file; empty for none; one with a ``note`` if it cannot be decoded."""
    if text is None or text == "":
        return {}
    try:
        found = json.loads(text)  # type: ignore[arg-type]
    except (ValueError, TypeError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"note": "not readable"}
