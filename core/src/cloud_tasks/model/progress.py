"""Job progress as reported to event sinks."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime

import attrs

from cloud_tasks.model.money import Money
from cloud_tasks.model.task import FINAL_STATUSES, TaskStatus

__all__ = ["JobPhase", "JobProgress"]


class JobPhase(enum.Enum):
    """The phase of a run.

    Attributes:
        RUNNING: In progress.
        COMPLETE: Every task is in a terminal state.
        ABORTED: Stopped by an error that continuing cannot fix; the job can be resumed.
        STOPPED: Stopped by the user.
        LEFT: Stopped by the user, with its instances left running.
    """

    RUNNING = "running"
    COMPLETE = "complete"
    ABORTED = "aborted"
    STOPPED = "stopped"
    LEFT = "left"


@attrs.frozen(kw_only=True)
class JobProgress:
    """The progress of a job at one moment. Times are UTC."""

    job_id: str
    """Name of the job."""
    run_id: str
    """Unique for each new job; a resumed run keeps it."""
    now: datetime
    """Time of this report."""
    created_at: datetime
    """Time at which the job was loaded."""
    started_at: datetime
    """Start of the current run."""
    phase: JobPhase = JobPhase.RUNNING
    """Any other phase than ``RUNNING`` is in the last report of a run only."""
    reason: str = ""
    """Cause of an aborted run, in one line."""
    counts: Mapping[TaskStatus, int] = attrs.field(factory=dict)
    """Tasks by status, zero included."""
    instances: Mapping[str, int] = attrs.field(factory=dict)
    """Instances that run or were requested, by instance type."""
    price_per_hour: Money = Money.zero()
    """Price of these instances per hour."""
    cost: Money = Money.zero()
    """Cost of the job until now, including earlier runs."""
    expected_cost: Money | None = None
    """Projected total cost of the job; None if unknown."""
    max_total_cost: Money | None = None
    """Cost limit of the configuration; None without one."""

    @property
    def total(self) -> int:
        """Number of tasks."""
        return sum(self.counts.values())

    @property
    def finished(self) -> int:
        """Number of tasks in a terminal state."""
        return sum(self.counts.get(status, 0) for status in FINAL_STATUSES)

    @property
    def failed(self) -> int:
        """Number of tasks in a terminal state other than completed."""
        return self.finished - self.counts.get(TaskStatus.COMPLETED, 0)
