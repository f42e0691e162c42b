"""Timeline of a fake cloud: scheduled actions run in one thread, and a test may advance the time."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

__all__ = ["Timeline"]


class Timeline:
    """Scheduler that runs due callbacks one after the other; none may take long."""

    def __init__(self) -> None:
        self._skew = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._condition = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="cloud-timeline", daemon=True)
        self._thread.start()

    def now(self) -> float:
        """Return Unix time plus all advances."""
        return time.time() + self._skew

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        with self._condition:
            heapq.heappush(self._due, (self.now() + seconds, next(self._numbers), callback))
            self._condition.notify()

    def advance(self, seconds: float) -> None:
        """Advance the time immediately."""
        with self._condition:
            self._skew += seconds
            self._condition.notify()

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._closed and (not self._due or self._due[0][0] > self.now()):
                    self._condition.wait(max(0.001, self._due[0][0] - self.now()) if self._due else None)
                if self._closed:
                    return
                _, _, callback = heapq.heappop(self._due)
            callback()
