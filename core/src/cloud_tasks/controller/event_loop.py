"""The loop that the controller lives in: one thread that owns all state, others that make the blocking calls.

Invariant, with a test: every callback (a result, a timer, a post) runs on the loop's own thread, one at a time, so the
controller and its store need no lock. The simulated cloud has another loop with the same face and a virtual clock.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

__all__ = ["Loop", "ThreadedLoop"]

_T = TypeVar("_T")


class Loop(Protocol):
    """Time, timers and blocking calls. All methods but `post` are called on the loop's thread."""

    def now(self) -> datetime:
        """UTC."""

    def call(self, work: Callable[[], _T], then: Callable[[_T], None], failed: Callable[[Exception], None]) -> None:
        """Run ``work`` elsewhere; ``then`` or ``failed`` runs on the loop when it is over."""

    def later(self, delay: timedelta, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the loop after ``delay``."""

    def post(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the loop soon. May be called from any thread and from a signal handler."""

    def run(self, done: Callable[[], bool]) -> None:
        """Run callbacks until ``done()`` is true; an exception of a callback ends the loop and is raised here."""


class ThreadedLoop:
    """The loop of real life.

    Args:
        threads: How many blocking calls may be under way at once.
    """

    def __init__(self, *, threads: int) -> None:
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="controller-io")
        # SimpleQueue.put is reentrant: safe in a signal handler that interrupts a get.
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._timers: list[tuple[datetime, int, Callable[[], None]]] = []
        self._sequence = itertools.count()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def call(self, work: Callable[[], _T], then: Callable[[_T], None], failed: Callable[[Exception], None]) -> None:
        def run() -> None:
            try:
                result = work()
            except Exception as error:
                # Bound now: the name is deleted when the except clause ends.
                self.post(lambda error=error: failed(error))  # type: ignore[misc]
            except BaseException as error:
                self.post(functools.partial(_raise, error))
            else:
                self.post(lambda: then(result))

        self._threads.submit(run)

    def later(self, delay: timedelta, callback: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (self.now() + delay, next(self._sequence), callback))

    def post(self, callback: Callable[[], None]) -> None:
        self._posted.put(callback)

    def run(self, done: Callable[[], bool]) -> None:
        while not done():
            now = self.now()
            if self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()
                continue
            wait = (self._timers[0][0] - now).total_seconds() if self._timers else 3600.0
            try:
                callback = self._posted.get(timeout=max(wait, 0.0))
            except queue.Empty:
                continue
            callback()

    def close(self) -> None:
        """Wait for the calls under way; their results are dropped."""
        self._threads.shutdown(wait=True, cancel_futures=True)


def _raise(error: BaseException) -> None:
    """Raise what no callback handles, ``SystemExit`` in a client library for one: it ends the loop."""
    raise error
