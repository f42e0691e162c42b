"""Upload of pieces to a staging: a prefix of an object store, or a folder.

Invariants, each with a test:

1. A piece is complete or absent: it is uploaded under another name and renamed, or put at once where the store does so.
2. A piece that exists with its size is not uploaded again: its name is made from its content.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.shipping.piece import Piece

__all__ = ["Progress", "upload"]

Progress = Callable[[Piece, int], None]
"""Receives the number of bytes of a piece that are uploaded."""
_ATOMIC = frozenset({"gs", "gcs", "s3", "s3a", "az", "abfs", "abfss"})
"""Protocols of stores in which an object is there when its upload is complete, and whose rename is a copy."""


def upload(
    pieces: Iterable[Piece],
    staging: str,
    *,
    options: Mapping[str, Any] = MappingProxyType({}),
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Upload those pieces that the staging does not have; return their names.

    Args:
        staging: URL supported by fsspec, or a folder.
        options: Arguments of fsspec's file system.
        progress: Called as the upload of a piece advances.

    Raises:
        InputError: The URL is invalid, or a package for its scheme is missing.
        CloudTasksError: The upload failed.
    """
    import fsspec

    uploaded = []
    prefix = staging.rstrip("/")
    try:
        for piece in pieces:
            system, place = fsspec.core.url_to_fs(f"{prefix}/{piece.name}", **options)
            if not _has(system, place, piece.size):
                _upload(system, place, piece, progress)
                uploaded.append(piece.name)
    except ImportError as error:
        raise InputError(f"a package for this URL is missing: {error}", where=staging) from error
    except ValueError as error:
        raise InputError(f"invalid URL: {error}", where=staging) from error
    except Exception as error:
        raise CloudTasksError(f"{staging}: cannot upload: {type(error).__name__}: {error}") from error
    return tuple(uploaded)


def _has(system: Any, place: str, size: int) -> bool:
    try:
        return bool(system.info(place)["size"] == size)
    except FileNotFoundError:
        return False


def _upload(system: Any, place: str, piece: Piece, progress: Progress | None) -> None:
    from fsspec.callbacks import Callback

    class Report(Callback):  # type: ignore[misc]  # fsspec has no types
        def call(self, *_: object, **__: object) -> None:
            if progress is not None:
                progress(piece, self.value)

    protocols = (system.protocol,) if isinstance(system.protocol, str) else system.protocol
    if not _ATOMIC.isdisjoint(protocols):
        system.put_file(str(piece.path), place, callback=Report())
        return
    system.makedirs(os.path.dirname(place), exist_ok=True)
    system.put_file(str(piece.path), f"{place}.part", callback=Report())
    system.mv(f"{place}.part", place)
