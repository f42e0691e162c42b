"""How fast a job goes, and when it will end if it goes on like this."""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs

from cloud_tasks.model import Money
from cloud_tasks.store import JobSummary

__all__ = ["Pace", "pace"]


@attrs.frozen(kw_only=True)
class Pace:
    """The speed of a job, and what follows from it."""

    tasks_per_hour: float
    remaining_time: timedelta
    """Until the last task has ended, at this speed."""
    end: datetime
    """UTC."""

    def final_cost(self, accrued: Money, price_per_hour: Money) -> Money:
        """What the job will have cost, should the fleet of now stay until the end."""
        return accrued + price_per_hour * (self.remaining_time.total_seconds() / 3600)


def pace(summary: JobSummary, now: datetime, *, since: datetime | None = None, finished_before: int = 0) -> Pace | None:
    """The pace of a job; None before a task has ended, or when the end is too far away to be a date.

    Args:
        now: UTC.
        since: Where the measured time begins; None: when the first task started. A run that continues a job gives its
            own beginning, or the pause would count as slowness.
        finished_before: Tasks that had ended by then.
    """
    begin = since or summary.first_start
    done = summary.finished_tasks - finished_before
    if begin is None or done <= 0 or now <= begin:
        return None
    per_second = done / (now - begin).total_seconds()
    try:
        left = timedelta(seconds=summary.remaining / per_second)
        return Pace(tasks_per_hour=per_second * 3600, remaining_time=left, end=now + left)
    except OverflowError:
        return None
