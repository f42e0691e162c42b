"""Circuit breaker: failures of the worker's own means in a row, without a task that ran in between.

Only failures of the worker's own means count: its output and scratch folders, the start of processes, its reports. How
a task's function ends (an exception, an exit code, a signal) never does: a program with an error fails every task on
every instance, and the controller compares instances.

Invariants, each with a test:

1. Failures at the same time are one failure, and after each the worker pauses, for longer each time. One task alone
   never opens the circuit: its interruptions are limited.
2. A task that ran closes the circuit.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["CircuitBreaker"]

_LIMIT = 10
"""Failures in a row after which the worker ends."""
_MIN_PAUSE, _MAX_PAUSE = 0.05, 1.0
"""Seconds: 10 failures in a row take about 7 seconds, in which other workers get the tasks."""
_MAX_CAUSES = 100
"""Number of different causes that are reported."""


class CircuitBreaker:
    """Counts failures in a row, and decides when the next attempt may be submitted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.failures = 0
        """Failures in a row."""
        self.cause = ""
        """Cause of the last failure; empty for none."""
        self._task_id: str | None = None
        self._is_counted = False
        """Whether a failure since the end of the last pause has been counted."""
        self._causes: set[str] = set()
        """All causes so far."""
        self.resume_at = 0.0
        """Time of the next submission (``clock``)."""

    @property
    def is_open(self) -> bool:
        """Whether the worker should end."""
        return self.failures >= _LIMIT

    def failed(self, cause: str, *, counts: bool = True, task_id: str | None = None) -> bool:
        """Count a failure and start a pause; return whether its cause is to be reported: the first time.

        Args:
            counts: False for a shortage that passes when a running task ends: the worker only pauses until then.
            task_id: The task, if it has run. A second failure of one task in a row does not count: it may be the task.
        """
        now = self._clock()
        self.cause = cause
        counts = counts and (task_id is None or task_id != self._task_id)
        self._task_id = task_id
        if now >= self.resume_at:
            self._is_counted = False
        if counts and not self._is_counted:
            self._is_counted = True
            self.failures += 1
            self.resume_at = now + min(_MAX_PAUSE, _MIN_PAUSE * 2**self.failures)
        elif now >= self.resume_at:
            self.resume_at = now + _MAX_PAUSE
        if cause in self._causes or len(self._causes) >= _MAX_CAUSES:
            return False
        self._causes.add(cause)
        return True

    def succeeded(self) -> None:
        """Note that a task ran."""
        if self.cause:
            self.failures, self.cause, self.resume_at = 0, "", 0.0
