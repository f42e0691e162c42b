"""Flags in shared memory that the supervisor sets and all task processes read.

A task process that cannot report an attempt leaves the system's error here: the memory stays, whichever descriptors the
task has closed.
"""

from __future__ import annotations

import mmap
import os

from cloud_tasks.worker.common.memfd import guarded_file

__all__ = ["SharedFlags"]

_NOTICE, _SHUTDOWN = 0, 1
_ERRORS = 64
"""Offset of the error numbers, one byte for each slot as far as the page has room."""


class SharedFlags:
    """Flags of one worker, created before the first fork; reading one needs no system call.

    Args:
        descriptor: File of flags that another process has created; None to create new ones.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        if descriptor is None:
            descriptor = guarded_file("cloud-tasks-flags")
            os.ftruncate(descriptor, mmap.PAGESIZE)
        self.descriptor = descriptor
        self._page = mmap.mmap(descriptor, mmap.PAGESIZE)

    @property
    def termination_notice(self) -> bool:
        """Whether the provider will reclaim this instance."""
        return self._page[_NOTICE] != 0

    @property
    def shutdown_request(self) -> bool:
        """Whether the worker is shutting down."""
        return self._page[_SHUTDOWN] != 0

    def set_termination_notice(self) -> None:
        self._page[_NOTICE] = 1

    def set_shutdown_request(self) -> None:
        self._page[_SHUTDOWN] = 1

    def set_report_error(self, slot: int, number: int) -> None:
        """Record the error number because of which the attempt in a slot has no report."""
        if _ERRORS + slot < mmap.PAGESIZE:
            self._page[_ERRORS + slot] = number & 0xFF

    def take_report_error(self, slot: int | None) -> int:
        """Return and forget that error number; 0 for none."""
        if slot is None or _ERRORS + slot >= mmap.PAGESIZE:
            return 0
        number = self._page[_ERRORS + slot]
        self._page[_ERRORS + slot] = 0
        return number
