"""Throughput and projection of a job: tasks per hour, time left and projected total cost, from its summary.

Invariants, each with a test:

1. Only the current run counts. Tasks that finished before it, and pauses between runs, change neither the throughput
   nor the projection.
2. A task counts at the time at which it finished, not when its event was collected: a backlog of events is no speed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs

from cloud_tasks.model import Money, TaskStatus
from cloud_tasks.store.queries.activity import Activity
from cloud_tasks.store.records import JobSummary

__all__ = ["Throughput", "projected_cost", "run_time", "throughput"]

_IDLE_LIMIT = timedelta(minutes=10)
"""Workers that were started by hand count as stopped after this time without a running or finished task."""


_WINDOW = timedelta(minutes=10)
_WINDOW_TASKS = 100


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


def throughput(summary: JobSummary, now: datetime, *, activity: Activity | None = None) -> Throughput | None:
    """Return the throughput of the current run; of a finished job, until its last task finished.

    Return None if it is unknown: no task has finished in this run, no worker is active, the clock was set back beyond
    the start of the run, no controller is at work, or the end is beyond the range of `datetime`.

    Args:
        now: UTC.
        activity: Activity on the job; None in its controller.
    """
    start = summary.run_started_at or summary.first_start
    until = summary.last_end if summary.finished and summary.last_end is not None else now
    done = summary.finished_tasks - summary.finished_before
    if activity is not None and not activity.has_rate:
        return None
    if start is None or done <= 0 or until <= start or not (summary.finished or _has_workers(summary, now)):
        return None
    if not summary.finished:
        done, start = _latest(summary, done, start, until)
    per_second = done / (until - start).total_seconds()
    try:
        left = timedelta(seconds=summary.remaining / per_second)
        return Throughput(tasks_per_hour=per_second * 3600, remaining_time=left, end=until + left)
    except OverflowError:
        return None


def _latest(summary: JobSummary, done: int, start: datetime, now: datetime) -> tuple[int, datetime]:
    """Return a number of finished tasks and the time since when they finished: enough to estimate the present speed.

    That is the latest `_WINDOW`, or the time of the latest `_WINDOW_TASKS` if it is longer; else the whole run.
    """
    count = 0
    for begin, finished in reversed(summary.recent_ends):
        if begin > now:
            continue
        count += finished
        if count >= _WINDOW_TASKS and now - begin >= _WINDOW and begin > start:
            return count, begin
    return done, start


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
