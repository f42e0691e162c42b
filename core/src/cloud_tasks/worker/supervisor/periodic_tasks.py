"""Periodic work of a supervisor: heartbeats, progress in the log, and checks of memory, lifetime and idleness."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.supervisor.settings import SupervisorSettings

__all__ = ["Activity", "PeriodicTasks"]

_MEMORY_INTERVAL = 0.2
"""Seconds between two checks of the memory of tasks, where it is limited."""


class Activity(NamedTuple):
    """Current activity of a supervisor."""

    is_accepting: bool
    """Whether new tasks are started."""
    is_busy: bool
    """Whether attempts or their reports are still to be dealt with."""
    running: int
    finished: int
    """Attempts since the start."""
    expected: int | None
    """Tasks in all; None: unknown."""


class _Report(Protocol):
    def __call__(self, kind: str, **facts: Any) -> None: ...


class PeriodicTasks:
    """Repeats its work from `start` until the supervisor's loop ends.

    Args:
        later: Call a function after so many seconds.
        observe: Return the current activity.
        report: Report an event.
        watch_memory: End the attempts that use more than so many GB.
        stop: Shut down for a reason.
    """

    def __init__(
        self,
        settings: SupervisorSettings,
        *,
        later: Callable[[float, Callable[[], None]], None],
        observe: Callable[[], Activity],
        report: _Report,
        watch_memory: Callable[[float], None],
        stop: Callable[[str], None],
        log: Log,
    ) -> None:
        self._settings = settings
        self._later = later
        self._observe = observe
        self._report = report
        self._end_above = watch_memory
        self._stop = stop
        self._log = log
        self._finished_before = 0
        self._idle_since = time.monotonic()

    def start(self) -> None:
        """Schedule what the settings ask for."""
        settings, later = self._settings, self._later
        if settings.keepalive_interval > 0:
            later(settings.keepalive_interval, self._keep_alive)
        if settings.progress_interval > 0:
            later(settings.progress_interval, self._log_progress)
        if settings.memory_gb is not None:
            later(_MEMORY_INTERVAL, self._watch_memory)
        if settings.max_lifetime is not None:
            reason = f"its maximum lifetime of {settings.max_lifetime:g} seconds is over"
            later(settings.max_lifetime, lambda: self._stop(reason))
        if settings.idle_limit is not None:
            later(settings.idle_limit, self._check_idle)

    def became_idle(self) -> None:
        """Count idleness from now: nothing runs any more."""
        self._idle_since = time.monotonic()

    def _keep_alive(self) -> None:
        activity, load = self._observe(), os.getloadavg()[0]
        slots, running, finished = self._settings.slots, activity.running, activity.finished
        self._report("keep_alive", running_tasks=running, slots=slots, load=load, finished=finished)
        self._later(self._settings.keepalive_interval, self._keep_alive)

    def _log_progress(self) -> None:
        """Log the rate and, where the number of tasks is known, the remaining time."""
        self._later(self._settings.progress_interval, self._log_progress)
        activity, before = self._observe(), self._finished_before
        done = self._finished_before = activity.finished
        if done == before and not activity.running:
            return
        rate = (done - before) / self._settings.progress_interval
        text = f"{done} tasks attempted, {activity.running} running, {rate:.1f} per second"
        if activity.expected is not None and rate > 0:
            left = max(0, activity.expected - done)
            text += f"; {left} to go, about {_duration(left / rate)}"
        self._log.info(text)

    def _watch_memory(self) -> None:
        limit = self._settings.memory_gb
        assert limit is not None
        self._end_above(limit)
        self._later(_MEMORY_INTERVAL, self._watch_memory)

    def _check_idle(self) -> None:
        limit, activity = self._settings.idle_limit, self._observe()
        if limit is None or not activity.is_accepting:
            return
        idle = 0.0 if activity.is_busy else time.monotonic() - self._idle_since
        if idle >= limit:
            self._stop(f"there was no task for {limit:g} seconds")
        else:
            self._later(max(0.05, limit - idle), self._check_idle)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {rest}s" if minutes else f"{rest}s"
