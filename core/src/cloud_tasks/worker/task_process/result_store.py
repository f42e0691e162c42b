"""Store of long results and logs: a folder, or any URL that fsspec supports."""

from __future__ import annotations

import os
from typing import IO

from cloud_tasks.escape import file_name

__all__ = ["address_of", "log_name", "result_name", "store_file", "store_result"]

_CHUNK = 1 << 20


def store_result(store: str, task_id: str, attempt: int, content: bytes, suffix: str) -> str:
    """Write a result and return its path or URL. The write is atomic in a folder.

    Args:
        suffix: ``json`` or ``pickle``.

    Raises:
        Exception: As the store raises it.
    """
    import io

    address = address_of(store, result_name(task_id, attempt, suffix))
    store_file(address, io.BytesIO(content))
    return address


def result_name(task_id: str, attempt: int, suffix: str) -> str:
    """Return the file name of an attempt's result."""
    return file_name(task_id, f".{attempt}.{suffix}")


def log_name(task_id: str, attempt: int) -> str:
    """Return the file name of an attempt's log."""
    return file_name(task_id, f".{attempt}.log")


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
