"""Opening of the file that a task source reads, as the built-in sources do.

Invariant, with a test: whatever is wrong with the file, while it is opened or read within the context, is an
`InputError` with its place.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, BinaryIO, TextIO

from cloud_tasks.errors import InputError

if TYPE_CHECKING:
    from cloud_tasks.plugin.descriptors import TaskSourceContext

__all__ = ["open_binary", "open_text"]

_UTF8 = ("utf-8", "utf8", "utf-8-sig")


def open_binary(context: TaskSourceContext) -> AbstractContextManager[BinaryIO]:
    """Open the file of a task source, and yield its bytes, decompressed.

    The location is a path, relative to ``context.base_dir``, a URL, or ``-`` for standard input.

    Raises:
        InputError: The file is not found, not readable, or corrupt or truncated compressed content.
    """
    from cloud_tasks import taskfile

    return taskfile.open_binary(taskfile.place_of(context.location, context.base_dir))


@contextmanager
def open_text(context: TaskSourceContext, *, encoding: str = "utf-8", newline: str | None = None) -> Iterator[TextIO]:
    """Open the file of a task source as `open_binary` does, and yield its text.

    Args:
        encoding: ``utf-8-sig`` also removes a byte order mark.
        newline: As of `open`; ``""`` for the module `csv`.

    Raises:
        InputError: As of `open_binary`, or the file has another encoding.
    """
    with open_binary(context) as stream, io.TextIOWrapper(stream, encoding, newline=newline) as text:
        try:
            yield text
        except UnicodeDecodeError as error:
            raise _not_text(error, context, encoding) from error


def _not_text(error: UnicodeDecodeError, context: TaskSourceContext, encoding: str) -> InputError:
    from cloud_tasks import taskfile

    where = taskfile.display_name(taskfile.place_of(context.location, context.base_dir))
    if encoding.lower() in _UTF8:
        return taskfile.not_utf8(error.object, error.reason, where)
    return InputError(f"not {encoding} text ({error.reason})", where=where)
