"""Check of the path of a folder that will be created or written to. Light enough for a task process."""

from __future__ import annotations

import os
import stat

__all__ = ["check_folder"]


def check_folder(path: str | os.PathLike[str], *, permissions: bool = True) -> None:
    """Check that a folder can be used, or be created where it does not exist; change nothing.

    Args:
        permissions: Whether this user must be able to write to it.

    Raises:
        ValueError: It, or a part of its path, is not a folder, this user cannot use it, or the path is not UTF-8.
    """
    folder = each = os.path.abspath(path)
    try:
        # The path is in names of databases and in JSON.
        os.fsdecode(folder).encode()
    except UnicodeEncodeError:
        raise ValueError(f'the path "{folder}" is not UTF-8; rename the folder or give another one') from None
    while True:
        try:
            is_folder = stat.S_ISDIR(os.stat(each).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            if os.path.islink(each):
                raise ValueError(f"{each} is a link to nothing; choose another one") from None
            each = os.path.dirname(each)
            continue
        except OSError as error:
            raise ValueError(f"cannot use the folder {folder}: {error.strerror}; choose another one") from error
        if not is_folder:
            raise ValueError(f"{each} is not a folder; choose another one")
        if permissions and not os.access(each, os.W_OK | os.X_OK | (os.R_OK if each == folder else 0)):
            raise ValueError(f"folder {each} is not writable for this user; choose another one")
        return
