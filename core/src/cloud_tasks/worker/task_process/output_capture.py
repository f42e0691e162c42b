"""What task processes print: the files that it goes to, and the end of it. Light: every task process has it.

Invariants, each with a test:

1. Two attempts never share a file of their own.
2. A capture that nobody reads stays bounded, and what one task printed is never taken for another's.
"""

from __future__ import annotations

import os
import sys

from cloud_tasks.worker.common.memfd import nameless_file

__all__ = ["Outputs", "log_path", "tail_of", "take_output"]

_TAIL = 8 * 1024
"""Bytes of a task's output that are kept for its failure event."""
_LIMIT = 64 * 1024 * 1024
"""Bytes of output that a task may have in an unnamed capture; what is older goes."""


def log_path(folder: str, task_id: str, attempt: int) -> str:
    """The file for what one attempt prints."""
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in task_id)[:200]
    if name != task_id:
        import binascii

        name = f"{name}-{binascii.crc32(task_id.encode('utf-8', 'surrogatepass')):08x}"
    return os.path.join(folder, f"{name}.{attempt}.log")


class Outputs:
    """Opens them for the template.

    Args:
        log_dir: A folder with a file for each attempt; None: there are none.
        capture: Whether output is otherwise kept for failure events.
    """

    def __init__(self, *, log_dir: str | None, capture: bool) -> None:
        self._log_dir = log_dir
        self.capture = capture
        self._spare: list[int] = []

    def open(self, task_id: str, attempt: int) -> tuple[int | None, bool]:
        """Where an attempt prints to (None: where the worker does), and whether that file has a name."""
        if self._log_dir is not None:
            path = log_path(self._log_dir, task_id, attempt)
            try:
                return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o644), True
            except OSError as error:
                sys.stderr.write(f"cannot write the task's log {path}: {error.strerror}\n")
        return self.unnamed(), False

    def unnamed(self) -> int | None:
        """A capture, where that is wanted."""
        if not self.capture:
            return None
        return self._spare.pop() if self._spare else _unnamed_file()

    def give_back(self, output: int | None, is_named: bool) -> None:
        """The process that it was for has ended."""
        if output is None:
            return
        if is_named:
            os.close(output)
        else:
            os.ftruncate(output, 0)
            self._spare.append(output)

    def unname(self, output: int | None, is_named: bool) -> None:
        """What it was for has not begun, and will not: there is to be no file of it."""
        if output is not None and is_named:
            try:
                os.unlink(os.readlink(f"/proc/self/fd/{output}"))
            except OSError:
                return

    def bound(self, output: int | None, is_named: bool) -> None:
        """Empty it if it has become too long."""
        if output is not None and not is_named and os.fstat(output).st_size > _LIMIT:
            os.ftruncate(output, 0)


def tail_of(output: int) -> bytes:
    """The end of what was printed."""
    size = os.fstat(output).st_size
    return os.pread(output, _TAIL, max(0, size - _TAIL))


def take_output(*, is_wanted: bool) -> bytes:
    """Empty the file that is this process's standard output; returns its end where that is wanted."""
    try:
        if not os.fstat(1).st_size:
            return b""
        tail = tail_of(1) if is_wanted else b""
        os.ftruncate(1, 0)
    except OSError:
        # The function has made something else of it.
        return b""
    return tail


def _unnamed_file() -> int:
    import fcntl

    descriptor = nameless_file("cloud-tasks-output", in_memory=False)
    # What comes after a truncation starts at the beginning again.
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_APPEND)
    return descriptor
