"""Files and folders of the state folder, which no other user of the machine can read. Standard library only."""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["StateFolder", "StateFolderGoneError", "create_private", "make_private", "write_private"]


class StateFolderGoneError(FileNotFoundError):
    """The state folder was deleted or renamed while it was in use."""


class StateFolder:
    """The state folder of one process, which is created at most once.

    Invariant, with a test: once the folder has been used, neither it nor a folder above is created again: a job whose
    folder was deleted or renamed would continue in an empty one, without its instances and messages.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = _identity(path)

    def make(self, folder: Path) -> None:
        """Create a folder in it, for its owner only, with the folders between them.

        Raises:
            StateFolderGoneError: It was deleted or renamed.
            OSError: The folder cannot be created.
        """
        if self._identity is None:
            make_private(self.path)
            self._identity = _identity(self.path)
        elif _identity(self.path) != self._identity:
            raise StateFolderGoneError(errno.ENOENT, _GONE, str(self.path))
        for each in [*reversed([above for above in folder.parents if self.path in above.parents]), folder]:
            _make_one(each)


_GONE = "deleted or renamed while it was in use"


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def make_private(folder: Path, *, below: Path | None = None) -> None:
    """Create the folder, with its parents, for its owner only; close one of an earlier version to others.

    Args:
        below: Folder from which on the parents are private, too.
    """
    if below is not None and below in folder.parents:
        make_private(folder.parent, below=below)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _make_one(folder)


def _make_one(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.stat()
        if found.st_mode & 0o077 and found.st_uid == os.geteuid():
            folder.chmod(0o700)


def create_private(file: Path) -> None:
    """Create a file for its owner only, if it does not exist."""
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))


def write_private(file: Path, text: str) -> None:
    """Write a new file for its owner only."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(file, flags, 0o600), "w", encoding="utf-8") as out:
        out.write(text)
