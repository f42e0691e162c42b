"""A piece of a bundle: a file in the cache folder, named by its content.

Invariants, each with a test:

1. A piece is complete or absent in the cache: it is written under another name and renamed.
2. The same content gives the same name; the name is made from the SHA-256 of the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import attrs

from cloud_tasks.errors import CloudTasksError
from cloud_tasks.shortage import describe_shortage

__all__ = ["Piece", "replace_file", "write_piece"]

_DIGITS = 32
"""Hexadecimal digits of the digest in a name."""


@attrs.frozen(kw_only=True)
class Piece:
    """A file of a bundle."""

    name: str
    """File name in the staging: ``<kind>-<32 hexadecimal digits of the SHA-256><suffix>``."""
    sha256: str
    """SHA-256 of the file, 64 hexadecimal digits."""
    size: int
    """Size in bytes."""
    path: Path
    """The file in the cache of this machine."""


class _Digester:
    """A file that is written and digested at the same time."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        self.size += len(content)
        return self._file.write(content)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._file.flush()


def write_piece(folder: Path, kind: str, suffix: str, write: Callable[[BinaryIO], None]) -> Piece:
    """Write a piece into a folder and return it.

    Args:
        write: Writes the content to the file that it receives.

    Raises:
        CloudTasksError: The disk is full, or the folder is not writable.
    """
    with _draft(folder, kind) as file:
        digester = _Digester(file)
        write(cast(BinaryIO, digester))
        file.close()
        sha256 = digester.digest.hexdigest()
        path = folder / f"{kind}-{sha256[:_DIGITS]}{suffix}"
        os.replace(file.name, path)
    return Piece(name=path.name, sha256=sha256, size=digester.size, path=path)


def replace_file(path: Path, content: bytes) -> None:
    """Write a whole file at once, or none."""
    with _draft(path.parent, path.name) as file:
        file.write(content)
        file.close()
        os.replace(file.name, path)


@contextlib.contextmanager
def _draft(folder: Path, name: str) -> Iterator[BinaryIO]:
    """Yield a file beside the final one; it is deleted if it was not renamed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{name}-", suffix=".part", delete=False) as file:
            try:
                yield cast(BinaryIO, file)
            finally:
                Path(file.name).unlink(missing_ok=True)
    except OSError as error:
        raise CloudTasksError(f"{folder}: cannot write: {describe_shortage(error) or error}") from error
