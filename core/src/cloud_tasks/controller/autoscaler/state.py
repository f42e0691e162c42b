"""State that a decision is made from: policy, fleet, refused scopes, and the observation of a reconciliation pass."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import attrs

from cloud_tasks.controller.autoscaler.failed_instances import FailedInstances
from cloud_tasks.errors import RefusalScope
from cloud_tasks.model import InstanceState, Limits, Money, Offer
from cloud_tasks.selection import RankedOffer, drain_after

__all__ = [
    "Block",
    "FleetInstance",
    "InstanceEnds",
    "LaunchFailures",
    "Observation",
    "Policy",
]


@attrs.frozen(kw_only=True)
class Policy:
    """Settings of a job that its decisions follow."""

    limits: Limits
    startup_timeout: timedelta | None = timedelta(seconds=600)
    """Time limit for the first heartbeat of an instance; None: no limit."""
    keepalive_timeout: timedelta | None = timedelta(seconds=300)
    """Maximum time between two heartbeats; None: no limit."""
    termination_delay: timedelta = timedelta(seconds=60)
    """Time for which an instance is surplus and idle before it is terminated."""
    listing_lag: timedelta = timedelta(0)
    """Maximum time for which a listing may not show a launched instance."""
    max_lifetime: timedelta | None = None
    """Maximum lifetime of a new instance; None: no limit."""
    max_runtime: timedelta = timedelta(hours=1)
    """Time limit for one attempt of a task."""
    max_runtime_is_given: bool = False
    """Whether the user set it; the default is longer than most tasks take."""
    deadline_grace: timedelta = timedelta(0)
    """Time after its deadline at which the controller terminates an instance."""
    intent_timeout: timedelta = timedelta(minutes=3)
    """Time after which a launch of unknown outcome, missing from complete listings, counts as failed. Where listings
    do not lag, the first complete listing after the launch decides."""
    requeue_after_empty: timedelta = timedelta(minutes=2)
    """Time for which the queue is exactly empty before unfinished tasks are re-enqueued."""
    requeue_after_idle: timedelta = timedelta(minutes=10)
    """Time for which all workers are idle before unfinished tasks are re-enqueued, where the queue reports no exact
    depth."""
    max_failed_starts: int = 3
    """Number of instances without any heartbeat after which the startup script is taken to be broken."""
    give_up_after: timedelta | None = timedelta(minutes=15)
    """Time for which every launch is refused for causes that only a person can remove, with no instance left, after
    which the run is aborted; None: no limit."""
    max_instances_without_progress: int = 10
    """Number of instances that end, one after another, before any task finishes, after which the run is aborted."""
    max_preempted_without_progress: int = 20
    """Number of spot instances that are preempted, one after another, before any task finishes, after which the run is
    aborted."""
    max_failed_workers: int = 3
    """Number of instances whose worker ends with an error, one after another, before any task finishes, after which
    the run is aborted."""
    max_failed_launches: int = 3
    """Number of consecutive failed launches, with no instance left, after which the run is aborted."""
    max_pending: int | None = None
    """Number of instances that may be pending at a time; None: no limit."""
    max_discarded_instances: int = 5
    """Number of instances of a run that are terminated because they fail what others complete."""
    canary: bool = False
    """Whether one instance has to complete a task before others are launched."""
    provider_chooses: bool = False
    """Whether the provider selects among offers that are about as good as the best."""
    spot_fallback: bool = False
    """Whether on-demand instances may be launched while every spot offer is refused."""

    def drain_after(self, lifetime: timedelta) -> timedelta:
        """Return the age at which the worker of an instance takes no more tasks."""
        return drain_after(
            lifetime,
            max_runtime=self.max_runtime,
            is_given=self.max_runtime_is_given,
            startup_timeout=self.startup_timeout,
        )


@attrs.frozen(kw_only=True)
class FleetInstance:
    """One launch of the job, merged from the job's records and the provider's listing."""

    client_token: str
    instance_id: str | None
    """None for an intent whose launch has not been answered."""
    state: InstanceState | None
    """State in the listing; None if not listed."""
    vcpus: int
    slots: int
    price_per_hour: Money
    launched_at: datetime
    """Time of the intent, or of the start of an instance that was pending: the present while it is. For an unmanaged
    instance, of its creation."""
    zone: str = ""
    is_spot: bool = False
    deadline: datetime | None = None
    """Time at which the instance ends itself; None: never. For a pending one, as if it started now."""
    pending_since: datetime | None = None
    """Time of the request of an instance that was pending when it was last listed; None for others."""
    listed_reason: str = ""
    """Why it is pending, or has ended, as the provider names it."""
    listed_end: datetime | None = None
    """Its end as the provider names it, by the clock of the job."""
    from_earlier_run: bool = False
    """Whether an earlier run of the job launched it, under other limits maybe."""
    recorded: bool = True
    """False for an instance with the job's label that is in no record of the job."""
    given_up: bool = False
    """Whether its launch had been recorded as failed, and possibly replaced, before it was listed."""
    may_be_unlisted: bool = False
    """Whether it is so new that the listing need not show it."""
    answered: bool = True
    """Whether the launch call has returned, or was made by an earlier controller."""
    last_heartbeat: datetime | None = None
    running_tasks: int = 0
    tasks_finished: int = 0
    last_busy: datetime | None = None
    """Time at which it last had a task, according to events."""


@attrs.frozen(kw_only=True)
class InstanceEnds:
    """How the latest attempts on one instance ended."""

    ends: int
    failures: int
    """Ends without success: exceptions, exits, time-outs, and failures of the worker's own means."""
    reason: str
    """The most frequent reason of a failure; empty for none."""
    last_end: datetime


@attrs.frozen(kw_only=True)
class Block:
    """A scope that refused a launch and is avoided for a time."""

    scope: RefusalScope
    offer: Offer
    """Refused offer; the scope extends the block to others."""
    until: datetime
    reason: str
    message: str = ""
    """The whole error."""
    needs_action: bool = False
    """Whether only a person can remove the cause."""

    def covers(self, offer: Offer) -> bool:
        """Return whether the block includes ``offer``."""
        same_model = offer.provisioning_model is self.offer.provisioning_model
        same_type = offer.instance_type.name == self.offer.instance_type.name
        match self.scope:
            case RefusalScope.ACCOUNT:
                return True
            case RefusalScope.REGION:
                return same_model
            case RefusalScope.ZONE:
                return same_model and offer.zone == self.offer.zone
            case RefusalScope.INSTANCE_TYPE:
                return same_model and same_type
            case RefusalScope.OFFER:
                return same_model and same_type and offer.zone == self.offer.zone


@attrs.frozen(kw_only=True)
class LaunchFailures:
    """Consecutive launches that certainly failed, other than by a refusal."""

    rounds: int
    """Number of rounds; launches requested before the first failure was known count as one."""
    message: str
    """Error of the last failure."""
    bad_input: bool
    """Whether the configuration or the startup script caused the last failure."""


@attrs.frozen(kw_only=True)
class Observation:
    """Input of a decision."""

    now: datetime
    policy: Policy
    remaining: int
    """Number of unfinished tasks."""
    all_loaded: bool
    """Whether every task has been enqueued."""
    fleet: tuple[FleetInstance, ...] | None
    """None if the listing failed or is late: unknown, not empty."""
    offers: tuple[RankedOffer, ...]
    blocks: tuple[Block, ...]
    events_read_since: datetime | None
    """Time since which the event queue has been read without a gap; None while it cannot be read."""
    recorded: tuple[FleetInstance, ...] = ()
    """Launches that are not recorded as ended, with their last known states: without a listing, limits follow from
    them and the clock."""
    other_runs: tuple[str, ...] = ()
    """Descriptions of running instances of this job that another controller launched."""
    refusals: tuple[Block, ...] = ()
    """Blocks of the last hour, expired ones included."""
    launch_failures: LaunchFailures | None = None
    """Failures since the last successful launch; None if there are none."""
    accrued_cost: Money = Money.zero()
    task_time: timedelta | None = None
    """Mean duration of completed tasks; None before the first."""
    queue_empty_since: datetime | None = None
    """Time since which the task queue has been exactly empty."""
    queue_visible: int | None = None
    """Reported number of messages waiting in the task queue; None if not reported."""
    requeued_at: datetime | None = None
    """Time at which this controller last re-enqueued unfinished tasks."""
    idle_before: timedelta = timedelta(0)
    """Total idle time of workers that have exited since a task last ran or was re-enqueued."""
    any_heartbeat: bool = False
    """Whether any instance of the job, terminated ones included, sent an event."""
    failed_instances: FailedInstances = attrs.field(factory=FailedInstances)
    """Instances of this run that ended."""
    refused_since: datetime | None = None
    """Time of the first refusal since the last successful launch; None for none."""
    credentials_problem: str = ""
    """Why listings are refused for the credentials; empty if they are not."""
    tasks_finished: int = 0
    attempt_ends: Mapping[str, InstanceEnds] = attrs.field(factory=dict)
    """By instance, terminated ones included."""
    failed_workers: int = 0
    """Instances of this run whose worker ended with an error."""
    start_failure: str = ""
    """Why the latest instance whose program cannot start does not; empty for none."""
    worker_error: str = ""
    """The last such error; empty for none."""
    discarded: frozenset[str] = frozenset()
    """Instances that were terminated because they failed what others complete."""
    surplus_since: datetime | None = None
    """Time since which the fleet has had more slots than there are unfinished tasks."""
    records_current: bool = True
    """Whether the records hold what has been observed; False while the store cannot be written."""
    draining: bool = False
    """Whether no more tasks are started and no instances launched: the rest of the budget is for running tasks."""
    queue_problem: str = ""
    """What a queue refuses this controller permanently; empty if it does not."""

    def needs_action(self, offer: Offer) -> bool:
        """Return whether only a person can remove the cause of the last refusal of ``offer``."""
        last = next((block for block in reversed(self.refusals) if block.covers(offer)), None)
        return last is not None and last.needs_action
