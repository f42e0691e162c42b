"""State that a decision is made from: policy, fleet, refused scopes, and the observation of a reconciliation pass."""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs

from cloud_tasks.errors import RefusalScope
from cloud_tasks.model import InstanceState, Limits, Money, Offer
from cloud_tasks.selection import RankedOffer

__all__ = [
    "Block",
    "FleetInstance",
    "LaunchFailures",
    "Observation",
    "Policy",
]


@attrs.frozen(kw_only=True)
class Policy:
    """The settings of a job that guide its controller."""

    limits: Limits
    startup_timeout: timedelta | None = timedelta(seconds=600)
    """How long a new instance may be silent; None: for ever."""
    keepalive_timeout: timedelta | None = timedelta(seconds=300)
    """How long an instance that spoke may be silent; None: for ever."""
    termination_delay: timedelta = timedelta(seconds=60)
    """How long an instance has to be surplus and idle before it is terminated."""
    listing_lag: timedelta = timedelta(0)
    """How long a launched instance may be missing from the listing."""
    max_lifetime: timedelta | None = None
    """Age at which an instance is terminated; None: never, or the provider does it."""
    intent_timeout: timedelta = timedelta(minutes=3)
    """Time after which a launch of unknown outcome, missing from complete listings, counts as failed. Where listings
    do not lag, the first complete listing after the launch decides."""
    requeue_after_empty: timedelta = timedelta(minutes=2)
    """How long an exact, empty queue may contradict the store before the remaining tasks are sent again."""
    requeue_after_idle: timedelta = timedelta(minutes=10)
    """How long idle workers may contradict the store before the remaining tasks are sent again, where the queue cannot
    tell exactly what it holds."""
    max_failed_starts: int = 3
    """Instances that ended or fell silent before any ever spoke; then the startup script is taken to be broken."""
    max_instances_without_progress: int = 10
    """Instances that may come and go without any task being finished; then buying more is taken to be pointless."""
    max_failed_launches: int = 3
    """Consecutive failed launches, with no instance running, after which the run ends."""
    canary: bool = False
    """One instance must complete a task before the others are bought."""
    provider_chooses: bool = False
    """Whether the provider is given the choice among offers that are about as good as the best."""
    spot_fallback: bool = False
    """Whether an offer on demand may be bought when every spot offer is refused."""


@attrs.frozen(kw_only=True)
class FleetInstance:
    """One launch of this job: what our records and the provider's listing say about it together."""

    client_token: str
    instance_id: str | None
    """None: an intent whose launch has not been answered."""
    state: InstanceState | None
    """As listed; None: not in the listing."""
    vcpus: int
    slots: int
    price_per_hour: Money
    launched_at: datetime
    """When the intent was written; for an adopted instance, when it was created."""
    zone: str = ""
    recorded: bool = True
    """False: it carries our job's label, and our records do not know it."""
    given_up: bool = False
    """Whether its launch had been taken for failed, and perhaps replaced, when it appeared."""
    may_be_unlisted: bool = False
    """Whether it is so new that the listing may not show it yet."""
    answered: bool = True
    """Whether the launch call has returned (or this controller did not make it)."""
    last_heartbeat: datetime | None = None
    running_tasks: int = 0
    tasks_finished: int = 0
    last_busy: datetime | None = None
    """When it last had a task, as far as events told."""


@attrs.frozen(kw_only=True)
class Block:
    """A scope that refused a launch, to be avoided until a time."""

    scope: RefusalScope
    offer: Offer
    """The offer that was refused; the scope says which others are meant."""
    until: datetime
    reason: str

    def covers(self, offer: Offer) -> bool:
        """Whether launching ``offer`` would meet this block."""
        same_purchase = offer.purchase is self.offer.purchase
        same_type = offer.instance_type.name == self.offer.instance_type.name
        match self.scope:
            case RefusalScope.ACCOUNT:
                return True
            case RefusalScope.REGION:
                return same_purchase
            case RefusalScope.ZONE:
                return same_purchase and offer.zone == self.offer.zone
            case RefusalScope.INSTANCE_TYPE:
                return same_purchase and same_type
            case RefusalScope.OFFER:
                return same_purchase and same_type and offer.zone == self.offer.zone


@attrs.frozen(kw_only=True)
class LaunchFailures:
    """Consecutive launches that started nothing for certain, and were not refused."""

    rounds: int
    """Launches that were ordered while an earlier failure was not known yet count as one."""
    message: str
    """Of the last one."""
    bad_input: bool
    """Whether the last one was caused by the configuration or the startup script."""


@attrs.frozen(kw_only=True)
class Observation:
    """All that a decision depends on."""

    now: datetime
    policy: Policy
    remaining: int
    """Tasks of the store without a final status."""
    all_loaded: bool
    """Whether every task has been sent to the queue."""
    fleet: tuple[FleetInstance, ...] | None
    """None: the listing failed; unknown is not zero."""
    offers: tuple[RankedOffer, ...]
    blocks: tuple[Block, ...]
    events_read_since: datetime | None
    """Since when the event queue has been read without a gap; None: it cannot be read now."""
    refusals: tuple[Block, ...] = ()
    """Blocks of the last hour, those that are over included."""
    launch_failures: LaunchFailures | None = None
    """Since the last successful launch; None where there was none."""
    accrued_cost: Money = Money.zero()
    task_time: timedelta | None = None
    """Mean of the tasks that completed; None before the first."""
    queue_empty_since: datetime | None = None
    """Since when the task queue has been known, exactly, to hold nothing at all."""
    queue_visible: int | None = None
    """Messages that wait in the task queue, as far as it can tell; None where it cannot."""
    requeued_at: datetime | None = None
    """When this controller last sent the remaining tasks again."""
    idle_before: timedelta = timedelta(0)
    """How long workers that are gone by now were there and found no task, since a task last ran or was sent again."""
    any_heartbeat: bool = False
    """Whether any instance of this job, dead ones included, ever sent an event."""
    failed_starts: int = 0
    """Instances of this run that ended without ever having sent an event."""
    ended_without_progress: int = 0
    """Instances of this run that were launched and ended since the job last finished a task."""
    tasks_finished: int = 0
    surplus_since: datetime | None = None
    """Since when the fleet has been larger than the remaining tasks can fill."""
    draining: bool = False
    """No new instances and no new tasks: the rest of the budget is for what runs."""
