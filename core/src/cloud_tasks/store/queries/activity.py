"""Activity on a job: whether a process maintains its database, and since when.

Invariants, each with a test:

1. A job is shown as running only while a process holds the writer lock of its database.
2. A time in the future, as a worker's wrong clock reports it, is never shown.
"""

from __future__ import annotations

import enum
from datetime import datetime
from pathlib import Path

import attrs

from cloud_tasks.store.db.writer_lock import writer_of
from cloud_tasks.store.records import JobState, JobSummary

__all__ = ["Activity", "ActivityState", "read_activity"]


class ActivityState(enum.Enum):
    """State of a job and of its controller."""

    LOADING = "loading"
    """Its setup is in progress, or was interrupted if no process is at work."""
    RUNNING = "running"
    """A process has its database open for writing: `run`, `monitor` or another command."""
    FINISHED = "finished"
    """Every task is in a terminal state and every instance is terminated."""
    STOPPED = "stopped"
    """The latest run ended in order, without instances, before all tasks were finished."""
    NO_CONTROLLER = "no_controller"
    """No process collects its events: the controller was killed, or left instances running."""


@attrs.frozen(kw_only=True)
class Activity:
    """State of a job and its controller at one moment."""

    state: ActivityState
    since: datetime | None
    """UTC. Start of the run, end of the job, or the time at which a controller was last seen."""
    pid: int | None = None
    """Process that has the database open for writing; 0 if it is unknown, None for none."""

    @property
    def has_rate(self) -> bool:
        """Whether rate and remaining time are meaningful: results are being counted, or all have been."""
        return self.state in (ActivityState.RUNNING, ActivityState.FINISHED)


def read_activity(path: Path, summary: JobSummary, now: datetime) -> Activity:
    """Return the activity on the job of a database.

    Args:
        now: UTC.
    """
    job, pid = summary.job, writer_of(path)
    if job.state is JobState.FINISHED:
        return Activity(state=ActivityState.FINISHED, since=_past(now, job.finished_at, summary.last_end), pid=pid)
    if job.state is JobState.LOADING and summary.run_started_at is None and summary.first_start is None:
        return Activity(state=ActivityState.LOADING, since=_past(now, job.created_at), pid=pid)
    if pid is not None:
        since = _past(now, summary.run_started_at, job.created_at)
        return Activity(state=ActivityState.RUNNING, since=since, pid=pid)
    if summary.run_ended_at is not None and summary.live_instances == 0:
        return Activity(state=ActivityState.STOPPED, since=_past(now, summary.run_ended_at))
    seen = [moment for moment in (summary.run_ended_at, summary.last_alive, summary.run_started_at) if moment]
    return Activity(
        state=ActivityState.NO_CONTROLLER, since=_past(now, max(seen, default=None), summary.last_end, job.created_at)
    )


def _past(now: datetime, *moments: datetime | None) -> datetime | None:
    """Return the first known moment that is not in the future."""
    return next((moment for moment in moments if moment is not None and moment <= now), None)
