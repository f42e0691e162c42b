"""Output files of commands: the one place that decides how a file with the name that a user gave is written.

Invariants, each with a test:

1. A regular file is written completely or not at all: an existing one is replaced only by a complete one, and keeps its
   permissions. A symbolic link stays, and its target is replaced.
2. Anything else (a device, a pipe, a terminal) is written to and never replaced, and so are files that are this
   process's standard output or error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cloud_tasks.errors import CloudTasksError, InputError

__all__ = ["output_file"]

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def output_file(file: Path) -> Iterator[BinaryIO]:
    """Yield a file to write the new content of ``file`` to.

    Raises:
        InputError: ``file`` cannot be opened for writing, or the folder does not exist or is not writable.
        CloudTasksError: Writing failed.
    """
    try:
        writing = _direct(file) or _replacing(Path(os.path.realpath(file)))
    except OSError as error:
        hint = "choose another path"
        raise InputError(f"cannot write: {error.strerror}", where=str(file), hint=hint) from error
    try:
        with writing as out:
            yield out
    except OSError as error:
        hint = "free some space" if error.errno in _FULL else "choose another path"
        raise CloudTasksError(f"{file}: cannot write: {error.strerror}", hint=hint) from error


def _direct(file: Path) -> BinaryIO | None:
    """Open what cannot be replaced; return None for a regular file, and for a new one."""
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(found, os.fstat(number)):
                return open(os.dup(number), "wb")
    return None if stat.S_ISREG(found.st_mode) else open(os.open(file, os.O_WRONLY | os.O_CLOEXEC), "wb")


@contextlib.contextmanager
def _replace(unfinished: Path, out: BinaryIO, target: Path) -> Iterator[BinaryIO]:
    try:
        with out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


def _replacing(target: Path) -> contextlib.AbstractContextManager[BinaryIO]:
    """Open a temporary file that takes the name ``target`` on success, and is removed otherwise."""
    known = os.stat(target) if target.exists() else None
    if known is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    unfinished = target.with_name(f".cloud-tasks-{secrets.token_hex(8)}.tmp")
    out = unfinished.open("xb")
    if known is not None:
        with contextlib.suppress(OSError):
            os.fchown(out.fileno(), known.st_uid, known.st_gid)
        with contextlib.suppress(OSError):
            os.fchmod(out.fileno(), stat.S_IMODE(known.st_mode))
    return _replace(unfinished, out, target)
