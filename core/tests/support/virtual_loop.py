"""`VirtualLoop`: the controller's loop under a virtual clock, for tests and simulations.

Invariants, each with a test:

1. Time passes only between callbacks, and never backwards.
2. The same program runs the same callbacks in the same order: nothing depends on threads or on the wall clock.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

__all__ = ["START", "VirtualLoop"]

_T = TypeVar("_T")

START = datetime(2026, 1, 1, tzinfo=UTC)
"""Start of virtual time."""


class VirtualLoop:
    """Loop that runs callbacks in the order of their virtual times.

    Args:
        latency: Return the duration of the next blocking call.
        after_step: Called after each callback, to check invariants.
    """

    def __init__(
        self,
        *,
        start: datetime = START,
        latency: Callable[[], timedelta] = lambda: timedelta(milliseconds=10),
        after_step: Callable[[], None] = lambda: None,
    ) -> None:
        self._now = start
        self._latency = latency
        self._after_step = after_step
        self._events: list[tuple[datetime, int, Callable[[], None]]] = []
        self._sequence = itertools.count()
        self._charged = timedelta(0)

    def now(self) -> datetime:
        return self._now

    def call(self, work: Callable[[], _T], then: Callable[[_T], None], failed: Callable[[Exception], None]) -> None:
        """Run ``work`` at once; its result arrives after the latency plus the time that it charged."""
        self._charged = timedelta(0)
        try:
            result = work()
        except Exception as error:
            self._at(self._latency() + self._charged, lambda error=error: failed(error))  # type: ignore[misc]
        else:
            self._at(self._latency() + self._charged, lambda: then(result))

    def charge(self, span: timedelta) -> None:
        """Extend the current call; called by fakes, such as an empty queue that waits."""
        self._charged += span

    def later(self, delay: timedelta, callback: Callable[[], None]) -> None:
        self._at(max(delay, timedelta(0)), callback)

    def post(self, callback: Callable[[], None]) -> None:
        self._at(timedelta(0), callback)

    def _at(self, delay: timedelta, callback: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + delay, next(self._sequence), callback))

    def sleep(self, span: timedelta) -> None:
        """Let time pass as on a machine that is asleep: callbacks that are due meanwhile run afterwards, in order."""
        self._now = wake = self._now + span
        events = sorted(self._events, key=lambda event: event[:2])
        self._events = [(max(due, wake), next(self._sequence), callback) for due, _, callback in events]

    def step(self) -> bool:
        """Run the next callback; return False if there is none."""
        if not self._events:
            return False
        self._now, _, callback = heapq.heappop(self._events)
        callback()
        self._after_step()
        return True

    def run(self, done: Callable[[], bool]) -> None:
        """Run until ``done()``; raise `RuntimeError` if no callback is left before."""
        while not done():
            if not self.step():
                raise RuntimeError("no callback is left, and the run is not done")

    def run_for(self, span: timedelta) -> None:
        """Run all callbacks that are due within ``span``."""
        end = self._now + span
        while self._events and self._events[0][0] <= end:
            self.step()
        self._now = end
