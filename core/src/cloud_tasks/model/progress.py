"""How a job stands, as those are told who watch it from outside."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime

import attrs

from cloud_tasks.model.money import Money
from cloud_tasks.model.task import FINAL_STATUSES, TaskStatus

__all__ = ["JobPhase", "JobProgress"]


class JobPhase(enum.Enum):
    """Where one run of a job is."""

    RUNNING = "running"
    COMPLETE = "complete"
    """Every task is in a final state."""
    ABORTED = "aborted"
    """Going on was pointless; the job can be continued."""
    STOPPED = "stopped"
    """The user ended the run."""
    LEFT = "left"
    """The user ended the run and left its instances running."""


@attrs.frozen(kw_only=True)
class JobProgress:
    """How a job stands at one moment. Times are UTC."""

    job_id: str
    run_id: str
    """Unique for each fresh ``run``; one that continues keeps it."""
    now: datetime
    created_at: datetime
    """When the job was loaded."""
    started_at: datetime
    """When this run of it began."""
    phase: JobPhase = JobPhase.RUNNING
    """Anything but ``RUNNING`` is the last that is told of this run."""
    reason: str = ""
    """Why it was aborted, in one line."""
    counts: Mapping[TaskStatus, int] = attrs.field(factory=dict)
    """Tasks of every status, zero included."""
    instances: Mapping[str, int] = attrs.field(factory=dict)
    """Instances that exist or were asked for, by instance type."""
    price_per_hour: Money = Money.zero()
    """Of these instances."""
    cost: Money = Money.zero()
    """Of the job until now, earlier runs included."""
    expected_cost: Money | None = None
    """Of the whole job, should it go on as it does; None as long as nothing can be said."""
    max_total_cost: Money | None = None
    """The limit that the user set."""

    @property
    def total(self) -> int:
        """How many tasks there are."""
        return sum(self.counts.values())

    @property
    def finished(self) -> int:
        """Tasks in a final status."""
        return sum(self.counts.get(status, 0) for status in FINAL_STATUSES)

    @property
    def failed(self) -> int:
        """Tasks in a final status other than completed."""
        return self.finished - self.counts.get(TaskStatus.COMPLETED, 0)
