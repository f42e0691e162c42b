"""What is to be done later, in the supervisor's loop."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable

__all__ = ["Timers"]


class Timers:
    """Actions and when they are due (`time.monotonic`)."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), action))

    @property
    def due_at(self) -> float:
        """When the first is due; infinite if there is none."""
        return self._due[0][0] if self._due else float("inf")

    def run(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()
