"""Periodic tasks of a supervisor: heartbeats, progress log, checks of memory, room, lifetime and idleness."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from cloud_tasks.worker.common.formatting import counted, format_duration
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.common.os_errors import full_folder
from cloud_tasks.worker.supervisor.settings import SupervisorSettings

__all__ = ["Activity", "PeriodicTasks"]

_ROOM_INTERVAL = 10.0
"""Seconds between two checks of the room for the output of tasks."""
_MEMORY_INTERVAL = 0.2
"""Seconds between two checks of the memory of tasks, where it is limited."""


class Activity(NamedTuple):
    """Current activity of a supervisor."""

    is_accepting: bool
    """Whether new tasks are started."""
    is_busy: bool
    """Whether attempts are unfinished or reports are unsent."""
    running: int
    """Number of running attempts."""
    finished: int
    """Number of attempts that have ended since the start."""
    expected: int | None
    """Total number of tasks; None if it is unknown."""


class _Report(Protocol):
    def __call__(self, kind: str, **fields: Any) -> None: ...


class PeriodicTasks:
    """Runs each task at its interval, from `start` until the supervisor's loop ends.

    Args:
        later: Calls a function after so many seconds.
        observe: Returns the current activity.
        report: Reports an event.
        watch_memory: Ends the attempts that use more than so many GB.
        stop: Shuts the worker down for a reason.
        drain: Likewise, after the running attempts have finished.
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
        drain: Callable[[str], None],
        log: Log,
    ) -> None:
        self._settings = settings
        self._later = later
        self._observe = observe
        self._report = report
        self._end_above = watch_memory
        self._stop = stop
        self._drain = drain
        self._log = log
        self._finished_before = 0
        self._idle_since = time.monotonic()

    def start(self) -> None:
        """Schedule the tasks that the settings enable."""
        settings, later = self._settings, self._later
        if settings.keepalive_interval > 0:
            later(settings.keepalive_interval, self._keep_alive)
        if settings.progress_interval > 0:
            later(settings.progress_interval, self._log_progress)
        if settings.memory_gb is not None:
            later(_MEMORY_INTERVAL, self._watch_memory)
        if settings.folders:
            later(_ROOM_INTERVAL, self._check_room)
        if settings.max_lifetime is not None:
            reason = f"maximum lifetime of {format_duration(settings.max_lifetime)} exceeded (max_lifetime)"
            later(max(0.0, settings.max_lifetime - settings.age), lambda: self._stop(reason))
        if settings.drain_after is not None:
            later(max(0.0, settings.drain_after - settings.age), lambda: self._drain("the instance ends soon"))
        if settings.idle_limit is not None:
            later(settings.idle_limit, self._check_idle)

    def became_idle(self) -> None:
        """Measure the idle time from now on: no attempt is left."""
        self._idle_since = time.monotonic()

    def _keep_alive(self) -> None:
        activity, load = self._observe(), os.getloadavg()[0]
        slots, running, finished = self._settings.slots, activity.running, activity.finished
        self._report("keep_alive", running_tasks=running, slots=slots, load=load, finished=finished)
        self._later(self._settings.keepalive_interval, self._keep_alive)

    def _log_progress(self) -> None:
        """Log the rate and, if the number of tasks is known, the remaining time."""
        self._later(self._settings.progress_interval, self._log_progress)
        activity, before = self._observe(), self._finished_before
        finished = self._finished_before = activity.finished
        if finished == before and not activity.running:
            return
        rate = (finished - before) / self._settings.progress_interval
        text = f"{counted(finished, 'task')} finished, {activity.running:,} running, {rate:,.1f} tasks/s"
        if activity.expected is not None and rate > 0:
            left = max(0, activity.expected - finished)
            text += f"; {counted(left, 'task')} left, about {format_duration(left / rate)}"
        self._log.info(text)

    def _watch_memory(self) -> None:
        limit = self._settings.memory_gb
        assert limit is not None
        self._end_above(limit)
        self._later(_MEMORY_INTERVAL, self._watch_memory)

    def _check_room(self) -> None:
        """Warn once of a file system that takes no more output of tasks."""
        problem = full_folder(self._settings.folders)
        if not problem:
            self._later(_ROOM_INTERVAL, self._check_room)
            return
        self._log.warning(f"The output of tasks may be lost: {problem}")
        self._report("non_fatal_exception", exception=f"the output of tasks may be lost: {problem}")

    def _check_idle(self) -> None:
        limit, activity = self._settings.idle_limit, self._observe()
        if limit is None or not activity.is_accepting:
            return
        idle = 0.0 if activity.is_busy else time.monotonic() - self._idle_since
        if idle >= limit:
            self._stop(f"no task for {format_duration(limit)} (idle_limit)")
        else:
            self._later(max(0.05, limit - idle), self._check_idle)
