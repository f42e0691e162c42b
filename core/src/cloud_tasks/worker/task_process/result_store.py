"""Store of long results and logs: a folder, or any URL that fsspec supports."""

from __future__ import annotations

import os
from typing import IO
from urllib.parse import quote

__all__ = ["address_of", "log_name", "store_file", "store_result"]

_CHUNK = 1 << 20


def store_result(store: str, task_id: str, attempt: int, content: bytes) -> str:
    """Write a result as JSON and return its path or URL. The write is atomic in a folder.

    Raises:
        Exception: As the store raises it.
    """
    import io

    address = address_of(store, f"{quote(task_id, safe='')}.{attempt}.json")
    store_file(address, io.BytesIO(content))
    return address


def log_name(task_id: str, attempt: int) -> str:
    """Return the name of an attempt's log in a store."""
    return f"{quote(task_id, safe='')}.{attempt}.log"


def address_of(store: str, name: str) -> str:
    """Return the path or URL of a name in a store."""
    return f"{store.rstrip('/')}/{name}" if "://" in store else os.path.join(os.path.abspath(store), name)


def store_file(address: str, content: IO[bytes]) -> None:
    """Copy ``content`` to a path or URL.

    Raises:
        Exception: As the store raises it.
    """
    if "://" in address:
        import fsspec

        options = {"auto_mkdir": True} if address.startswith("file:") else {}
        with fsspec.open(address, "wb", **options) as file:
            _copy(content, file)
        return
    os.makedirs(os.path.dirname(address), exist_ok=True)
    partial = f"{address}.{os.getpid()}.part"
    with open(partial, "wb") as file:
        _copy(content, file)
    os.replace(partial, address)


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while chunk := source.read(_CHUNK):
        target.write(chunk)
