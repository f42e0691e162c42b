"""Anonymous files: in memory on Linux, unlinked temporary files elsewhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from os import SEEK_SET, close, lseek

__all__ = ["GUARDED_OFFSETS", "file_on_disk", "guarded_file", "read_only", "release", "seal"]

GUARDED_OFFSETS = (0x7FFF_FFFF_FFFF_FFFF, 0x5EED_0FC7_A5C5)
"""Offsets of guarded files. At the first one every write fails; some file systems have smaller offsets only."""

_memfd_create: Callable[[str, int], int] | None = getattr(os, "memfd_create", None)
_MFD_CLOEXEC: int = getattr(os, "MFD_CLOEXEC", 0)
_MFD_ALLOW_SEALING: int = getattr(os, "MFD_ALLOW_SEALING", 0)
_F_ADD_SEALS = 1033
_F_SEAL_SEAL, _F_SEAL_SHRINK, _F_SEAL_GROW, _F_SEAL_FUTURE_WRITE = 1, 2, 4, 16


def file_on_disk(name: str, flags: int = 0) -> int:
    """Open a file on disk that exists until its last descriptor is closed.

    Args:
        name: Part of its name, which listings of a process's open files may show.
        flags: More flags of `os.open`.
    """
    flags |= os.O_RDWR | os.O_CLOEXEC
    if hasattr(os, "O_TMPFILE"):
        try:
            return os.open(os.environ.get("TMPDIR") or "/tmp", os.O_TMPFILE | flags, 0o600)
        except OSError:
            # Some file systems have no O_TMPFILE, and some systems have no such folder.
            pass
    # Imported here: it imports `random`, which would then reseed itself in each forked process.
    import tempfile

    created, path = tempfile.mkstemp(prefix=f"{name}-")
    try:
        return os.open(path, flags)
    finally:
        close(created)
        os.unlink(path)


def seal(descriptor: int, *, is_read_only: bool) -> None:
    """Fix the size of a mapped file: a process whose mapped file was truncated would be ended by SIGBUS.

    Does nothing where the system has no seals.

    Args:
        is_read_only: Whether the file can be changed by the mappings that exist already, and by nothing else.
    """
    if _memfd_create is None:
        return
    # Each task process has the libraries of the program in its memory: that of `fcntl` would be one more.
    from ctypes import PyDLL

    size = _F_SEAL_SHRINK | _F_SEAL_GROW | _F_SEAL_SEAL
    # Linux before 5.1 has no seal for future writes.
    for seals in (size | _F_SEAL_FUTURE_WRITE, size) if is_read_only else (size,):
        if PyDLL(None).fcntl(descriptor, _F_ADD_SEALS, seals) == 0:
            return


def guarded_file(name: str, *, is_sealable: bool = False) -> int:
    """Open an anonymous file that is written with explicit offsets only: at its own offset, a plain write fails.

    Every process that inherits the descriptor shares the offset.

    Args:
        is_sealable: Whether `seal` can fix its size later.
    """
    flags = _MFD_CLOEXEC | (_MFD_ALLOW_SEALING if is_sealable else 0)
    descriptor = file_on_disk(name) if _memfd_create is None else _memfd_create(name, flags)
    try:
        lseek(descriptor, GUARDED_OFFSETS[0], SEEK_SET)
    except OSError:
        lseek(descriptor, GUARDED_OFFSETS[1], SEEK_SET)
    return descriptor


def read_only(descriptor: int) -> int:
    """Replace a descriptor by one that can only read the file; return it unchanged where that is impossible."""
    try:
        replacement = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
    except OSError:
        return descriptor
    close(descriptor)
    return replacement


def release(descriptor: int) -> None:
    """Close a file and free its memory, even while other processes have inherited it."""
    try:
        os.truncate(f"/proc/self/fd/{descriptor}", 0)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
    close(descriptor)
