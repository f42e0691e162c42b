"""Opening a task file: a path or a URL that fsspec supports, compressed or not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from cloud_tasks.errors import InputError

__all__ = ["COMPRESSIONS", "is_url", "open_binary", "place_of"]

COMPRESSIONS = (".gz", ".bz2", ".xz")


def is_url(location: str) -> bool:
    """Return whether a location is a URL (``scheme://…``), not a path."""
    scheme, separator, _ = location.partition("://")
    return bool(separator) and scheme.replace("+", "").replace("-", "").isalnum()


def place_of(location: str, base_dir: str | os.PathLike[str]) -> str:
    """Return the URL unchanged, or the path relative to ``base_dir``, with ``~`` expanded."""
    if is_url(location):
        return location
    path = os.path.expanduser(location)
    return path if os.path.isabs(path) else os.path.relpath(os.path.join(base_dir, path))


@contextmanager
def open_binary(place: str) -> Iterator[BinaryIO]:
    """Open a file or URL and yield its bytes, decompressed by its extension.

    Raises:
        InputError: Not found, not readable, or corrupt or truncated compressed content.
    """
    try:
        with _open(place) as stream:
            yield stream
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError("file not found", where=place, hint="check the path of the task file") from error
    except ImportError as error:
        raise InputError(f"this URL scheme needs another package: {error}", where=place) from error
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"cannot read the file: {reason}", where=place) from error
    except Exception as error:
        if _is_from_library(error):
            raise InputError(f"cannot read the file: {type(error).__name__}: {error}", where=place) from error
        raise


def _is_from_library(error: Exception) -> bool:
    """Return whether an error comes from a storage or compression library."""
    return type(error).__module__.split(".")[0] not in ("builtins", "cloud_tasks", "__main__")


def _open(place: str) -> Any:
    if is_url(place):
        import fsspec

        try:
            return fsspec.open(place, "rb", compression="infer")
        except ValueError as error:
            raise InputError(f"cannot open the URL: {error}", where=place) from error
    suffix = os.path.splitext(place)[1].lower()
    if suffix == ".gz":
        import gzip

        return gzip.open(place, "rb")
    if suffix == ".bz2":
        import bz2

        return bz2.open(place, "rb")
    if suffix == ".xz":
        import lzma

        return lzma.open(place, "rb")
    return cast(Any, open(place, "rb"))
