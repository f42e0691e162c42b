"""Results that are too long for an event, kept in a folder or at any URL that fsspec knows. Used by task processes."""

from __future__ import annotations

import os
from urllib.parse import quote

__all__ = ["store_result"]


def store_result(store: str, task_id: str, attempt: int, content: bytes) -> str:
    """Write a result as JSON, whole or not at all where the store allows it; returns its path or URL.

    Raises whatever the store raises.
    """
    name = f"{quote(task_id, safe='')}.{attempt}.json"
    if "://" in store:
        import fsspec

        url = f"{store.rstrip('/')}/{name}"
        with fsspec.open(url, "wb", auto_mkdir=True) if store.startswith("file:") else fsspec.open(url, "wb") as file:
            file.write(content)
        return url
    folder = os.path.abspath(store)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name)
    draft = f"{path}.{os.getpid()}.part"
    with open(draft, "wb") as file:
        file.write(content)
    os.replace(draft, path)
    return path
