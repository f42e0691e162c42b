"""Result files: anonymous files in which a task process leaves a report too long for a message."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable

from cloud_tasks.worker.task_process.runner import own_failure_report

__all__ = ["receive_result"]


def receive_result(take_descriptor: Callable[[], int]) -> bytes:
    """Return the report in a received result file; if it cannot be read, a report of that failure."""
    try:
        return _read(take_descriptor())
    except OSError as error:
        return own_failure_report("cannot read the result", error)


def _read(descriptor: int) -> bytes:
    """Return the content of a result file and close it."""
    try:
        size = os.fstat(descriptor).st_size
        if not size:
            return b""
        with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as content:
            return content[:]
    finally:
        # Processes forked meanwhile have inherited the file: without this it would occupy memory until they exit.
        os.ftruncate(descriptor, 0)
        os.close(descriptor)
