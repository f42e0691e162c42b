"""Opening a task file: a path, a URL that fsspec supports, or standard input; compressed or not.

Compression is recognized by the first bytes. A name that ends like that of a compressed file (``.gz``) must be of one.
"""

from __future__ import annotations

import codecs
import importlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from cloud_tasks.errors import InputError
from cloud_tasks.taskfile.http_problems import http_problem

__all__ = [
    "COMPRESSIONS",
    "MAX_TASK_LENGTH",
    "STANDARD_INPUT",
    "display_name",
    "is_url",
    "not_utf8",
    "open_binary",
    "place_of",
]

STANDARD_INPUT = "-"
"""Location that denotes standard input; a file of that name is ``./-``."""

MAX_TASK_LENGTH = 64 << 20
"""Characters of one task. A longer one is a mistake, or a small compressed file that becomes a large one."""

_FORMATS = {
    ".gz": (b"\x1f\x8b", "gzip", "gzip"),
    ".bz2": (b"BZh", "bz2", "bzip2"),
    ".xz": (b"\xfd7zXZ\x00", "lzma", "xz"),
    ".zst": (b"\x28\xb5\x2f\xfd", "compression.zstd", "Zstandard"),
}
"""First bytes, module and name of each compression, by suffix."""

COMPRESSIONS = tuple(_FORMATS)


def is_url(location: str) -> bool:
    """Return whether a location is a URL (``scheme://…``), not a path."""
    scheme, separator, _ = location.partition("://")
    return bool(separator) and scheme.replace("+", "").replace("-", "").isalnum()


def place_of(location: str, base_dir: str | os.PathLike[str]) -> str:
    """Return a URL or ``-`` unchanged, or the path relative to ``base_dir``, with ``~`` expanded."""
    if is_url(location) or location == STANDARD_INPUT:
        return location
    path = os.path.expanduser(location)
    if os.path.isabs(path):
        return path
    relative = os.path.relpath(os.path.join(base_dir, path))
    return os.path.join(os.curdir, relative) if relative == STANDARD_INPUT else relative


def display_name(place: str) -> str:
    """Return the name of a place in messages."""
    return "standard input" if place == STANDARD_INPUT else place


@contextmanager
def open_binary(place: str) -> Iterator[BinaryIO]:
    """Open a file, a URL or standard input (``-``), and yield its bytes, decompressed.

    Raises:
        InputError: Not found, not readable, or corrupt or truncated compressed content.
    """
    try:
        with _open(place) as stream:
            yield _decompressed(stream, place)
    except InputError:
        raise
    except Exception as error:
        unreadable = _unreadable(error, place)
        if unreadable is None:
            raise
        raise unreadable from error


def _unreadable(error: Exception, place: str) -> InputError | None:
    """Return the error for a file that cannot be opened or read; None for an error of this program."""
    where = display_name(place)
    if is_url(place) and (problem := http_problem(error, place)) is not None:
        return InputError(f"cannot read the file: {problem}", where=where)
    if isinstance(error, FileNotFoundError):
        if (cause := _first_cause(error)) is not None:
            return InputError(f"cannot read the file: {_reason(cause)}", where=where)
        return InputError("file not found", where=where, hint="check the path of the task file")
    if isinstance(error, ImportError):
        return InputError(f"this URL scheme needs another package: {error}", where=where)
    if isinstance(error, (OSError, EOFError)):
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return InputError(f"cannot read the file: {reason}", where=where)
    if _is_from_library(error) or (isinstance(error, ValueError) and "\0" in place):
        return InputError(f"cannot read the file: {type(error).__name__}: {_reason(error)}", where=where)
    return None


def _first_cause(error: BaseException) -> BaseException | None:
    """Return the error behind one that a storage library raised for any failure; None if the file does not exist."""
    while error.__cause__ is not None:
        error = error.__cause__
    return None if isinstance(error, FileNotFoundError) else error


def _reason(error: BaseException) -> str:
    """Return the reason that an error of a library has, of an HTTP response the status and its name."""
    status = getattr(error, "status", None)
    text = str(getattr(error, "message", "")) if isinstance(status, int) else str(error)
    reason = " ".join((f"{status} {text}" if status else text).split())
    # A text that is one word, such as an address, is no reason.
    return reason if " " in reason else f"{type(error).__name__}: {reason}".removesuffix(": ")


def not_utf8(data: bytes, reason: str, where: str) -> InputError:
    """Return the error for text in another encoding.

    Args:
        data: Where the text begins, or a part of it.
    """
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "latin1"
    return InputError(f"not UTF-8 text ({reason})", where=where, hint=f"convert it with iconv -f {encoding} -t utf-8")


def _is_from_library(error: Exception) -> bool:
    """Return whether an error comes from a storage or compression library."""
    return type(error).__module__.split(".")[0] not in ("builtins", "cloud_tasks", "__main__")


def _open(place: str) -> Any:
    if place == STANDARD_INPUT:
        if sys.stdin is None:
            raise InputError("closed", where=display_name(place), hint="give a file instead")
        # A copy of the descriptor: closing it leaves the program's own open.
        return open(os.dup(sys.stdin.fileno()), "rb")
    if not is_url(place):
        return open(place, "rb")
    import fsspec

    try:
        return fsspec.open(place, "rb")
    except ValueError as error:
        raise InputError(f"cannot open the URL: {error}", where=place) from error


def _decompressed(stream: Any, place: str) -> BinaryIO:
    """Return the content of a stream whose first bytes may be those of a compressed file."""
    buffered = stream if hasattr(stream, "peek") else io.BufferedReader(_Readable(stream))
    head = buffered.peek(8)[:8]
    if not head and place.startswith(("http://", "https://")):
        # Libraries take a redirect without an address for an empty file.
        raise InputError("cannot read the file: the answer of the server is empty", where=place)
    suffix = os.path.splitext(place)[1].lower()
    for ending, (magic, module, name) in _FORMATS.items():
        if head.startswith(magic):
            return cast(BinaryIO, _import(module, place).open(buffered, "rb"))
        if head and suffix == ending:
            hint = f"rename it to end without {ending} if it is not compressed"
            raise InputError(f"cannot read the file: not {name} data", where=display_name(place), hint=hint)
    return cast(BinaryIO, buffered)


def _import(module: str, place: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        pass
    try:
        return importlib.import_module(module.replace("compression.", "backports."))
    except ImportError as error:
        hint = "install it with: pip install 'cloud-tasks[zstd]'"
        raise InputError("Zstandard files need another package", where=display_name(place), hint=hint) from error


class _Readable(io.RawIOBase):
    """A stream that only has ``read``, as the one of a URL."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
