"""Upload of pieces to a staging: a prefix of an object store, or a folder.

Invariants, each with a test:

1. A piece is complete or absent: in a folder it is written under another name and renamed, and an object store has an
   object when its upload is complete.
2. A piece that exists with its size is not uploaded again: its name is made from its content. One that is older than
   `_FRESH` is replaced, since a staging deletes its objects after two weeks, and a job may need them for days.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.escape import terminal_line
from cloud_tasks.shipping.piece import Piece
from cloud_tasks.shortage import describe_shortage

__all__ = ["Progress", "delete", "upload"]

Progress = Callable[[Piece, int], None]
"""Receives a piece, and how many of its bytes were uploaded. It must not raise; some stores call it in a thread."""
_RENAMING = frozenset({"file", "local", "sftp", "ssh", "smb", "hdfs", "arrow_hdfs"})
"""Systems where a file exists while it is written, and renaming is atomic."""
_FRESH = timedelta(days=2)
"""Maximum age of a piece that is not uploaded again."""


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
        progress: Called as the upload of a piece advances.

    Raises:
        InputError: The URL is invalid, or a package for its scheme is missing.
        CloudTasksError: The upload failed.
    """
    uploaded = []
    system, prefix = _system_of(staging, options)
    for piece in pieces:
        place = f"{prefix.rstrip('/')}/{piece.name}"
        try:
            exists = _has(system, place, piece.size)
            if exists and _is_fresh(system, place):
                continue
            # The account may have no permission to replace objects; an old one serves as long as it exists.
            with contextlib.suppress(*([Exception] if exists else [])):
                _upload(system, place, piece, progress)
                uploaded.append(piece.name)
        except Exception as error:
            # Of a copy that failed, the error names the source.
            nameless = OSError(error.errno, error.strerror) if isinstance(error, OSError) else error
            reason = describe_shortage(nameless) or f"{type(error).__name__}: {error}"
            raise CloudTasksError(f"{staging}: cannot upload {piece.name}: {terminal_line(reason)}") from error
    return tuple(uploaded)


def delete(url: str, *, options: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Delete a file of a staging, if it is there. Raises `CloudTasksError`."""
    try:
        system, path = _system_of(url, options)
        system.rm_file(path)
    except FileNotFoundError:
        return
    except Exception as error:
        raise CloudTasksError(f"cannot delete {url}: {terminal_line(f'{type(error).__name__}: {error}')}") from error


def _system_of(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it. Raises `InputError`."""
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        raise InputError(f"a package for this URL is missing: {error}", where=url) from error
    except ValueError as error:
        raise InputError(f"invalid URL: {error}", where=url) from error
    return system, path


def _has(system: Any, place: str, size: int) -> bool:
    # Listings may be cached; this process or another one may have uploaded it meanwhile.
    system.invalidate_cache()
    try:
        return bool(system.info(place)["size"] == size)
    except FileNotFoundError:
        return False


def _is_fresh(system: Any, place: str) -> bool:
    try:
        modified: Any = system.modified(place)
    except (NotImplementedError, KeyError):
        modified = None
    if not isinstance(modified, datetime):
        return True  # the age is unknown
    return datetime.now(UTC) - (modified if modified.tzinfo else modified.replace(tzinfo=UTC)) < _FRESH


def _upload(system: Any, place: str, piece: Piece, progress: Progress | None) -> None:
    """Upload a file. Not by writing to `system.open`: an upload that fails would be closed, and then be complete."""
    protocols = (system.protocol,) if isinstance(system.protocol, str) else system.protocol
    if not set(protocols) & _RENAMING:
        system.put_file(str(piece.path), place, callback=_callback(piece, progress))
        return
    system.makedirs(os.path.dirname(place), exist_ok=True)
    draft = f"{place}.{uuid.uuid4().hex[:8]}.part"
    try:
        system.put_file(str(piece.path), draft, callback=_callback(piece, progress))
        system.mv(draft, place)
    except BaseException:
        with contextlib.suppress(Exception):
            system.rm(draft)
        raise


def _callback(piece: Piece, progress: Progress | None) -> Any:
    from fsspec.callbacks import Callback

    def show(size: int | None, value: int, **_: object) -> None:
        if progress is not None:
            progress(piece, value)

    return Callback(size=piece.size, hooks={"progress": show})
