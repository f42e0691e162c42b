"""What is kept beside the events, in a folder or at any URL that fsspec knows: long results, tasks' logs."""

from __future__ import annotations

import os
from typing import IO
from urllib.parse import quote

__all__ = ["address_of", "log_name", "store_file", "store_result"]

_CHUNK = 1 << 20


def store_result(store: str, task_id: str, attempt: int, content: bytes) -> str:
    """Write a result as JSON, whole or not at all where the store allows it; returns its path or URL.

    Raises whatever the store raises.
    """
    import io

    address = address_of(store, f"{quote(task_id, safe='')}.{attempt}.json")
    store_file(address, io.BytesIO(content))
    return address


def log_name(task_id: str, attempt: int) -> str:
    """What the log of an attempt is called in a store."""
    return f"{quote(task_id, safe='')}.{attempt}.log"


def address_of(store: str, name: str) -> str:
    """The path or URL of something in a store."""
    return f"{store.rstrip('/')}/{name}" if "://" in store else os.path.join(os.path.abspath(store), name)


def store_file(address: str, content: IO[bytes]) -> None:
    """Write all that can be read. Raises whatever the store raises."""
    if "://" in address:
        import fsspec

        options = {"auto_mkdir": True} if address.startswith("file:") else {}
        with fsspec.open(address, "wb", **options) as file:
            _copy(content, file)
        return
    os.makedirs(os.path.dirname(address), exist_ok=True)
    draft = f"{address}.{os.getpid()}.part"
    with open(draft, "wb") as file:
        _copy(content, file)
    os.replace(draft, address)


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while chunk := source.read(_CHUNK):
        target.write(chunk)
