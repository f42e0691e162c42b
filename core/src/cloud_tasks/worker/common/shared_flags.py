"""Flags in shared memory that the supervisor sets and all task processes read.

A task process that cannot report an attempt leaves the system's error in a second file: the memory stays, whichever
descriptors the task has closed.

Invariant, with a test: no task can truncate the memory, set a flag, or change the error of another attempt by accident.
"""

from __future__ import annotations

import mmap
import os
import sys

from cloud_tasks.worker.common.memfd import guarded_file, read_only, seal

__all__ = ["SharedFlags"]

_NOTICE, _SHUTDOWN = 0, 1
_ERROR_BYTES = 1 << 16
_ENTRY = 8
"""Bytes of the entry of a slot in the file of errors: the error number, then the number of the attempt."""
_NO_ENTRY = bytes(_ENTRY)


class SharedFlags:
    """Flags of one worker, created before the first fork; reading one needs no system call.

    Args:
        descriptors: Files of flags that another process has created; None to create new ones.
    """

    def __init__(self, descriptors: tuple[int, int] | None = None) -> None:
        if descriptors is None:
            notices, errors = (guarded_file(f"cloud-tasks-{name}", is_sealable=True) for name in ("flags", "errors"))
            os.ftruncate(notices, mmap.PAGESIZE)
            os.ftruncate(errors, _ERROR_BYTES)
            self._page = mmap.mmap(notices, mmap.PAGESIZE)
        else:
            notices, errors = descriptors
            self._page = mmap.mmap(notices, mmap.PAGESIZE, access=mmap.ACCESS_READ)
        self.descriptors = notices, errors
        self._errors = mmap.mmap(errors, _ERROR_BYTES)

    def make_read_only(self) -> None:
        """Fix the size of the files; give up the right to set flags, in this process and those that it forks."""
        notices, errors = self.descriptors
        seal(notices, is_read_only=True)
        seal(errors, is_read_only=False)
        self.descriptors = read_only(notices), errors
        self._page.close()
        self._page = mmap.mmap(self.descriptors[0], mmap.PAGESIZE, access=mmap.ACCESS_READ)

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

    def set_report_error(self, slot: int, attempt: int, number: int) -> None:
        """Record the error number because of which an attempt in a slot has no report, if there is room for the slot.

        Args:
            attempt: Number of the attempt.
        """
        start = slot * _ENTRY
        if start < _ERROR_BYTES:
            entry = number.to_bytes(2, sys.byteorder) + attempt.to_bytes(_ENTRY - 2, sys.byteorder)
            self._errors[start : start + _ENTRY] = entry

    def take_report_error(self, slot: int | None, attempt: int) -> int:
        """Return and forget that error number; 0 for none."""
        start = _ERROR_BYTES if slot is None else slot * _ENTRY
        if start >= _ERROR_BYTES:
            return 0
        entry = self._errors[start : start + _ENTRY]
        self._errors[start : start + _ENTRY] = _NO_ENTRY
        is_of_attempt = int.from_bytes(entry[2:], sys.byteorder) == attempt
        return int.from_bytes(entry[:2], sys.byteorder) if is_of_attempt else 0
