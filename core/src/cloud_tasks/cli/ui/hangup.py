"""A closed terminal: the standard streams that were on it continue in a log file.

Invariant, with a test: streams that are not a terminal, such as redirected ones, stay where they are.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import termios
from pathlib import Path

__all__ = ["controller_log", "leave_terminal"]


def controller_log(folder: Path, job_id: str) -> Path:
    """Return the path of the log of a job's controller without a terminal, in the folder of its configuration."""
    return folder / ".cloud-tasks" / job_id / "controller.log"


def leave_terminal(log_file: Path, *, only_closed: bool = False) -> bool:
    """Point the standard streams that are a terminal to a log file, input to nothing.

    Args:
        only_closed: Keep a terminal that can still be used.

    Returns:
        Whether the log file is used; False if no output was on a terminal, or if the file cannot be written, in which
        case the output is lost.
    """
    on_terminal = [number for number in (0, 1, 2) if _is_terminal(number, only_closed=only_closed)]
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    log = _open_log(log_file) if {1, 2} & set(on_terminal) else None
    for number in on_terminal:
        os.dup2(nothing if number == 0 or log is None else log, number)
    for descriptor in (nothing, log):
        if descriptor is not None:
            os.close(descriptor)
    return log is not None


def _is_terminal(number: int, *, only_closed: bool) -> bool:
    """Return whether a descriptor is a terminal; all calls on one that has been closed fail with EIO."""
    try:
        if not stat.S_ISCHR(os.fstat(number).st_mode):
            return False
        termios.tcgetattr(number)
    except termios.error as error:
        return bool(error.args[0] == errno.EIO)
    except OSError:
        return False
    return not only_closed


def _open_log(path: Path) -> int | None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        path.parent.parent.mkdir(mode=0o700, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        return os.open(path, flags, 0o600)
    return None
