"""The one projection of a job: rate, remaining time and cost at the end, from its maintained figures.

Invariant, with a test: only the current run counts. Tasks that ended before it began, and pauses between runs, change
neither the rate nor what follows from it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs

from cloud_tasks.model import Money, TaskStatus
from cloud_tasks.store.records import JobSummary

__all__ = ["Throughput", "projected_cost", "run_time", "throughput"]

_IDLE_LIMIT = timedelta(minutes=10)
"""Workers without instances of the job, none of which runs or has finished a task for this long, are taken for gone."""


@attrs.frozen(kw_only=True)
class Throughput:
    """The speed of a job, and what follows from it."""

    tasks_per_hour: float
    remaining_time: timedelta
    """Until the last task has ended, at this speed."""
    end: datetime
    """UTC."""

    def final_cost(self, accrued: Money, price_per_hour: Money) -> Money:
        """Return the cost of the whole job, should the present instances stay until the end."""
        return accrued + price_per_hour * (self.remaining_time.total_seconds() / 3600)


def throughput(summary: JobSummary, now: datetime) -> Throughput | None:
    """Return the pace of the current run.

    Of a finished job it is measured until the last task ended. None where it is unknown: no task has ended in this run,
    nothing works on the job, the clock was set back to before the run, or the end is too far away to be a date.

    Args:
        now: UTC.
    """
    begin = summary.run_started_at or summary.first_start
    until = summary.last_end if summary.finished and summary.last_end is not None else now
    done = summary.finished_tasks - summary.finished_before
    if begin is None or done <= 0 or until <= begin or not (summary.finished or _has_workers(summary, now)):
        return None
    per_second = done / (until - begin).total_seconds()
    try:
        left = timedelta(seconds=summary.remaining / per_second)
        return Throughput(tasks_per_hour=per_second * 3600, remaining_time=left, end=until + left)
    except OverflowError:
        return None


def run_time(summary: JobSummary, now: datetime) -> timedelta:
    """Return how long the current run has taken: until now while anything works on the job, else until its end.

    Args:
        now: UTC.
    """
    begin = summary.run_started_at or summary.job.created_at
    until = now if not summary.finished and _has_workers(summary, now) else summary.job.finished_at or summary.last_end
    return max((until or begin) - begin, timedelta(0))


def projected_cost(
    summary: JobSummary, rate: Throughput | None, *, accrued: Money, price_per_hour: Money
) -> Money | None:
    """Return the expected cost of the whole job: what it has cost, once it is finished; None where it is unknown."""
    if summary.finished:
        return accrued
    return None if rate is None else rate.final_cost(accrued, price_per_hour)


def _has_workers(summary: JobSummary, now: datetime) -> bool:
    """Return whether anything works on the job: an instance, or workers that were started by hand."""
    if summary.live_instances or summary.counts.get(TaskStatus.RUNNING):
        return True
    is_quiet = summary.last_end is not None and now - summary.last_end > _IDLE_LIMIT
    return summary.live_instances is None and not is_quiet
