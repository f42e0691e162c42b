"""Opening a task file for reading, wherever it is: a path, or any URL that fsspec knows; compressed or not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from cloud_tasks.errors import InputError

__all__ = ["COMPRESSIONS", "is_url", "open_binary", "place_of"]

COMPRESSIONS = (".gz", ".bz2", ".xz")


def is_url(location: str) -> bool:
    """Whether this is a URL (``scheme://…``), not a path."""
    scheme, separator, _ = location.partition("://")
    return bool(separator) and scheme.replace("+", "").replace("-", "").isalnum()


def place_of(location: str, base_dir: str | os.PathLike[str]) -> str:
    """What is opened: the URL as it is, or the path below ``base_dir``, with ``~`` expanded."""
    if is_url(location):
        return location
    path = os.path.expanduser(location)
    return path if os.path.isabs(path) else os.path.relpath(os.path.join(base_dir, path))


@contextmanager
def open_binary(place: str) -> Iterator[BinaryIO]:
    """The content of a file or URL as bytes, decompressed by its ending.

    Raises:
        InputError: It is not there, cannot be read, or its compressed content is broken or cut off.
    """
    try:
        with _open(place) as stream:
            yield stream
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError("there is no such file", where=place, hint="check the path of the task file") from error
    except ImportError as error:
        raise InputError(f"this kind of URL needs another package: {error}", where=place) from error
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"cannot be read: {reason}", where=place) from error
    except Exception as error:
        if _is_foreign(error):
            raise InputError(f"cannot be read: {type(error).__name__}: {error}", where=place) from error
        raise


def _is_foreign(error: Exception) -> bool:
    """Whether it comes from a storage or compression library rather than from us."""
    return type(error).__module__.split(".")[0] not in ("builtins", "cloud_tasks", "__main__")


def _open(place: str) -> Any:
    if is_url(place):
        import fsspec

        try:
            return fsspec.open(place, "rb", compression="infer")
        except ValueError as error:
            raise InputError(f"this URL cannot be opened: {error}", where=place) from error
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
