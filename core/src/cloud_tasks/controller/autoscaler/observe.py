"""Observations for `decide`: the provider's listing merged with the job's records and the state of its queues.

Invariants, each with a test:

1. A listed instance with the job's label that is in no record is observed as unmanaged; the instance of an open intent
   settles it.
2. An instance that the listing need not show yet does not count as gone.
3. The state that a complete listing shows for a known, living instance is recorded.
4. Times of workers and providers are compared with none of the controller's (`Heartbeats`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from cloud_tasks.controller.autoscaler.attempt_ends import AttemptEnds
from cloud_tasks.controller.autoscaler.failed_instances import failed_instances
from cloud_tasks.controller.autoscaler.fleet import Fleet
from cloud_tasks.controller.autoscaler.rules.comparison import failing_instances
from cloud_tasks.controller.autoscaler.state import FleetInstance, Observation, Policy
from cloud_tasks.controller.deferred_writes import DeferredWrites
from cloud_tasks.controller.event_loop import Loop
from cloud_tasks.controller.launch.labels import belongs_to_other_run, describe_owner
from cloud_tasks.controller.messaging.enqueuer import TaskEnqueuer
from cloud_tasks.controller.messaging.event_collector import EventCollector
from cloud_tasks.controller.messaging.heartbeats import Heartbeats
from cloud_tasks.escape import terminal_line
from cloud_tasks.model import Event, Instance, InstanceState, Money, ProvisioningModel
from cloud_tasks.plugin import Depth
from cloud_tasks.quantities import format_span
from cloud_tasks.queue_refusal import QueueRefusal
from cloud_tasks.selection import RankedOffer
from cloud_tasks.store import InstanceRecord, Store, named_end

__all__ = ["StateBuilder"]

log = structlog.get_logger()


class StateBuilder:
    """Builds the observations of one run, and keeps what they need from earlier ones.

    Args:
        offers: Ranked, best first.
    """

    def __init__(
        self,
        loop: Loop,
        store: Store,
        *,
        enqueuer: TaskEnqueuer,
        collector: EventCollector,
        fleet: Fleet,
        offers: tuple[RankedOffer, ...],
        policy: Policy,
        writes: DeferredWrites,
    ) -> None:
        self._loop = loop
        self._store = store
        self._writes = writes
        self._enqueuer = enqueuer
        self._collector = collector
        self._fleet = fleet
        self._offers = offers
        self._policy = policy
        self._started = self._listing_requested_at = loop.now()
        self._known_runs = store.known_runs()
        self._given_up: set[str] = set()
        self._surplus_since: datetime | None = None
        self._empty_since: datetime | None = None
        self._requeued_at: datetime | None = None
        self.attempt_ends = AttemptEnds()
        self.heartbeats = Heartbeats(self._started)
        self.discarded: set[str] = set()
        """Instances that were terminated because they failed what others complete."""
        self.consoles: dict[str, str] = {}
        """Last output of instances that ended before their worker started."""
        self.timed_out: set[str] = set()
        """Instances that sent no heartbeat within the startup time-out."""
        self.stop_reasons: dict[str, str] = {}
        """Reason of the last stop of a worker, by instance."""
        self.start_failures: dict[str, str] = {}
        """Why the program of an instance of this run cannot start, by instance."""
        self.worker_errors: dict[str, str] = {}
        """Errors that ended the worker of an instance of this run, by instance."""
        self.draining = False
        """Whether queued tasks have been withdrawn."""
        self.depth_refusal = QueueRefusal("task queue", user="the controller", clock=lambda: loop.now().timestamp())
        """Permanent errors of the depth of the task queue, since it was read or served a worker."""

    @property
    def has_failing_instance(self) -> bool:
        """Whether an instance fails what others complete and may be terminated because of that."""
        is_new = not self.discarded.issuperset(failing_instances(self.attempt_ends.counts()))
        return is_new and len(self.discarded) < self._policy.max_discarded_instances

    def replace_offers(self, offers: tuple[RankedOffer, ...]) -> None:
        """Decide by these offers from now on: prices were read again."""
        self._offers = offers

    def listing_requested(self) -> None:
        """Note the time of a listing: instances that are launched later need not be in it."""
        self._listing_requested_at = self._loop.now()

    def note_tasks(self, events: Sequence[Event]) -> None:
        """Note that the task queue serves workers: events of tasks, or heartbeats of instances that run some."""
        if self.depth_refusal.has_answered and any(
            each.task_id is not None or each.details.get("running_tasks") for each in events
        ):
            self.depth_refusal.answered()

    def note_start_failure(self, instance_id: str, reason: str) -> None:
        """Note and log that the program of an instance cannot start."""
        if instance_id not in self.start_failures:
            self.start_failures[instance_id] = reason
            log.warning(f"Instance '{instance_id}' cannot start: {reason}")

    def requeued(self) -> None:
        """Restart the times after which tasks count as missing from the queue."""
        self._empty_since = None
        self._requeued_at = self._loop.now()

    def observe(self, listing: Sequence[Instance] | None, depth: Depth | None, *, is_new: bool = True) -> Observation:
        """Return the observation of a listing; None stands for one that failed.

        Args:
            is_new: Whether listing and depth have not been observed before; only new ones are recorded.
        """
        now = self._loop.now()
        summary = self._store.summary()
        records = tuple(self._store.instances())
        if listing is not None and is_new:
            pending = {record.client_token for record in records if record.is_pending}
            self._record(records, listing)
            records = tuple(self._store.instances())
            for record in records:
                if record.client_token in pending and not record.is_pending and record.ended_at is None:
                    log.info(_started(record, now))
        fleet = None if listing is None else self._merge(records, listing)
        if is_new:
            self._note_surplus(fleet, summary.remaining, now)
            self._note_empty(depth, now)
        # A resumed run judges its startup script by its own instances.
        current = [record for record in records if record.intended_at >= self._started or record.ended_at is None]
        refusals = (self._collector.refusal, self._enqueuer.refusal, self.depth_refusal)
        return Observation(
            now=now,
            policy=self._policy,
            remaining=summary.remaining,
            all_loaded=self._enqueuer.done,
            fleet=fleet,
            other_runs=tuple(describe_owner(i) for i in listing or () if i.is_alive and not self.is_own(i)),
            recorded=tuple(self._of_record(r, r.state or InstanceState.RUNNING) for r in records if r.ended_at is None),
            offers=self._offers,
            blocks=self._fleet.refused_scopes.current(),
            refusals=self._fleet.refused_scopes.recent(),
            launch_failures=self._fleet.launch_failures(),
            events_read_since=self._collector.events_read_since,
            accrued_cost=self._store.spending(now),
            task_time=None if summary.elapsed is None else timedelta(seconds=summary.elapsed.mean),
            queue_empty_since=self._empty_since,
            queue_visible=None if depth is None else depth.visible,
            requeued_at=self._requeued_at,
            idle_before=self._idle_before(records, max(self._started, self._requeued_at or self._started)),
            any_heartbeat=any(record.last_heartbeat is not None for record in current),
            failed_instances=failed_instances(
                # An earlier controller may have terminated its instances before it ended.
                [record for record in current if record.intended_at >= self._started],
                last_progress=self.heartbeats.progress_at,
                consoles=self.consoles,
                timed_out=self.timed_out,
                worker_errors=self.worker_errors,
                stop_reasons=self.stop_reasons | self.start_failures,
                start_failures=self.start_failures,
            ),
            refused_since=self._fleet.refused_scopes.since,
            credentials_problem=self._fleet.refused_scopes.credentials_problem,
            tasks_finished=summary.finished_tasks,
            attempt_ends=self.attempt_ends.counts(),
            discarded=frozenset(self.discarded),
            failed_workers=len(self.worker_errors),
            worker_error=next(reversed(self.worker_errors.values()), ""),
            start_failure=next(reversed(self.start_failures.values()), ""),
            surplus_since=self._surplus_since,
            records_current=not self._writes.blocked,
            draining=self.draining,
            queue_problem=next((each.problem for each in refusals if each.problem), ""),
        )

    def record_listing(self, listing: Sequence[Instance]) -> None:
        """Record what a complete listing shows: instances of unanswered launches, and states."""
        self._record(tuple(self._store.instances()), listing)

    def _record(self, records: Sequence[InstanceRecord], listing: Sequence[Instance]) -> None:
        if self._writes.blocked:
            # The next listing shows it again.
            return
        unsettled = {record.client_token: record.ended_at for record in records if record.instance_id is None}
        for instance in listing:
            if instance.client_token in unsettled and not self._fleet.is_unanswered(instance.client_token):
                self._fleet.adopt(instance)
                if unsettled[instance.client_token] is None:
                    log.info(f"Instance '{instance.instance_id}' adopted: its launch had not been answered")
                else:
                    # It may have been replaced, so it is terminated.
                    self._given_up.add(instance.instance_id)
        self._writes.attempt(lambda: self._store.record_states(listing, self._listing_requested_at))

    def _merge(self, records: Sequence[InstanceRecord], listing: Sequence[Instance]) -> tuple[FleetInstance, ...]:
        by_id = {instance.instance_id: instance for instance in listing}
        known = {record.instance_id for record in records if record.instance_id is not None}
        fleet = []
        for record in records:
            if record.ended_at is None:
                listed = by_id.get(record.instance_id or "")
                fleet.append(self._of_record(record, None if listed is None else listed.state, listed))
        unanswered = {record.client_token for record in records if record.instance_id is None}
        for instance in listing:
            is_known = instance.instance_id in known or instance.client_token in unanswered
            if not is_known and self.is_own(instance):
                fleet.append(_unmanaged(instance))
        return tuple(fleet)

    def _of_record(
        self, record: InstanceRecord, state: InstanceState | None, listed: Instance | None = None
    ) -> FleetInstance:
        """Return a launch as it is recorded; ``state`` is None for one that the listing does not show."""
        began_at, deadline, is_pending = record.began_at, record.current_deadline, record.is_pending
        if state is InstanceState.PENDING and is_pending:
            began_at = self._loop.now()
            deadline = None if record.deadline is None else began_at + (record.deadline - record.intended_at)
        elif state is InstanceState.PENDING:
            # Its worker has sent an event, or it runs again: no longer, or not, waiting.
            state = InstanceState.STARTING
        elif is_pending and state is not None and state is not InstanceState.TERMINATED:
            # The records could not be written: it has started.
            is_pending = False
        return FleetInstance(
            client_token=record.client_token,
            instance_id=record.instance_id,
            state=None if record.instance_id is None else state,
            vcpus=record.vcpus,
            slots=record.slots,
            price_per_hour=record.price_per_hour,
            launched_at=began_at,
            zone=record.zone,
            is_spot=record.provisioning_model is ProvisioningModel.SPOT,
            deadline=deadline,
            pending_since=record.intended_at if is_pending else None,
            listed_reason=(terminal_line(str(listed.reason or "")) if listed is not None else "") or record.reason,
            listed_end=None if listed is None else named_end(record, listed),
            from_earlier_run=record.intended_at < self._started,
            given_up=record.instance_id in self._given_up,
            may_be_unlisted=state is None and self.may_be_unlisted(record),
            answered=not self._fleet.is_unanswered(record.client_token),
            last_heartbeat=self.heartbeats.last_heartbeat(record),
            running_tasks=record.running_tasks,
            tasks_finished=record.tasks_finished,
            last_busy=self.heartbeats.last_busy(record),
        )

    def missing(self, listing: Sequence[Instance]) -> frozenset[str]:
        """Return the client tokens of launches that a complete listing should show if their instances still ran."""
        shown = {instance.client_token for instance in listing}
        living = (record for record in self._store.instances() if record.ended_at is None)
        return frozenset(
            record.client_token
            for record in living
            if record.client_token not in shown
            and not self._fleet.is_unanswered(record.client_token)
            and not self.may_be_unlisted(record)
        )

    def is_own(self, instance: Instance) -> bool:
        """Return whether no other controller launched this listed instance of the job."""
        return not belongs_to_other_run(instance, self._known_runs)

    def may_be_unlisted(self, record: InstanceRecord) -> bool:
        """Return whether its launch was answered so late that the last listing need not show it."""
        answered_at = self._fleet.answered_at(record.client_token) or self._started
        return self._listing_requested_at <= answered_at + self._policy.listing_lag

    def _idle_before(self, records: Sequence[InstanceRecord], since: datetime) -> timedelta:
        """Return the idle time of workers that have exited, since ``since`` and since any worker last had a task."""
        busy = [found for record in records if (found := self.heartbeats.last_busy(record)) is not None]
        covered, idle = max([since, *busy]), timedelta(0)
        for record in sorted(records, key=lambda record: record.intended_at):
            last = self.heartbeats.last_heartbeat(record)
            if record.ended_at is not None and last is not None and last > covered:
                idle += last - max(record.began_at, covered)
                covered = last
        return idle

    def _note_surplus(self, fleet: Sequence[FleetInstance] | None, remaining: int, now: datetime) -> None:
        slots = sum(instance.slots for instance in fleet or ())
        if fleet is None or slots <= remaining:
            self._surplus_since = None
        elif self._surplus_since is None:
            self._surplus_since = now

    def _note_empty(self, depth: Depth | None, now: datetime) -> None:
        empty = depth is not None and depth.exact and depth.visible == 0 and depth.in_flight == 0
        if not empty or not self._enqueuer.done:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = now


def _started(record: InstanceRecord, now: datetime) -> str:
    """Return the log line about an instance that was pending."""
    waited = format_span((record.started_at or now) - record.intended_at)
    kind = record.provisioning_model.value
    return f"Started {kind} instance '{record.instance_id}' in zone '{record.zone}', {waited} after its request"


def _unmanaged(instance: Instance) -> FleetInstance:
    return FleetInstance(
        client_token=instance.client_token,
        instance_id=instance.instance_id,
        state=instance.state,
        vcpus=0,
        slots=0,
        price_per_hour=Money.zero(),
        launched_at=instance.created_at,
        recorded=False,
    )
