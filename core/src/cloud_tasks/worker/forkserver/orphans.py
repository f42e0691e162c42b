"""Orphans: processes that a finished task left behind. The fork server is their subreaper and kills them.

Invariant, with a test: once a task process has exited, all processes that it started are killed.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from time import monotonic

from cloud_tasks.worker.common import process_tree

__all__ = ["Orphans"]

_INTERVAL = 0.05
"""Minimum seconds between two checks."""
_COST_FACTOR = 100
"""Minimum ratio of that interval to the duration of a check, which is long with thousands of processes."""


class Orphans:
    """Times of the checks for orphans, and the children that are spared."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._helpers: set[int] = set()
        """Children that `worker_init` started for tasks to use."""
        self._last = 0.0
        self._cost = 0.0
        self.due_at = float("inf")
        """Time of the next check (`time.monotonic`)."""

    def spare_present(self) -> None:
        """Spare all present children."""
        self._helpers = set(process_tree.children_of(self._pid))

    def helper_ended(self, pid: int) -> None:
        """Forget a helper: another process may get its pid."""
        self._helpers.discard(pid)

    def expect(self, now: float) -> None:
        """Schedule a check after the end of a task."""
        if self.due_at == float("inf"):
            self.due_at = max(now, self._last + max(_INTERVAL, _COST_FACTOR * self._cost))

    def none_left(self) -> None:
        """Cancel the check, for lack of children."""
        self.due_at = float("inf")

    def kill(self, tasks: Collection[int]) -> None:
        """Kill the children that are neither task processes nor helpers; schedule another check for their own orphans.

        Args:
            tasks: The pids of task processes.
        """
        start = monotonic()
        orphans = [pid for pid in process_tree.children_of(self._pid) if pid not in tasks and pid not in self._helpers]
        for pid in orphans:
            process_tree.kill(pid)
        self._last = monotonic()
        self._cost = self._last - start
        self.due_at = self._last + self._cost if orphans else float("inf")
