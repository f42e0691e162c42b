"""Result files: anonymous files in which a task process leaves a report too long for a message.

Invariant, with a test: of a file that is no report, whatever its length, only the header is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from cloud_tasks.worker.common.memfd import release
from cloud_tasks.worker.task_process.report_format import HEADER_LENGTH, report_size
from cloud_tasks.worker.task_process.runner import own_failure_report

__all__ = ["receive_result"]


def receive_result(take_descriptor: Callable[[], int]) -> bytes:
    """Return the report in a received result file; if it cannot be read, a report of that failure."""
    try:
        return _read(take_descriptor())
    except OSError as error:
        return own_failure_report("cannot read the result", error)


def _read(descriptor: int) -> bytes:
    """Return the content of a result file, its header if that is damaged, and close it."""
    try:
        header = os.pread(descriptor, HEADER_LENGTH, 0)
        size = os.fstat(descriptor).st_size
        if size != report_size(header):
            return header
        parts = []
        while size > 0 and (part := os.pread(descriptor, size, -size + report_size(header))):
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        release(descriptor)
