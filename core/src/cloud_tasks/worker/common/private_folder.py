"""Folders that only this user can access, whatever the umask. Every task process has this module in memory."""

from __future__ import annotations

from os import chmod, mkdir
from os.path import isdir

__all__ = ["PRIVATE", "create_private_folder"]

PRIVATE = 0o700


def create_private_folder(path: str) -> None:
    """Create a folder unless it exists.

    Raises:
        OSError: It cannot be created.
    """
    try:
        mkdir(path, PRIVATE)
    except FileExistsError:
        if not isdir(path):
            raise
        return
    # The umask may have removed permissions of the owner. No other user can have replaced a folder of this one.
    chmod(path, PRIVATE)
