"""A page of memory that the supervisor writes and every task process reads: what tasks are told while they run."""

from __future__ import annotations

import mmap
import os

from cloud_tasks.worker.common.memfd import nameless_file

__all__ = ["SharedFlags"]

_NOTICE, _SHUTDOWN = 0, 1


class SharedFlags:
    """Made before the first fork; costs a task nothing to look at.

    Args:
        descriptor: The unnamed file of another process's flags; None: new ones.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        if descriptor is None:
            descriptor = nameless_file("cloud-tasks-flags")
            os.ftruncate(descriptor, mmap.PAGESIZE)
        self.descriptor = descriptor
        self._page = mmap.mmap(descriptor, mmap.PAGESIZE)

    @property
    def termination_notice(self) -> bool:
        return self._page[_NOTICE] != 0

    @property
    def shutdown_request(self) -> bool:
        return self._page[_SHUTDOWN] != 0

    def set_termination_notice(self) -> None:
        self._page[_NOTICE] = 1

    def set_shutdown_request(self) -> None:
        self._page[_SHUTDOWN] = 1
