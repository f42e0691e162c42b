"""Orphans: processes that a finished task left behind. The fork server is their subreaper and kills them.

Invariant, with a test: once a task process has exited, all processes that it started are killed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection

from cloud_tasks.worker.common import process_tree

__all__ = ["Orphans"]

_INTERVAL = 0.05
"""Minimum seconds between two scans."""
_COST_FACTOR = 100
"""Minimum ratio of that interval to the duration of a scan, which is long with thousands of processes."""


class Orphans:
    """Times of the scans, and the children that no scan kills."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._helpers: set[int] = set()
        """Children that `worker_init` started for tasks to use."""
        self._last = 0.0
        self._cost = 0.0
        self.due_at = float("inf")
        """Time of the next scan (`time.monotonic`)."""

    def spare_present(self) -> None:
        """Spare all present children."""
        self._helpers = set(process_tree.children_of(self._pid))

    def helper_ended(self, pid: int) -> None:
        """Forget a helper: another process may get its pid."""
        self._helpers.discard(pid)

    def expect(self, now: float) -> None:
        """Schedule a scan after the end of a task."""
        if self.due_at == float("inf"):
            self.due_at = max(now, self._last + max(_INTERVAL, _COST_FACTOR * self._cost))

    def none_left(self) -> None:
        """Cancel the scan, for lack of children."""
        self.due_at = float("inf")

    def scan(self, tasks: Collection[int]) -> None:
        """Kill the children that are neither task processes nor helpers; schedule another scan for their own orphans.

        Args:
            tasks: The pids of task processes.
        """
        start = time.monotonic()
        orphans = [pid for pid in process_tree.children_of(self._pid) if pid not in tasks and pid not in self._helpers]
        for pid in orphans:
            process_tree.kill(pid)
        self._last = time.monotonic()
        self._cost = self._last - start
        self.due_at = self._last + self._cost if orphans else float("inf")
