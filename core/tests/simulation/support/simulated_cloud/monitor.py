"""`Monitor`: compares the controller with the simulated cloud, and raises `InvariantViolation` at once.

Numbers in messages are those of the controller's invariants: 1 no task is lost or counted twice; 2 no instance is
orphaned; 3 limits hold at all times; 4 no more instances than the tasks can use; 5 a refused scope is avoided; 6 a
working instance is not terminated for missing heartbeats; 7 a broken instance ends no task for good; 8 a run is aborted
for a cause; 9 no instance of another owner is terminated; 10 every instance, and every run, ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from cloud_tasks.controller.autoscaler.state import Block, Policy
from cloud_tasks.convert import decode_task_message
from cloud_tasks.errors import LaunchRefusedError
from cloud_tasks.model import (
    FINAL_STATUSES,
    TASK_FINAL_EVENTS,
    Event,
    EventType,
    InstanceState,
    LaunchRequest,
    Money,
    TaskStatus,
)
from cloud_tasks.store import InstanceRecord, Store, booked_since
from simulated_cloud.causes import has_cause
from simulated_cloud.cloud import CloudInstance, EndCause, SimulatedCloud
from simulated_cloud.dials.money import allowed_slots
from simulated_cloud.scenario import Scenario
from simulated_cloud.worker import SimulatedWorker

__all__ = ["InvariantViolation", "Monitor"]

_STATUS_OF = {
    EventType.TASK_COMPLETED: TaskStatus.COMPLETED,
    EventType.TASK_EXCEPTION: TaskStatus.FAILED,
    EventType.TASK_TIMED_OUT: TaskStatus.TIMED_OUT,
    EventType.TASK_EXITED: TaskStatus.EXITED,
    EventType.TASK_DEAD: TaskStatus.DEAD,
}

_MARGIN = timedelta(seconds=5)
_DELIVERY = timedelta(seconds=90)
"""Maximum time until an event has been applied: the maximum delay, a long call, and a reconciliation pass."""
_TIME_TO_GO = timedelta(minutes=3)
"""Maximum time for a termination, with its repetitions."""
_TIME_TO_STOP = timedelta(minutes=15)
"""Maximum time for launches beside instances of another controller."""
_STARTUP_TIMEOUT = timedelta(seconds=600)
_KEEPALIVE_TIMEOUT = timedelta(seconds=300)
_MAX_WAIT = timedelta(minutes=2)
"""Maximum time for which a launch waits for others after its intent."""
_PRICE_MARGIN = 1.2
"""Rise of a spot price that may be charged before it is booked."""
_MAX_SILENCE = timedelta(minutes=30)
"""Maximum time without a heartbeat while the controller can act on it."""
_USUAL = timedelta(minutes=5)
"""Time between two listings up to which none is missed: some calls fail."""
_GIVE_UP = timedelta(hours=6)
_SIGN_IN = timedelta(minutes=8)
"""Time for which a run without instances waits for a new sign-in, less than that of the product by a pass or two."""
"""Time after which a run that could launch nothing must have ended."""


class InvariantViolation(BaseException):
    """Violated invariant. Not an `Exception`, so that no handler of failed calls catches it."""


class Monitor:
    """Checks one simulated job, across all crashes of its controller.

    Args:
        now: Return the virtual time.
    """

    def __init__(self, scenario: Scenario, now: Callable[[], datetime]) -> None:
        self._scenario = scenario
        self._now = now
        self.cloud: SimulatedCloud | None = None
        self.workers: dict[str, SimulatedWorker] = {}
        self.readable_since: Callable[[bytes], datetime | None] = lambda body: None
        """Returns since when a message of the event queue can be received (`SimulatedQueue.readable_since`)."""
        self._intents: set[str] = set()
        self._committed: set[str] = set()
        self._sent_tasks: set[str] = set()
        self._has_sent = False
        """Whether the queue has accepted a task of this run: its credentials have worked."""
        self._ids_of: dict[bytes, Collection[str]] = {}
        self._reported: dict[str, set[TaskStatus]] = {}
        self._finished = 0
        self._job_time = now
        """Returns the time by the controller's clock, as it is in the records."""
        self._blocks: list[Block] = []
        self._launched: set[str] = set()
        self._listed_at = now()
        """Time at which the last listing was requested that a controller got and could record."""
        self._unseen = timedelta(0)
        self._unanswered: dict[str, float] = {}
        """Price per hour in US dollars of each launch of which it is not recorded whether it took place, by token."""
        self._booked_unanswered = 0.0
        self._running_since: datetime | None = None
        self._refused_since = now()
        """Time since which no instance exists."""
        self._checked = False
        self._instances = 0
        self._vcpus = 0
        self._slots = 0
        self._cost_limit: Money | None = None
        self._overspent_at: datetime | None = None
        """Time at which the bill exceeds the limit by more than a pass, if nothing changes."""
        self.is_set_up = False
        """Whether the job's database is published and its queues are new."""
        self.is_shared = False
        """Whether a second controller has used the queues: it may have received events and heartbeats of the first."""
        self.was_left = False
        """Whether instances were once left running without a controller."""
        self.checks = 0

    # -- the cloud --------------------------------------------------------------------------------------------------

    def launching(self, request: LaunchRequest) -> None:
        """2: check that the intent of a launch is committed before it takes effect."""
        if request.client_token not in self._intents:
            raise InvariantViolation(f"2: launched {request.client_token} without a committed intent")
        assert self.cloud is not None
        visible = self._now() - _TIME_TO_STOP
        others = [
            i
            for i in self.cloud.existing()
            if i.is_rival and i.is_alive and i.created_at < visible and not self.cloud.is_silent(i.offer.zone)
        ]
        if others and self._running_since is not None and self._running_since < visible:
            raise InvariantViolation(f"9: launched {request.client_token} beside {others[0].instance_id}")
        kind, slots = request.offer.instance_type, int(request.labels["slots"])
        sustained = self._scenario.faults.money.sustained(kind.name)
        if sustained < 1 and slots > allowed_slots(kind.vcpus, sustained, self._scenario.constraints, kind.name):
            raise InvariantViolation(f"3: {kind.name} was launched with {slots} slots and sustains {sustained:.0%}")

    def changed(self, instance: CloudInstance) -> None:
        """Count an instance that was created or terminated."""
        if not instance.is_ours:
            return
        self._checked = False
        sign = 1 if instance.ended_at is None else -1
        self._instances += sign
        self._vcpus += sign * instance.offer.instance_type.vcpus
        self._slots += sign * instance.slots
        self._foresee_bill()
        self.check_limits()

    def limit_cost(self, limit: Money | None) -> None:
        """Set the limit on the total cost of the run that starts."""
        self._cost_limit = limit
        self._foresee_bill()

    def _foresee_bill(self) -> None:
        """Compute when the bill exceeds the limit by more than one pass, and the termination, cost."""
        self._overspent_at = None
        if self.cloud is None or self._cost_limit is None:
            return
        slack = (self._scenario.scaling_check_interval + _TIME_TO_GO) / timedelta(hours=1)
        margin = _PRICE_MARGIN if self._scenario.faults.money.price_interval is not None else 1
        allowed = self._cost_limit * margin + Money(self.cloud.bill.peak) * slack
        self._overspent_at = self.cloud.bill.exceeds_at(allowed)

    def charged(self) -> None:
        """Note that a charge has changed."""
        self._foresee_bill()

    @property
    def _is_bill_bounded(self) -> bool:
        """Whether a controller has always enforced the limit on the total cost, or the lifetimes of instances do."""
        faults = self._scenario.faults
        unattended = faults.crashes or faults.sleeps or faults.parties.dies or self.was_left
        # Lifetimes follow from the prices at the launch.
        bounded = self._scenario.bounded_lifetimes and faults.money.price_interval is None
        return bounded or not unattended

    def check_limits(self) -> None:
        """3: check the bill, and the totals of all existing instances, these only after a change."""
        if self._overspent_at is not None and self._now() > self._overspent_at and self._is_bill_bounded:
            assert self.cloud is not None
            allowed = self._cost_limit or Money.zero()
            raise InvariantViolation(
                f"3: {self.cloud.bill.total().format(4)} were spent, {allowed.format(4)} were allowed"
            )
        if self._checked:
            return
        limits = self._scenario.limits
        totals: tuple[tuple[Any, Any, str], ...] = (
            (self._instances, limits.max_instances, "instances"),
            (self._vcpus, limits.max_total_cpus, "vCPUs"),
            (self._slots, limits.max_simultaneous_tasks, "simultaneous tasks"),
            (self._price_per_hour(), limits.max_total_price_per_hour, "price per hour"),
        )
        for total, limit, name in totals:
            if limit is not None and total > limit:
                raise InvariantViolation(f"3: {name} {total} > {limit}")
        self._checked = True

    def _price_per_hour(self) -> Money:
        """Return what is charged per hour; zero where prices move, since nobody foresees them."""
        if self.cloud is None or self._scenario.faults.money.price_interval is not None:
            return Money.zero()
        return Money(round(self.cloud.bill.rate, 6))

    def sending(self, events: Sequence[Event]) -> None:
        """Note the events of a message before it is sent: the queue may accept it although the call fails."""
        for event in events:
            if event.event_type in TASK_FINAL_EVENTS and not event.retry and event.task_id is not None:
                self._reported.setdefault(event.task_id, set()).add(_STATUS_OF[event.event_type])

    def carried(self, body: bytes, event_ids: Collection[str]) -> None:
        """Note the event ids of a message."""
        self._ids_of[body] = event_ids

    def acked_events(self, body: bytes) -> None:
        """1: check that the events of an acked message are committed."""
        ids = self._ids_of.get(body)
        if ids is None:
            return  # not sent by a worker
        if not self._committed.issuperset(ids):
            missing = min(set(ids) - self._committed)
            raise InvariantViolation(f"1: event {missing} was acked before it was committed")

    def took_tasks(self, bodies: Sequence[bytes], failed: Collection[int]) -> None:
        """Note the tasks that the queue accepted."""
        for index, body in enumerate(bodies):
            if index not in failed:
                self._has_sent = True
                self._sent_tasks.add(decode_task_message(body).task_id)

    # -- the controller --------------------------------------------------------------------------------------------

    def restarted(self, job_time: Callable[[], datetime]) -> None:
        """Forget what a controller keeps in memory only.

        Args:
            job_time: Return the time by the clock of the next controller.
        """
        self._blocks = []
        self._job_time = job_time
        self._has_sent = False
        self._running_since = self._refused_since = self._now()

    def stopped(self) -> None:
        """Note that no controller runs."""
        self._running_since = None

    def listed(self, requested_at: datetime) -> None:
        """Note that a controller has got a complete listing, and can record what it shows."""
        self._booked_unanswered = self.booked_unanswered
        self._unseen, self._listed_at = self.unseen, requested_at

    @property
    def unseen(self) -> timedelta:
        """Time in which an end could be neither seen nor recorded: it is booked, since the instance may still run.

        That is so whatever the cause: listings failed, were late or not recorded, or no controller ran, and its user
        waited for another one to end.
        """
        return self._unseen + self._gap()

    @property
    def booked_unanswered(self) -> float:
        """What is booked for launches without an answer while nothing is listed that shows them, in US dollars."""
        return self._booked_unanswered + sum(self._unanswered.values()) * (self._gap() / timedelta(hours=1))

    def _unseen_price(self) -> float:
        """Return the price per hour of the instances whose end no listing can have shown, in US dollars."""
        assert self.cloud is not None
        unseen = (
            i
            for i in self.cloud.all_instances.values()
            if i.is_ours and (i.ended_at is None or i.ended_at > self._listed_at)
        )
        return sum(float(i.offer.price_per_hour.usd) for i in unseen)

    def _gap(self) -> timedelta:
        gap = self._now() - self._listed_at
        return gap if gap > _USUAL else timedelta(0)

    def check_silent_instances(self) -> None:
        """10: check that instances without a heartbeat are terminated, and a run ends that can never launch one."""
        if self._running_since is None or self.cloud is None:
            return
        now, calls = self._now(), self._scenario.faults.calls
        if self.cloud.ours() or self.cloud.lists_nothing or self.cloud.needs_silent_zone():
            self._refused_since = now
        elif now - max(self._running_since, self._refused_since) > _GIVE_UP and self.cloud.refuses_everything:
            raise InvariantViolation(f"10: every launch is refused, and the run goes on after {_GIVE_UP}")
        unseen = calls.listing_outage or calls.silence or calls.slow_call or calls.slow_listing
        if unseen or calls.credentials_expire:
            return
        faults = self._scenario.faults
        idle = timedelta(minutes=20 * (faults.outages + faults.database_locks) + 60 * faults.sleeps)
        for instance in self.cloud.ours():
            if self._waits(instance):
                continue
            started = instance.started_at or instance.created_at
            silent_since = max(self.workers[instance.instance_id].last_sent, self._running_since, started)
            if now - silent_since > _MAX_SILENCE + idle:
                raise InvariantViolation(f"10: {instance.instance_id} sent no heartbeat for {now - silent_since}")

    def _waits(self, instance: CloudInstance) -> bool:
        """Return whether no heartbeat is expected of an instance, because it is listed as pending."""
        return instance.is_pending and self._scenario.faults.launches.shows_pending

    def refusal_known(self, request: LaunchRequest, error: LaunchRefusedError) -> None:
        until = self._now() + error.retry_after
        self._blocks.append(Block(scope=error.scope, offer=request.offer, until=until, reason=error.reason))

    def launch_settled(self, client_token: str) -> None:
        """Note a launch of which it is recorded whether it took place."""
        self._unanswered.pop(client_token, None)

    def launch_called(self, request: LaunchRequest) -> None:
        """5: check that the scope of a new launch is not blocked."""
        if request.client_token in self._launched:
            return
        self._launched.add(request.client_token)
        for block in self._blocks:
            if block.until > self._now() and block.covers(request.offer):
                raise InvariantViolation(f"5: launched {request.offer.instance_type.name} despite {block.reason}")

    def intended(self, store: Store, requests: Sequence[LaunchRequest], slots: int) -> None:
        """4: check that the tasks need each new instance, before its intent is written."""
        open_slots = sum(
            record.slots for record in store.instances() if record.ended_at is None and not self._is_draining(record)
        )
        remaining = store.remaining()
        for request in requests:
            if open_slots >= remaining:
                raise InvariantViolation(f"4: another instance for {remaining} tasks with {open_slots} slots")
            open_slots += slots
            self._intents.add(request.client_token)
            self._unanswered[request.client_token] = float(request.offer.price_per_hour.usd)

    def _is_draining(self, record: InstanceRecord) -> bool:
        """Return whether the worker of an instance takes no more tasks."""
        if record.deadline is None:
            return False
        policy = Policy(limits=self._scenario.limits, max_runtime=self._scenario.max_runtime)
        deadline = record.current_deadline or record.deadline
        return self._job_time() >= record.began_at + policy.drain_after(deadline - record.began_at)

    def applied(self, events: Sequence[Event]) -> None:
        """Note committed events."""
        self._committed.update(event.event_id for event in events)

    def ending(self, instance_id: str) -> None:
        """2: check that an instance is not taken for gone while it runs."""
        instance = None if self.cloud is None else self.cloud.all_instances.get(instance_id)
        if instance is not None and instance.is_alive:
            raise InvariantViolation(f"2: {instance_id} is recorded as ended, and runs")

    def reopened(self, count: int) -> None:
        """Note finished tasks that run again."""
        self._finished -= count

    def written(self, counts: Mapping[TaskStatus, int]) -> None:
        """1: check after each write that every task has one status, and that finished tasks stay finished."""
        self.checks += 1
        if sum(counts.values()) != self._scenario.tasks:
            raise InvariantViolation(f"1: the counts {dict(counts)} do not add up to {self._scenario.tasks}")
        finished = sum(counts[status] for status in FINAL_STATUSES)
        if finished < self._finished:
            raise InvariantViolation(f"1: {self._finished} tasks were finished, now {finished} are")
        self._finished = finished

    def terminated(self, instance: CloudInstance, by_rival: bool) -> None:
        """9: check that a controller does not terminate an instance of another owner."""
        if instance.is_rival is not by_rival:
            raise InvariantViolation(f"9: {instance.instance_id}, which another controller launched, was terminated")

    def aborted(self, reason: str) -> None:
        """8: check that the world gave cause for an abort."""
        assert self.cloud is not None
        # Without instances, a run waits for a new sign-in for `give_up_after` only.
        is_long = self._now() - self._refused_since > _SIGN_IN
        is_refused = "refused the credentials" in reason or (is_long and "refuses the controller" in reason)
        is_idle = is_refused and not any(self.cloud.ours())
        is_expired = self._scenario.faults.calls.credentials_expire and (is_idle or not self._has_sent)
        if not is_expired and not has_cause(
            reason,
            self._scenario,
            self.cloud,
            self._cost_limit,
            is_shared=self.is_shared,
            unseen=self.unseen,
            unanswered=self.booked_unanswered,
            unseen_price=self._unseen_price(),
        ):
            raise InvariantViolation(f"8: the run was aborted without a cause: {reason}")

    def marked_queued(self, task_ids: Collection[str]) -> None:
        unsent = set(task_ids) - self._sent_tasks
        if unsent:
            raise InvariantViolation(f"1: {min(unsent)} was marked as queued and never sent")

    def terminating(self, instance_id: str, reason: str) -> None:
        """6: check that an instance which sends heartbeats is not terminated for missing ones."""
        worker = self.workers.get(instance_id)
        if worker is None or self.is_shared or not reason.startswith("no heartbeat"):
            return
        assert self.cloud is not None
        instance = self.cloud.all_instances[instance_id]
        if self._waits(instance):
            raise InvariantViolation(f"6: {instance_id} terminated for missing heartbeats while it is pending")
        begin = instance.started_at if self._scenario.faults.launches.shows_pending else None
        age = self._now() - (begin or worker.created_at)
        if not worker.may_have_sent and age < _STARTUP_TIMEOUT - _MAX_WAIT:
            raise InvariantViolation(f"6: {instance_id} terminated for missing heartbeats {age} after its launch")
        if not worker.is_healthy:
            return
        # Its first event may not have arrived.
        if worker.first_sent is None or self._now() - worker.first_sent < self._scenario.event_wait + _DELIVERY:
            return
        quiet = self._now() - worker.last_sent
        if quiet < self._scenario.keepalive_interval + _MARGIN and self._could_hear(worker):
            raise InvariantViolation(
                f"6: {instance_id} terminated for missing heartbeats, it sent an event {quiet} ago"
            )

    def _could_hear(self, worker: SimulatedWorker) -> bool:
        """Return whether the queue gave the controller an event of a worker in time, or would have.

        The queue may have hidden all events since the time-out began: late ones, and those in answers of receive calls
        that were lost. No controller can distinguish that from silence. An event that has been applied, or that
        the queue held ready for longer than the time between two receive calls, is no such case.
        """
        now = self._now()
        for sent_at, body in worker.recent:
            if now - sent_at > _KEEPALIVE_TIMEOUT:
                continue
            readable_since = self.readable_since(body)
            is_kept_waiting = (
                readable_since is not None and now - readable_since > self._scenario.event_wait + _DELIVERY
            )
            if is_kept_waiting or self._committed.issuperset(self._ids_of[body]):
                return True
        return False

    # -- the end ---------------------------------------------------------------------------------------------------

    def all_gone(self) -> None:
        """2: check that no instance of the job is left after its confirmed end."""
        assert self.cloud is not None
        # An unmanaged instance created after the last listing, or shortly before, is in no listing and no record.
        known_by = self.cloud.listed_at - self._scenario.faults.listing_lag - _MARGIN * 12
        existing = self.cloud.existing()
        left = [
            m.instance_id
            for m in existing
            if m.is_ours or (m.unmanaged and m.created_at < known_by and not self.cloud.is_silent(m.offer.zone))
        ]
        if left:
            raise InvariantViolation(f"2: {left} still exist after the end")

    def check_outlived(self, died_at: datetime) -> bool:
        """10: check that no instance runs that has existed for too long since the controller died.

        Where the provider counts lifetimes from the start, one that was pending then begins its lifetime later. One
        that a preemption stopped does not run, and only a controller can delete it. Instances of unlimited lifetime end
        for their budget, if there is one, which invariant 3 checks.

        Returns:
            Whether any runs that is to end.
        """
        assert self.cloud is not None
        now, lifetime = self._now(), self._scenario.max_lifetime
        if lifetime is None and now - died_at > timedelta(days=1):
            return False
        longest = (lifetime or timedelta.max - _TIME_TO_GO) + _TIME_TO_GO
        from_start = self._scenario.faults.launches.shows_pending
        running = [
            i for i in self.cloud.ours() if not (i.state is InstanceState.STOPPED and i.end_cause is EndCause.PREEMPTED)
        ]
        for instance in running:
            began = max(died_at, instance.started_at or died_at) if from_start else died_at
            if now - began > longest and not self._waits(instance):
                raise InvariantViolation(f"10: {instance.instance_id} still exists {now - began} after its controller")
        return bool(running)

    def setup_failed(self, error: Exception) -> None:
        """8: check that no passing error of a termination ends the setup."""
        if "another operation is in progress" in str(error):
            raise InvariantViolation(f"8: the setup ended without a cause: {error}")

    def complete(self, store: Store) -> None:
        """1: check that every task is finished with a status that a worker reported, and is counted once."""
        counted = dict.fromkeys(TaskStatus, 0)
        for number in range(self._scenario.tasks):
            task_id = f"task-{number:07}"
            found = store.task(task_id)
            status = None if found is None else found[1]
            if status is None or status not in FINAL_STATUSES:
                raise InvariantViolation(f"1: {task_id} is {status} after the end")
            if status not in self._reported.get(task_id, ()):
                raise InvariantViolation(f"1: {task_id} is {status.value}, which no worker reported")
            counted[status] += 1
        if counted != dict(store.summary().counts):
            raise InvariantViolation(f"1: counted {counted}, the summary says {store.summary().counts}")
        if self._scenario.faults.broken_instances and not self._scenario.exit and counted[TaskStatus.EXITED]:
            raise InvariantViolation(
                f"7: {counted[TaskStatus.EXITED]} tasks failed on a broken instance and were not run elsewhere"
            )
        self._check_billing(store)

    def _check_billing(self, store: Store) -> None:
        """3: check that no recorded instance is billed for less time than it existed."""
        assert self.cloud is not None
        for record in store.instances():
            instance = self.cloud.all_instances.get(record.instance_id or "")
            if instance is None or record.launched_at is None or record.ended_at is None or instance.ended_at is None:
                continue
            booked = record.ended_at - booked_since(record, record.ended_at)
            end = instance.gone_at or instance.ended_at
            truth = end - (instance.started_at or end)
            slack = timedelta(seconds=1)
            if booked == timedelta(0) and record.pending_until is not None:
                # Canceled while it was pending, as far as the controller could see: it may have started since.
                slack = self._scenario.scaling_check_interval + _TIME_TO_GO
            if booked < truth - slack:
                raise InvariantViolation(f"3: {instance.instance_id} is billed for {booked}, it existed for {truth}")
