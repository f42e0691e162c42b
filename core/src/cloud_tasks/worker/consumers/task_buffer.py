"""Buffer of tasks that were fetched from the queue and not submitted yet.

Invariants, each with a test:

1. Every access holds the lock: the receiving thread adds, the supervisor's thread takes.
2. A closed buffer accepts no task; the caller releases those that arrive after `close`.
3. A task whose lease expired is never returned by `get`.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence

from cloud_tasks.worker.consumers.attempt_types import PendingAttempt

__all__ = ["TaskBuffer", "prefetch_target"]

_PREFETCH_SECONDS, _BILLED_PREFETCH_SECONDS = 0.5, 1.0
_MAX_PREFETCH = 512
_MIN_TASK_SECONDS = 1e-4


def prefetch_target(mean_seconds: float | None, slots: int, *, is_billed: bool = False) -> int:
    """Return how many tasks to hold besides the running ones: enough for half a second, at most 512.

    Args:
        mean_seconds: Duration of a task; None if it is unknown: nothing is prefetched.
        is_billed: Whether requests cost money: enough for a second, for fewer of them.
    """
    if mean_seconds is None:
        return 0
    seconds = _BILLED_PREFETCH_SECONDS if is_billed else _PREFETCH_SECONDS
    return min(_MAX_PREFETCH, int(slots * seconds / max(mean_seconds, _MIN_TASK_SECONDS)))


class TaskBuffer:
    """Due tasks in order of arrival, and tasks that are not due, by their time."""

    def __init__(self) -> None:
        self._ready: deque[PendingAttempt] = deque()
        self._held: list[tuple[float, int, PendingAttempt]] = []
        self._order = itertools.count()
        self._lock = threading.Lock()
        self._is_closed = False

    def __len__(self) -> int:
        """Number of tasks that were due when they were added or last counted by `take_surplus`."""
        with self._lock:
            return len(self._ready)

    def add(self, attempts: Sequence[PendingAttempt]) -> bool:
        """Add due tasks; return False if the buffer is closed."""
        with self._lock:
            if not self._is_closed:
                self._ready.extend(attempts)
            return not self._is_closed

    def hold(self, work: PendingAttempt, seconds: float) -> bool:
        """Hold a task for so many seconds; return False if the buffer is closed."""
        with self._lock:
            if not self._is_closed:
                heapq.heappush(self._held, (time.monotonic() + seconds, next(self._order), work))
            return not self._is_closed

    def get(self) -> PendingAttempt | None:
        """Return the next due task, formerly held ones first; None for none."""
        with self._lock:
            now = time.monotonic() if self._held else 0.0
            while self._held and self._held[0][0] <= now:
                work = heapq.heappop(self._held)[2]
                if not work.lease_lost:
                    return work
            while self._ready:
                work = self._ready.popleft()
                if not work.lease_lost:
                    return work
        return None

    @property
    def due_at(self) -> float | None:
        """Time at which a held task is due (`time.monotonic`); None for no such task."""
        with self._lock:
            return self._held[0][0] if self._held else None

    def promote_due(self) -> int:
        """Move held tasks that are due to the due ones; return the number of due tasks."""
        with self._lock:
            now = time.monotonic()
            while self._held and self._held[0][0] <= now:
                self._ready.append(heapq.heappop(self._held)[2])
            return len(self._ready)

    def take_surplus(self, keep: int) -> list[PendingAttempt]:
        """Remove and return the last due tasks beyond ``keep``."""
        with self._lock:
            return [self._ready.pop() for _ in range(max(0, len(self._ready) - keep))]

    def mark_lost(self, lease_ids: Collection[str]) -> None:
        """Mark the tasks of expired leases."""
        with self._lock:
            for work in [*self._ready, *(work for _, _, work in self._held)]:
                if work.lease_id in lease_ids:
                    work.lease_lost = True

    def close(self) -> list[PendingAttempt]:
        """Accept no more tasks; remove and return all."""
        with self._lock:
            self._is_closed = True
            left = [*self._ready, *(work for _, _, work in self._held)]
            self._ready.clear()
            self._held.clear()
        return left
