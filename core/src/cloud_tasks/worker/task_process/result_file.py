"""Result files: anonymous files in which a task process leaves the report of an attempt.

The fork server opens the file, so that a result of any size needs no reader. Where our own code fails, the report that
says so takes the place of the result. Every task process has this module in memory, so its imports are light.

Invariants, each with a test:

1. What a task does to its process, its streams or its limits is no failure of our own means.
2. Of a file that is no report, whatever its kind and length, only the header is read.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from os import SEEK_CUR, ftruncate, lseek, pwrite, write

from cloud_tasks.worker.common.memfd import GUARDED_OFFSETS, anonymous_file, guard_offset, release
from cloud_tasks.worker.common.shared_flags import SharedFlags
from cloud_tasks.worker.task_process.exception_report import describe, own_failure, report_problem
from cloud_tasks.worker.task_process.report_format import HEADER_LENGTH, encode_report, report_size

__all__ = [
    "REACHED",
    "SMALL_RESULT",
    "open_result_file",
    "own_failure_report",
    "print_failure",
    "receive_result",
    "report_again",
    "report_own_failure",
    "write_all",
]

SMALL_RESULT = 32 * 1024
"""Bytes up to which a report is part of the message about the attempt's end."""
REACHED = b"\1"
"""Content of the result file of a fresh interpreter from the time at which the program has reached its worker."""
_NAME = "cloud-tasks-result"
_IS_IN_MEMORY = hasattr(os, "memfd_create")
"""Whether result files are in memory, where each byte that was written has a block."""
_BLOCK = 512


def open_result_file() -> int:
    """Return the descriptor of a new result file."""
    descriptor = anonymous_file(_NAME)
    guard_offset(descriptor)
    return descriptor


def write_all(descriptor: int, content: bytes) -> None:
    """Write a report, even if the task has limited the size of its files."""
    written = 0
    while written < len(content):
        try:
            written += pwrite(descriptor, memoryview(content)[written:], written)
        except OSError as error:
            if error.errno != errno.EFBIG or not _lift_file_size_limit():
                raise


def _lift_file_size_limit() -> bool:
    """Lift the limit that the task has set to the size of its files; return False if there is none to be lifted."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (resource.RLIM_INFINITY, hard):
        if soft != limit:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                return True
    return False


def report_again(result: int, report: bytes, error: BaseException, flags: SharedFlags, slot: int, attempt: int) -> None:
    """Report a result, or why that is impossible, after a first attempt; do nothing for a complete report (-1).

    Args:
        flags: Take the error number if even that is impossible.
        slot: Slot of the attempt.
        attempt: Number of the attempt.
    """
    what = "cannot report the result"
    if result == -1:
        print_failure("cannot end the process", error)
        return
    with contextlib.suppress(OSError):
        if report and lseek(result, 0, SEEK_CUR) in GUARDED_OFFSETS:
            write_all(result, report)
            return
    print_failure(what, error)
    if not _rewrite(result, encode_report(report_problem(what, error), b"")):
        flags.set_report_error(slot, attempt, getattr(error, "errno", None) or errno.EBADF)


def report_own_failure(result: int, what: str, error: BaseException) -> None:
    """Print, and report in the result file, that our own code could not run an attempt."""
    print_failure(what, error)
    _rewrite(result, own_failure_report(what, error))


def own_failure_report(what: str, error: BaseException) -> bytes:
    """Return the report of an attempt that our own code could not run."""
    return encode_report(own_failure(what, error), b"")


def _rewrite(result: int, report: bytes) -> bool:
    """Replace the report; return False if that is impossible."""
    try:
        if lseek(result, 0, SEEK_CUR) not in GUARDED_OFFSETS:
            return False
        # An empty file would mean that a fresh interpreter has not reached its worker.
        ftruncate(result, len(REACHED))
        write_all(result, report)
    except OSError:
        return False
    return True


def print_failure(what: str, error: BaseException) -> None:
    """Print that our own code failed, with the error."""
    try:
        write(2, f"{what}: {describe(error)}\n".encode("utf-8", "replace"))
    except OSError:
        return


def receive_result(take_descriptor: Callable[[], int]) -> bytes:
    """Return the report in a received result file; if it cannot be received or read, a report of that failure."""
    try:
        return _read(take_descriptor())
    except (OSError, MemoryError) as error:
        return own_failure_report("cannot read the result", error)


def _read(descriptor: int) -> bytes:
    """Return the content of a result file, its header if that is damaged, and close it.

    A task may have sent the descriptor of another file, or have extended this one without writing to it.
    """
    try:
        found = os.fstat(descriptor)
        size = found.st_size
        try:
            header = os.pread(descriptor, HEADER_LENGTH, 0)
        except OSError:
            return bytes(HEADER_LENGTH)
        if size != report_size(header) or (_IS_IN_MEMORY and found.st_blocks * _BLOCK < size):
            return header
        parts = []
        while size > 0 and (part := os.pread(descriptor, size, -size + report_size(header))):
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        release(descriptor)
