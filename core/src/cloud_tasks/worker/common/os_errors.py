"""Text of system errors, and room in file systems. Every task process has this module in memory."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

__all__ = ["NO_ROOM", "OWN_FAILURE", "full_folder", "mark_own_failure", "os_error_text"]

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG})
"""Error numbers of a file system that takes no more data: full, over quota, read-only or broken."""
_MIN_ROOM = 16 * 1024
"""Bytes below which a file system counts as full."""


OWN_FAILURE = "_cloud_tasks_own_failure"
"""Attribute of an exception that our own code raised in the task's function, with the description."""


def mark_own_failure(error: OSError, what: str) -> None:
    """Mark an error of our own code that the task's function is about to see."""
    setattr(error, OWN_FAILURE, f"{what}: {os_error_text(error)}")


def os_error_text(error: OSError) -> str:
    """Return the system's message, the name of the error number and the path, as far as they are known."""
    if error.errno is None:
        return f"{type(error).__name__}: {error}"
    text = f"{error.strerror or os.strerror(error.errno)} ({errno.errorcode.get(error.errno, error.errno)})"
    return text if error.filename is None else f"{text}: {os.fsdecode(error.filename)}"


def full_folder(folders: Iterable[str]) -> str:
    """Return what is wrong with the first folder whose file system takes no more data; empty if there is none."""
    for folder in folders:
        number = _problem(folder)
        if number:
            return f"{os.strerror(number)} ({errno.errorcode[number]}): {folder}"
    return ""


def _problem(folder: str) -> int:
    """Return the error number that writing to a folder would raise; 0 for none or if that is not known."""
    while True:
        try:
            found = os.statvfs(folder)
            break
        except FileNotFoundError:
            parent = os.path.dirname(folder)
            if parent == folder:
                return 0
            folder = parent
        except OSError as error:
            return errno.EIO if error.errno == errno.EIO else 0
    if found.f_flag & os.ST_RDONLY:
        return errno.EROFS
    # Some file systems report no sizes at all.
    is_full = found.f_blocks > 0 and found.f_bavail * (found.f_frsize or found.f_bsize) < _MIN_ROOM
    has_no_inode = found.f_files > 0 and found.f_favail == 0
    return errno.ENOSPC if is_full or has_no_inode else 0
