"""What the store takes and gives: frozen facts about one job."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from cloud_tasks.model import (
    FINAL_STATUSES,
    AttemptOutcome,
    EventType,
    InstanceState,
    Money,
    Purchase,
    TaskStatus,
)

__all__ = [
    "Applied",
    "AttemptRecord",
    "CostBreakdown",
    "ElapsedStatistics",
    "InstanceRecord",
    "JobRecord",
    "JobState",
    "JobStatistics",
    "JobSummary",
    "TypeCost",
]


class JobState(enum.Enum):
    """Where a job stands as a whole; tasks have statuses of their own."""

    LOADING = "loading"
    """Its tasks are loaded, its queues are not new yet: they may hold messages of an earlier job. Resuming the job
    replaces them."""
    RUNNING = "running"
    FINISHED = "finished"
    """Every task is in a final state and the instances are gone."""


@attrs.frozen(kw_only=True)
class JobRecord:
    """Which job a database belongs to, and how it was started. Holds no secret."""

    job_id: str
    queue_name: str
    run_id: str
    """Unique for each ``run``; a resumed run keeps it."""
    created_at: datetime
    """UTC."""
    provider: str = ""
    queue: str = ""
    compute: str = ""
    pricing: str = ""
    task_source: str = ""
    """What the user wrote: a file, a URL, ``module:function``."""
    tool_version: str = ""
    config: Mapping[str, Any] = attrs.field(factory=dict)
    """The merged configuration, without its secrets; JSON types only."""
    state: JobState = JobState.LOADING
    finished_at: datetime | None = None


@attrs.frozen(kw_only=True)
class Applied:
    """What became of a batch of events. ``new`` and ``duplicate`` are all of them; the others are among the new."""

    new: int = 0
    duplicate: int = 0
    late: int = 0
    """Kept in the history, but too late to change their task: it is final, or a newer attempt is under way."""
    unknown_task: int = 0
    """Kept, but about a task that this job does not have."""


@attrs.frozen(kw_only=True)
class AttemptRecord:
    """One run of one attempt of a task. An attempt that was lost is run again under the same number: another record."""

    attempt: int
    outcome: AttemptOutcome | None
    """None while it runs, as far as is known."""
    started_at: datetime | None
    ended_at: datetime | None
    elapsed_time: float | None
    """Seconds."""
    hostname: str
    instance_id: str | None
    reason: str
    """``ValueError: bad input``, ``exit code 3``, why it was lost; empty where there is nothing to say."""


@attrs.frozen(kw_only=True)
class ElapsedStatistics:
    """Seconds that completed tasks took in the attempt that completed them."""

    count: int
    minimum: float
    maximum: float
    mean: float
    deviation: float
    """Of the population; 0 for a single task."""
    median: float
    percentile_90: float
    percentile_95: float
    exact: bool
    """False: the three percentiles are within 1 % (a maintained sketch); the other values are always exact."""


@attrs.frozen(kw_only=True)
class JobSummary:
    """Where a job stands; every figure is maintained as events arrive, none is counted on request."""

    job: JobRecord
    total: int
    counts: Mapping[TaskStatus, int]
    """Every status, zero included."""
    events: Mapping[EventType, int]
    """Every type, zero included; duplicates are not counted."""
    attempts: int = 0
    """Attempts that began, lost ones included."""
    losses: int = 0
    retries: int = 0
    """Attempts beyond the first that tasks were given, for their failures or at their request."""
    duplicates: int = 0
    late: int = 0
    unknown_task: int = 0
    dead_letters: int = 0
    """Messages of the event queue that could not be decoded."""
    elapsed: ElapsedStatistics | None = None
    """None before the first task has completed; percentiles from the sketch."""
    first_start: datetime | None = None
    last_end: datetime | None = None
    """When the latest task ended for good."""
    run_started_at: datetime | None = None
    """When the current or latest run of the job began; None in a database of a version that did not record it."""
    finished_before: int = 0
    """Tasks that had ended by then, those included whose events were only read afterwards."""
    live_instances: int | None = None
    """Instances that exist or were requested; None where the job never had one: its workers are started by hand."""

    @property
    def finished_tasks(self) -> int:
        """Tasks in a final status."""
        return sum(self.counts[status] for status in FINAL_STATUSES)

    @property
    def remaining(self) -> int:
        """Tasks without a final status."""
        return self.total - self.finished_tasks

    @property
    def finished(self) -> bool:
        """Whether every task is in a final status."""
        return self.remaining == 0


@attrs.frozen(kw_only=True)
class TypeCost:
    """What the instances of one type, bought one way, have cost."""

    instance_type: str
    purchase: Purchase
    instances: int
    hours: float
    cost: Money


@attrs.frozen(kw_only=True)
class CostBreakdown:
    """What the money went into; the shares add up to the cost of the instances."""

    work: Money
    """Attempts that completed their task, or still run."""
    lost: Money
    """Attempts that ended with their instance: preempted, crashed, given back."""
    failed: Money
    """Attempts that failed or asked to be run again."""
    idle: Money
    """Slots without a task, starting and ending included."""


@attrs.frozen(kw_only=True)
class JobStatistics:
    """The figures of the final report: exact, at the price of a scan."""

    summary: JobSummary
    elapsed: ElapsedStatistics | None
    """None when no task completed."""
    exceptions: tuple[tuple[str, int], ...]
    """``Type: message`` with how many attempts ended so; the most frequent first."""
    exception_kinds: int
    """How many different ones there are; may be more than are listed."""
    spot_terminations: tuple[str, ...]
    """Hosts that were told that they would be taken away."""
    cost: Money
    costs: tuple[TypeCost, ...]
    instances: int
    """Instances that were launched."""
    shares: CostBreakdown | None = None
    """What ``cost`` went into."""


@attrs.frozen(kw_only=True)
class InstanceRecord:
    """One launch of this job, from its intent to its end, with what its worker told."""

    client_token: str
    instance_id: str | None
    """None: the launch has not been answered, or failed."""
    instance_type: str
    zone: str
    purchase: Purchase
    boot_disk_type: str
    boot_disk_gb: float
    vcpus: int
    slots: int
    price_per_hour: Money
    intended_at: datetime
    launched_at: datetime | None
    """When the provider created it; None for an intent without an answer."""
    ended_at: datetime | None
    """Also set for a launch that failed."""
    end_reason: str = ""
    state: InstanceState | None = None
    """As answered by the launch, then as last listed; None while the launch has not been answered."""
    hostname: str = ""
    last_heard: datetime | None = None
    """When its worker last sent an event."""
    last_busy: datetime | None = None
    """When it last had a task, as far as events told."""
    running_tasks: int = 0
    tasks_finished: int = 0
    """Tasks that reached a final status on it."""
    tasks_completed: int = 0
    spot_terminated_at: datetime | None = None
