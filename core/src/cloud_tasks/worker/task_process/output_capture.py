"""Capture of the output of tasks in files.

Every task process has this module in memory, so its imports are light.

Invariants, each with a test:

1. Each attempt has a log file of its own.
2. A capture without a name stays bounded, and never holds the output of two tasks.
"""

from __future__ import annotations

import contextlib
import os
from os import fstat, ftruncate, pread

from cloud_tasks.worker.common.memfd import file_on_disk
from cloud_tasks.worker.common.os_errors import os_error_text

__all__ = ["MAX_TAIL", "Outputs", "log_path", "tail_of", "take_output"]

MAX_TAIL = 8 * 1024
"""Bytes of a task's output in the event of its end."""
_NEW_LOG = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
"""The name of a log is predictable, so a link that another user planted there is not followed."""
_LIMIT = 64 * 1024 * 1024
"""Size above which an unnamed capture is truncated."""


def log_path(folder: str, task_id: str, attempt: int) -> str:
    """Return the path of an attempt's log file."""
    from cloud_tasks.escape import file_name

    return os.path.join(folder, file_name(task_id, f".{attempt}.log"))


class Outputs:
    """Output files, opened by the fork server.

    Args:
        log_dir: Folder with a file for each attempt; None for no such files.
        capture: Whether output is captured for events otherwise.
    """

    def __init__(self, *, log_dir: str | None, capture: bool) -> None:
        self._log_dir = log_dir
        self.capture = capture
        self._spare: list[int] = []
        self._reported: set[int | None] = set()
        """Error numbers of log files that have been reported."""

    def open(self, task_id: str, attempt: int) -> tuple[int | None, bool]:
        """Return the descriptor of an attempt's output, None for the worker's own, and whether the file has a name."""
        if self._log_dir is not None:
            path = log_path(self._log_dir, task_id, attempt)
            try:
                return os.open(path, _NEW_LOG, 0o644), True
            except OSError as error:
                self._report(error)
        return self.unnamed(), False

    def _report(self, error: OSError) -> None:
        """Report the first log file that cannot be opened for a reason; its task runs without one."""
        if error.errno not in self._reported:
            self._reported.add(error.errno)
            with contextlib.suppress(OSError):
                os.write(2, f"cannot write the log of a task: {os_error_text(error)}\n".encode("utf-8", "replace"))

    def unnamed(self) -> int | None:
        """Return the descriptor of an unnamed capture; None if output is not captured.

        It is in append mode, in which output after a truncation starts at the beginning.
        """
        if not self.capture:
            return None
        return self._spare.pop() if self._spare else file_on_disk("cloud-tasks-output", os.O_APPEND)

    def close_output(self, output: int | None, is_named: bool) -> None:
        """Close or reuse the output file of an exited process."""
        if output is None:
            return
        try:
            if not is_named:
                os.ftruncate(output, 0)
                self._spare.append(output)
                return
        except OSError:
            # A broken file is not used again.
            pass
        # Some file systems report only now that they are full.
        with contextlib.suppress(OSError):
            os.close(output)

    def remove_named(self, output: int | None, is_named: bool) -> None:
        """Remove the log file of an attempt that will not run."""
        if output is not None and is_named:
            try:
                os.unlink(os.readlink(f"/proc/self/fd/{output}"))
            except OSError:
                return

    def bound(self, output: int | None, is_named: bool) -> None:
        """Empty an unnamed capture that is too long."""
        if output is not None and not is_named:
            with contextlib.suppress(OSError):
                if os.fstat(output).st_size > _LIMIT:
                    os.ftruncate(output, 0)


def tail_of(output: int) -> bytes:
    """Return the end of an output file; nothing if it cannot be read."""
    try:
        size = fstat(output).st_size
        return pread(output, MAX_TAIL, max(0, size - MAX_TAIL))
    except OSError:
        return b""


def take_output(*, is_wanted: bool) -> bytes:
    """Empty the file that is this process's standard output; return its end if ``is_wanted``, else nothing."""
    try:
        if not fstat(1).st_size:
            return b""
        tail = tail_of(1) if is_wanted else b""
        ftruncate(1, 0)
    except OSError:
        # The task's function has replaced its standard output.
        return b""
    return tail
