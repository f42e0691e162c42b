"""Result files: anonymous files in which a task process leaves a report too long for a message."""

from __future__ import annotations

import mmap
import os

__all__ = ["read_result_file"]


def read_result_file(descriptor: int) -> bytes:
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
