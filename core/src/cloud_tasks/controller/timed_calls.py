"""Blocking calls of one kind that are given up after a time; the late answer of a call is dropped.

Invariants, each with a test:

1. The caller waits no longer than the time limit.
2. Only a few calls that were given up are open at a time, since each occupies a thread: until one of them returns,
   further calls fail at once.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from cloud_tasks.controller.event_loop import Loop, Pause
from cloud_tasks.errors import ProviderError
from cloud_tasks.quantities import format_span

__all__ = ["CallTimeoutError", "TimedCalls"]

_T = TypeVar("_T")


class CallTimeoutError(ProviderError):
    """A call was given up; it may still take effect."""

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=True)


class TimedCalls:
    """Blocking calls with a time limit.

    Args:
        max_abandoned: Maximum number of open calls that were given up.
    """

    def __init__(self, loop: Loop, *, timeout: timedelta, max_abandoned: int) -> None:
        self._loop = loop
        self._timeout = timeout
        self._max_abandoned = max_abandoned
        self._abandoned = 0

    def call(self, work: Callable[[], _T]) -> Pause[_T]:
        """Return an awaitable of ``work``, run in another thread; it raises what ``work`` raises.

        Raises:
            CallTimeoutError: ``work`` takes too long, or too many earlier calls do.
        """
        return Pause(lambda then, failed: self._begin(work, then, failed))

    def _begin(self, work: Callable[[], _T], then: Callable[[_T], None], failed: Callable[[Exception], None]) -> None:
        if self._abandoned >= self._max_abandoned:
            error = CallTimeoutError(f"{self._abandoned} earlier calls have not been answered")
            self._loop.later(timedelta(0), lambda: failed(error))
            return
        is_waiting = True

        def is_in_time() -> bool:
            nonlocal is_waiting
            was_waiting, is_waiting = is_waiting, False
            if not was_waiting:
                self._abandoned -= 1
            return was_waiting

        def give_up() -> None:
            nonlocal is_waiting
            if is_waiting:
                is_waiting = False
                self._abandoned += 1
                failed(CallTimeoutError(f"no answer within {format_span(self._timeout)}"))

        self._loop.call(
            work,
            lambda result: then(result) if is_in_time() else None,
            lambda error: failed(error) if is_in_time() else None,
        )
        self._loop.later(self._timeout, give_up)
