"""The records that the store takes and returns: frozen classes about one job. Times are UTC."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from cloud_tasks.escape import without_credentials
from cloud_tasks.model import (
    FINAL_STATUSES,
    AttemptOutcome,
    EventType,
    InstanceState,
    Money,
    ProvisioningModel,
    TaskStatus,
)

__all__ = [
    "Applied",
    "AttemptRecord",
    "BrokenWorker",
    "CostBreakdown",
    "ElapsedStatistics",
    "Failure",
    "InstanceRecord",
    "JobRecord",
    "JobState",
    "JobStatistics",
    "JobSummary",
    "TypeCost",
]


class JobState(enum.Enum):
    """The state of a whole job; tasks have statuses of their own."""

    LOADING = "loading"
    """Tasks loaded, queues not created yet: they may contain messages of an earlier job until the job is resumed."""
    RUNNING = "running"
    """A run is in progress, or was interrupted and can be resumed."""
    FINISHED = "finished"
    """Every task is in a terminal state and every instance is terminated."""


def _name_of_event_queue(job: JobRecord) -> str:
    return f"{job.queue_name}-events"


@attrs.frozen(kw_only=True)
class JobRecord:
    """The identity of a job and the configuration of its latest run, without secrets."""

    job_id: str
    queue_name: str
    """Full name of its task queue."""
    run_id: str
    """Unique for each new job; a resumed run keeps it."""
    created_at: datetime
    provider: str = ""
    queue: str = ""
    """Name of the queue backend; likewise ``compute`` and ``pricing``."""
    compute: str = ""
    pricing: str = ""
    task_source: str = attrs.field(default="", converter=without_credentials)
    """As the user wrote it: a file, a URL without credentials, ``module:function``."""
    tool_version: str = ""
    """Version of cloud-tasks."""
    config: Mapping[str, Any] = attrs.field(factory=dict)
    """The merged configuration, without secrets; JSON types only."""
    place: Mapping[str, str] = attrs.field(factory=dict)
    """What decides where its queues and instances are, by key; empty if it was not recorded."""
    state: JobState = JobState.LOADING
    finished_at: datetime | None = None
    """None unless ``state`` is ``FINISHED``."""
    event_queue_name: str = attrs.Factory(_name_of_event_queue, takes_self=True)
    """Full name of its event queue."""
    former_queues: tuple[str, ...] = ()
    """Full names of queues that it or an earlier job replaced, and that may still exist."""


@attrs.frozen(kw_only=True)
class Applied:
    """The result of applying a batch of events, as numbers of events."""

    new: int = 0
    """Events with a new id; all others are duplicates."""
    duplicate: int = 0
    """Events whose id was known; they changed nothing."""
    late: int = 0
    """New events that did not change their task: it is in a terminal state, or a newer attempt is running."""
    unknown_task: int = 0
    """New events of a task that the job does not have."""
    dead_letters: int = 0
    """Events whose type, task or attempt cannot be used."""


@attrs.frozen(kw_only=True)
class AttemptRecord:
    """One execution of an attempt. An interrupted attempt is executed again under its number: another record."""

    attempt: int
    """1 for the first attempt of the task."""
    outcome: AttemptOutcome | None
    """None while it is running."""
    started_at: datetime | None
    """None if the start event has not arrived."""
    ended_at: datetime | None
    """None while it is running."""
    elapsed_time: float | None
    """Seconds; None if unknown."""
    hostname: str
    instance_id: str | None
    """None for a worker that was started by hand."""
    reason: str
    """``ValueError: bad input``, ``exit code 3``, the cause of the interruption; empty for a success."""


@attrs.frozen(kw_only=True)
class ElapsedStatistics:
    """Elapsed time in seconds of the attempts that completed their task."""

    count: int
    """Completed tasks with a known elapsed time."""
    minimum: float
    maximum: float
    mean: float
    deviation: float
    """Standard deviation of the population; 0 for a single task."""
    median: float
    percentile_90: float
    percentile_95: float
    exact: bool
    """Whether the three percentiles are exact, or within 1% (quantile sketch); the other values are always exact."""


@attrs.frozen(kw_only=True)
class JobSummary:
    """The status of a job, from counters that are maintained as events arrive."""

    job: JobRecord
    total: int
    """Tasks of the job."""
    counts: Mapping[TaskStatus, int]
    """Tasks by status, zero included."""
    events: Mapping[EventType, int]
    """Events by type, zero included, without duplicates."""
    attempts: int = 0
    """Attempts that started, interrupted ones included."""
    losses: int = 0
    """Interrupted attempts."""
    retries: int = 0
    """Attempts beyond the first, after a failure or at the task's request."""
    duplicates: int = 0
    """Duplicate events."""
    late: int = 0
    """Late events (`Applied.late`)."""
    unknown_task: int = 0
    """Events of unknown tasks."""
    dead_letters: int = 0
    """Messages of the event queue, and events in them, that could not be used."""
    elapsed: ElapsedStatistics | None = None
    """None until the first task completes; percentiles from the quantile sketch."""
    first_start: datetime | None = None
    """Start of the first attempt."""
    last_end: datetime | None = None
    """Time at which the latest task reached a terminal state."""
    run_started_at: datetime | None = None
    """Start of the current or latest run; None in a database of a version that did not record it."""
    run_ended_at: datetime | None = None
    """End of the latest run; None while it runs, and if its controller was killed."""
    last_alive: datetime | None = None
    """Latest time at which a controller was certainly at work: its own record, or an event that it applied."""
    recent_ends: tuple[tuple[datetime, int], ...] = ()
    """Start of each of the latest intervals of the current run in which tasks finished, with their number."""
    finished_before: int = 0
    """Tasks that finished before that start, also if their events arrived later."""
    live_instances: int | None = None
    """Instances that run or were requested; None if the job never launched one (workers started by hand)."""

    @property
    def finished_tasks(self) -> int:
        """Tasks in a terminal state."""
        return sum(self.counts[status] for status in FINAL_STATUSES)

    @property
    def failed(self) -> int:
        """Tasks in a terminal state other than completed."""
        return self.finished_tasks - self.counts[TaskStatus.COMPLETED]

    @property
    def remaining(self) -> int:
        """Unfinished tasks."""
        return self.total - self.finished_tasks

    @property
    def finished(self) -> bool:
        """Whether every task is in a terminal state."""
        return self.remaining == 0


@attrs.frozen(kw_only=True)
class TypeCost:
    """The cost of the instances of one type and provisioning model (spot or on-demand)."""

    instance_type: str
    provisioning_model: ProvisioningModel
    instances: int
    """Launches, terminated ones included."""
    hours: float
    """Uptime of all of them together."""
    cost: Money


@attrs.frozen(kw_only=True)
class CostBreakdown:
    """The cost of the instances by what their slots did; the shares add up to it."""

    work: Money
    """Attempts that completed their task, or are running."""
    lost: Money
    """Interrupted attempts: preempted, instance failed, released."""
    failed: Money
    """Attempts that failed or requested a retry."""
    idle: Money
    """Slots without a task, including start and shutdown of the instance."""


@attrs.frozen(kw_only=True)
class Failure:
    """The attempts that ended alike, without success, and one example: the latest."""

    outcome: AttemptOutcome
    summary: str
    """Reason of the example: ``ValueError: bad input``, ``exit code 3: the last line of its output``."""
    count: int
    """Number of attempts."""
    identical: bool = True
    """Whether all of them have exactly this reason."""
    task_id: str = ""
    """Task of the example."""
    stack_trace: str = ""
    log_tail: str = ""
    """Last output of the example."""

    @property
    def last_line(self) -> str:
        """The last line that the example printed; empty for none."""
        return last_line(self.log_tail)


def last_line(output: str) -> str:
    """Return the last line of a task's output that is not blank."""
    return next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "")


@attrs.frozen(kw_only=True)
class BrokenWorker:
    """A worker that failed what others completed, or that an error of its own ended."""

    name: str
    """Instance id; host name of a worker that was started by hand."""
    reason: str


@attrs.frozen(kw_only=True)
class JobStatistics:
    """The exact statistics of the final report, from a scan of the tasks."""

    summary: JobSummary
    elapsed: ElapsedStatistics | None
    """None if no task completed."""
    failures: tuple[Failure, ...] = ()
    """Unsuccessful attempts by reason, the most frequent first, interruptions last; at most 100 groups."""
    failure_kinds: int = 0
    """Number of all groups."""
    failed_task: str | None = None
    """The first task that failed; None if there is none."""
    spot_terminations: tuple[str, ...] = ()
    """Hosts that received a spot interruption notice."""
    cost: Money
    """Total cost of the instances."""
    costs: tuple[TypeCost, ...]
    """The same by instance type, the most expensive first."""
    instances: int
    """Instances that were launched."""
    cost_breakdown: CostBreakdown | None = None
    """The same by what the slots did."""
    broken_workers: tuple[BrokenWorker, ...] = ()
    """Workers that failed what others completed, or that an error of their own ended; at most 20."""

    def failures_of(self, *outcomes: AttemptOutcome) -> tuple[Failure, ...]:
        """Return the groups of attempts that ended so."""
        return tuple(failure for failure in self.failures if failure.outcome in outcomes)


@attrs.frozen(kw_only=True)
class InstanceRecord:
    """One launch, from its intent to its termination, with the values that its worker reported."""

    client_token: str
    """Identifies the launch request."""
    instance_id: str | None
    """None if the launch has not been answered, or failed."""
    instance_type: str
    zone: str
    provisioning_model: ProvisioningModel
    boot_disk_type: str
    boot_disk_gb: float
    vcpus: int
    slots: int
    """Tasks that it runs at a time."""
    price_per_hour: Money
    intended_at: datetime
    """Time of the launch request."""
    launched_at: datetime | None
    """Time at which the provider was called; None while the launch has not been answered."""
    ended_at: datetime | None
    """Time of its termination; for a failed launch, that of the request."""
    rebate: Money = Money.zero()
    """Difference between uptime times price and its cost: its price was lower before."""
    end_reason: str = ""
    deadline: datetime | None = None
    """Time at which the instance ends itself, also without a controller; None: never."""
    ends_by: datetime | None = None
    """Time by which it has certainly done so; None: unknown, or disproved by a later listing."""
    state: InstanceState | None = None
    """From the answer to the launch, then from the latest listing; None while the launch has not been answered."""
    pending_until: datetime | None = None
    """Latest time at which it was pending, or the start that the provider names: it is booked from then. None for an
    instance that is booked from its launch."""
    started_at: datetime | None = None
    """Time by which it had started, if it was pending or the provider names its start; None: not yet, or unknown."""
    reason: str = ""
    """Why it is pending, as the provider names it."""
    hostname: str = ""
    last_heartbeat: datetime | None = None
    """Last heartbeat: time of the latest event of its worker."""
    last_busy: datetime | None = None
    """Time of the latest event that shows it with a task."""
    running_tasks: int = 0
    """Attempts in progress."""
    tasks_finished: int = 0
    """Tasks that reached a terminal state on it."""
    tasks_completed: int = 0
    spot_terminated_at: datetime | None = None
    """Time of its first spot interruption notice."""

    @property
    def is_pending(self) -> bool:
        """Whether it waits for its start, as far as listings and events show."""
        has_started = self.started_at is not None or self.last_heartbeat is not None
        return self.state is InstanceState.PENDING and self.ended_at is None and not has_started

    @property
    def shown_state(self) -> str:
        """The state as tables show it: a launch without an answer is starting; a pending one has its reason."""
        state = (self.state or InstanceState.STARTING).value
        return f"{state} ({self.reason})" if self.reason and self.is_pending else state

    @property
    def began_at(self) -> datetime:
        """Time from which start-up, age and lifetime count."""
        return self.started_at or self.pending_until or self.launched_at or self.intended_at

    @property
    def current_deadline(self) -> datetime | None:
        """The deadline as far as the start is known: events may show a start before a listing does."""
        if self.deadline is None or self.pending_until is None or self.started_at is not None:
            return self.deadline
        return self.deadline + (self.pending_until - self.intended_at)
