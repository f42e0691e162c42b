"""What a supervisor does every so many seconds: signs of life, the log's progress, the looks at memory and idleness."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from cloud_tasks.worker.settings import SupervisorSettings

if TYPE_CHECKING:
    from cloud_tasks.worker.supervisor import Supervisor

__all__ = ["Pulse"]

_MEMORY_INTERVAL = 0.2
"""Seconds between two looks at the memory of tasks, where it is limited."""


class Pulse:
    """Beats from its start until the supervisor's loop ends."""

    def __init__(self, supervisor: Supervisor, settings: SupervisorSettings) -> None:
        self._supervisor = supervisor
        self._settings = settings
        self._finished_before = 0
        self._idle_since = time.monotonic()

    def start(self) -> None:
        settings, later = self._settings, self._supervisor.timers.later
        if settings.keepalive_interval > 0:
            later(settings.keepalive_interval, self._keep_alive)
        if settings.progress_interval > 0:
            later(settings.progress_interval, self._log_progress)
        if settings.memory_gb is not None:
            later(_MEMORY_INTERVAL, self._watch_memory)
        if settings.max_lifetime is not None:
            reason = f"its maximum lifetime of {settings.max_lifetime:g} seconds is over"
            later(settings.max_lifetime, lambda: self._supervisor.stop(reason))
        if settings.idle_limit is not None:
            later(settings.idle_limit, self._check_idle)

    def became_idle(self) -> None:
        """Nothing runs any more."""
        self._idle_since = time.monotonic()

    def _keep_alive(self) -> None:
        supervisor = self._supervisor
        supervisor.report(
            "keep_alive",
            running_tasks=len(supervisor.attempts.running),
            slots=self._settings.slots,
            load=os.getloadavg()[0],
            finished=supervisor.finished,
        )
        supervisor.timers.later(self._settings.keepalive_interval, self._keep_alive)

    def _log_progress(self) -> None:
        """Say how fast it goes, and, where the number of tasks is known, how long it will take."""
        supervisor = self._supervisor
        supervisor.timers.later(self._settings.progress_interval, self._log_progress)
        done, before, running = supervisor.finished, self._finished_before, len(supervisor.attempts.running)
        self._finished_before = done
        if done == before and not running:
            return
        rate = (done - before) / self._settings.progress_interval
        text = f"{done} tasks attempted, {running} running, {rate:.1f} per second"
        expected = supervisor.feed.expected
        if expected is not None and rate > 0:
            left = max(0, expected - done)
            text += f"; {left} to go, about {_duration(left / rate)}"
        supervisor.log.info(text)

    def _watch_memory(self) -> None:
        limit = self._settings.memory_gb
        assert limit is not None
        self._supervisor.attempts.watch_memory(limit)
        self._supervisor.timers.later(_MEMORY_INTERVAL, self._watch_memory)

    def _check_idle(self) -> None:
        limit, supervisor = self._settings.idle_limit, self._supervisor
        if limit is None or not supervisor.is_accepting:
            return
        reporter = supervisor.reporter
        busy = supervisor.attempts.count or reporter.is_clogged or reporter.problem
        idle = 0.0 if busy else time.monotonic() - self._idle_since
        if idle >= limit:
            supervisor.stop(f"there was no task for {limit:g} seconds")
        else:
            supervisor.timers.later(max(0.05, limit - idle), self._check_idle)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {rest}s" if minutes else f"{rest}s"
