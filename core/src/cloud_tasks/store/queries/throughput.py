"""Throughput and projection of a job: tasks per hour, time left and projected total cost, from its summary.

Invariant, with a test: only the current run counts. Tasks that finished before it, and pauses between runs, change
neither the throughput nor the projection.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs

from cloud_tasks.model import Money, TaskStatus
from cloud_tasks.store.records import JobSummary

__all__ = ["Throughput", "projected_cost", "run_time", "throughput"]

_IDLE_LIMIT = timedelta(minutes=10)
"""Workers that were started by hand count as stopped after this time without a running or finished task."""


@attrs.frozen(kw_only=True)
class Throughput:
    """The throughput of a job and the time left."""

    tasks_per_hour: float
    remaining_time: timedelta
    """Time until the last task finishes, at this throughput."""
    end: datetime
    """The time at which it finishes, UTC."""

    def final_cost(self, accrued: Money, price_per_hour: Money) -> Money:
        """Return the projected total cost if the current instances stay until the end."""
        return accrued + price_per_hour * (self.remaining_time.total_seconds() / 3600)


def throughput(summary: JobSummary, now: datetime) -> Throughput | None:
    """Return the throughput of the current run; of a finished job, until its last task finished.

    Return None if it is unknown: no task has finished in this run, no worker is active, the clock was set back beyond
    the start of the run, or the end is beyond the range of `datetime`.

    Args:
        now: UTC.
    """
    start = summary.run_started_at or summary.first_start
    until = summary.last_end if summary.finished and summary.last_end is not None else now
    done = summary.finished_tasks - summary.finished_before
    if start is None or done <= 0 or until <= start or not (summary.finished or _has_workers(summary, now)):
        return None
    per_second = done / (until - start).total_seconds()
    try:
        left = timedelta(seconds=summary.remaining / per_second)
        return Throughput(tasks_per_hour=per_second * 3600, remaining_time=left, end=until + left)
    except OverflowError:
        return None


def run_time(summary: JobSummary, now: datetime) -> timedelta:
    """Return the duration of the current run: until now while a worker is active, else until its end.

    Args:
        now: UTC.
    """
    start = summary.run_started_at or summary.job.created_at
    until = now if not summary.finished and _has_workers(summary, now) else summary.job.finished_at or summary.last_end
    return max((until or start) - start, timedelta(0))


def projected_cost(
    summary: JobSummary, rate: Throughput | None, *, accrued: Money, price_per_hour: Money
) -> Money | None:
    """Return the projected total cost; of a finished job, its cost. None if the throughput is unknown."""
    if summary.finished:
        return accrued
    return None if rate is None else rate.final_cost(accrued, price_per_hour)


def _has_workers(summary: JobSummary, now: datetime) -> bool:
    """Return whether the job has an instance, or an active worker that was started by hand."""
    if summary.live_instances or summary.counts.get(TaskStatus.RUNNING):
        return True
    is_quiet = summary.last_end is not None and now - summary.last_end > _IDLE_LIMIT
    return summary.live_instances is None and not is_quiet
