"""Files and folders of the state folder, which no other user of the machine can read. Standard library only."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["create_private", "make_private", "write_private"]


def make_private(folder: Path, *, below: Path | None = None) -> None:
    """Create the folder, with its parents, for its owner only; close one of an earlier version to others.

    Args:
        below: Folder from which on the parents are private, too.
    """
    if below is not None and below in folder.parents:
        make_private(folder.parent, below=below)
    folder.parent.mkdir(parents=True, exist_ok=True)
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
