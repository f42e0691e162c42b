"""Simulation of a job's duration and cost: the controller's own decisions on simulated instances.

Real: `decide` with the job's own policy, limits and ranked offers, at every scaling check and after every refused
launch. Simulated: instances that boot, are refused, interrupted and billed by the second (`CloudModel`); slots that
start the next task as soon as they are free; task durations drawn from a distribution. A task is one entry of a heap,
without database, queue and messages, so that millions of tasks take seconds. Not simulated: failed attempts, the time
between two tasks, network outages.

Invariants, each with a test:

1. The same seed gives the same result.
2. Every task is completed once, also if its instance is interrupted; a slot runs one task at a time.
3. Duration and cost agree with the tests' simulated cloud, which runs the whole controller message by message.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import attrs

from cloud_tasks.controller import (
    Abort,
    Action,
    Block,
    Drain,
    FailedInstances,
    Finish,
    FleetInstance,
    Launch,
    MarkEnded,
    Observation,
    Policy,
    Terminate,
    decide,
)
from cloud_tasks.errors import RefusalScope
from cloud_tasks.estimate.cloud_model import CloudModel, SimulatedInstance
from cloud_tasks.estimate.durations import TaskDurations
from cloud_tasks.model import InstanceState, Money
from cloud_tasks.selection import RankedOffer

__all__ = ["CostResult", "CostSimulation"]

_START = datetime(2026, 1, 1, tzinfo=UTC)
_LAUNCH_CALL = 3.0
"""Seconds that one launch call takes."""
_RETRY_AFTER = timedelta(minutes=5)
"""Time for which a refused offer is avoided."""
_RUNNING = InstanceState.RUNNING
_NEVER = float("inf")
_MAX_DURATION = 20 * 365.25 * 86400.0


@attrs.frozen(kw_only=True)
class CostResult:
    """Result of one simulated run."""

    duration: timedelta
    """Time from the start to the end of the last task, or to the abort."""
    cost: Money
    instances: int
    """Instances launched."""
    interrupted_instances: int
    """Spot instances interrupted."""
    interrupted_attempts: int
    """Attempts interrupted, each followed by another."""
    stopped: str = ""
    """Why the controller aborted the run; empty if every task was completed."""


@attrs.define(kw_only=True, eq=False)
class _Instance(SimulatedInstance[float]):
    """A simulated instance and its slots; times in seconds."""

    number: int
    free: list[int]
    """Idle slots."""
    running: dict[int, float] = attrs.field(factory=dict)
    """Duration of the running task, by slot."""
    has_run: bool = False
    finished: int = 0
    idle_since: float | None = None
    drains_at: float = float("inf")
    """Time from which on its worker takes no more tasks; it ends when the running ones are completed."""
    deadline: float = float("inf")


class CostSimulation:
    """One run of one job.

    Args:
        tasks: Number of tasks.
        interval: Time between two scaling checks.
        parallel_launches: Maximum number of launch calls at a time.
        batch_size: Number of tasks that each simulated task represents; their durations are drawn together.
    """

    def __init__(
        self,
        seed: int,
        *,
        tasks: int,
        durations: TaskDurations,
        offers: tuple[RankedOffer, ...],
        policy: Policy,
        interval: timedelta,
        cloud: CloudModel,
        parallel_launches: int = 10,
        batch_size: int = 1,
    ) -> None:
        # The names are part of the seed: changing them changes every result.
        self._rng = random.Random(f"rehearsal/{seed}")
        self._draw = durations.draws(random.Random(f"times/{seed}"), batch_size)
        self._total = -(-tasks // batch_size)
        self._batch_size = batch_size
        self._mean = timedelta(seconds=durations.mean)
        self._offers = offers
        self._policy = policy
        self._interval = interval.total_seconds()
        self._cloud = cloud
        self._parallel_launches = parallel_launches
        self._now = 0.0
        self._waiting = self._total
        self._interrupted: list[float] = []
        self._done = 0
        self._last_end: float | None = None
        self._ends: list[tuple[float, int, int]] = []
        """Heap of task ends: time, instance number, slot."""
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = itertools.count()
        self._instances: list[_Instance] = []
        self._alive: dict[int, _Instance] = {}
        self._blocks: list[Block] = []
        self._ended: list[float] = []
        self._last_preemption: datetime | None = None
        """Creation times of the instances that ended since the last task was completed."""
        self._ever_ran = False
        self._draining = False
        self._surplus_since: datetime | None = None
        self._spent = Money.zero()
        self._interrupted_instances = self._interrupted_attempts = 0
        self._stopped = ""

    def run(self) -> CostResult:
        """Simulate from the first scaling check to the end of the last task."""
        check = 0.0
        while self._done < self._total and not self._stopped:
            due = self._agenda[0][0] if self._agenda else _NEVER
            has_idle_slot = self._work(min(due, check), stop_when_idle=check == _NEVER)
            if self._done == self._total:
                break
            if has_idle_slot:
                check = self._check_after(self._now)
            elif due <= check:
                self._now, _, callback = heapq.heappop(self._agenda)
                callback()
                # The controller sees every event at its next regular check.
                check = min(check, self._check_after(self._now))
            else:
                self._now = check
                check = self._next_check() if self._check() else self._check_after(self._now)
            if self._now >= _MAX_DURATION:
                self._stopped = "the job would take longer than 20 years"
        end = self._now
        for instance in list(self._alive.values()):
            self._end(instance, end + self._cloud.draw_stop_time(self._rng))
        return CostResult(
            duration=timedelta(seconds=end),
            cost=self._spent,
            instances=len(self._instances),
            interrupted_instances=self._interrupted_instances,
            interrupted_attempts=self._interrupted_attempts * self._batch_size,
            stopped=self._stopped,
        )

    # -- tasks -----------------------------------------------------------------------------------------------------

    def _work(self, until: float, *, stop_when_idle: bool) -> bool:
        """Complete tasks up to a time; return True if ``stop_when_idle`` is set and a slot became idle before."""
        ends, instances = self._ends, self._instances
        while ends and ends[0][0] <= until:
            end, number, slot = ends[0]
            instance = instances[number]
            self._done += 1
            instance.finished += 1
            self._now = self._last_end = end
            if self._waiting and instance.state is _RUNNING and end < instance.drains_at:
                self._waiting -= 1
                duration = self._interrupted.pop() if self._interrupted else self._draw()
                instance.running[slot] = duration
                heapq.heapreplace(ends, (end + duration, number, slot))
                continue
            heapq.heappop(ends)
            del instance.running[slot]
            instance.free.append(slot)
            if not instance.running:
                instance.idle_since = end
                if end >= instance.drains_at:
                    self._end(instance, end)
            if stop_when_idle or self._done == self._total:
                return stop_when_idle
        return False

    def _start_tasks(self, instance: _Instance) -> None:
        """Start tasks on its free slots."""
        if self._now >= instance.drains_at:
            return
        while self._waiting and instance.free:
            self._waiting -= 1
            slot = instance.free.pop()
            duration = self._interrupted.pop() if self._interrupted else self._draw()
            instance.running[slot] = duration
            heapq.heappush(self._ends, (self._now + duration, instance.number, slot))

    # -- instances -------------------------------------------------------------------------------------------------

    def _later(self, delay: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self._now + delay, next(self._sequence), callback))

    def _launch(self, ranked: RankedOffer, count: int, lifetime: timedelta | None) -> bool:
        """Launch instances until one is refused; return whether one was."""
        for index in range(count):
            if self._cloud.draw_refusal(self._rng):
                until = self._datetime() + _RETRY_AFTER
                block = Block(scope=RefusalScope.OFFER, offer=ranked.offer, until=until, reason="no capacity")
                self._blocks.append(block)
                return True
            wait = (index // self._parallel_launches) * _LAUNCH_CALL
            boot = self._cloud.draw_boot_time(self._rng)
            instance = _Instance(
                offer=ranked.offer,
                slots=ranked.slots,
                created_at=self._now + wait,
                number=len(self._instances),
                free=list(range(ranked.slots)),
            )
            self._instances.append(instance)
            self._alive[instance.number] = instance
            self._later(wait + boot, lambda instance=instance: self._boot(instance))  # type: ignore[misc]
            interruption = self._cloud.draw_lifetime(self._rng, ranked.offer)
            if interruption is not None:
                self._later(wait + interruption, lambda instance=instance: self._interrupt(instance))  # type: ignore[misc]
            if lifetime is not None:
                instance.deadline = self._now + lifetime.total_seconds()
                age = self._policy.drain_after(lifetime).total_seconds()
                instance.drains_at = self._now + age
                self._later(age, lambda instance=instance: self._drain(instance))  # type: ignore[misc]
                self._later(lifetime.total_seconds(), lambda instance=instance: self._end(instance, self._now))  # type: ignore[misc]
        return False

    def _boot(self, instance: _Instance) -> None:
        if instance.boot():
            instance.has_run = self._ever_ran = True
            instance.idle_since = self._now
            self._start_tasks(instance)

    def _drain(self, instance: _Instance) -> None:
        """End an instance whose worker takes no more tasks, once it has none."""
        if instance.state is _RUNNING and not instance.running:
            self._end(instance, self._now)

    def _interrupt(self, instance: _Instance) -> None:
        if instance.ended_at is None:
            self._interrupted_instances += 1
            self._end(instance, self._now)

    def _terminate(self, instance: _Instance) -> None:
        if instance.stop():
            self._interrupt_tasks(instance)
            self._later(self._cloud.draw_stop_time(self._rng), lambda: self._end(instance, self._now))

    def _interrupt_tasks(self, instance: _Instance) -> None:
        """Requeue the running tasks of an instance; they start over on another."""
        durations = list(instance.running.values())
        instance.running.clear()
        self._interrupted_attempts += len(durations)
        if not self._draining:
            self._waiting += len(durations)
            self._interrupted += durations
        if durations:
            self._ends = [entry for entry in self._ends if entry[1] != instance.number]
            heapq.heapify(self._ends)
            for other in self._alive.values():
                if other.state is _RUNNING:
                    self._start_tasks(other)

    def _end(self, instance: _Instance, when: float) -> None:
        if instance.end(when):
            self._interrupt_tasks(instance)
            self._spent += instance.cost(when)

    # -- the controller --------------------------------------------------------------------------------------------

    def _datetime(self, at: float | None = None) -> datetime:
        return _START + timedelta(seconds=self._now if at is None else at)

    def _check_after(self, at: float) -> float:
        return (at // self._interval + 1) * self._interval

    def _next_check(self) -> float:
        """Return the time of the next check that can lead to an action, after one without any."""
        alive = self._alive.values()
        slots = sum(instance.slots for instance in alive)
        limited = self._policy.limits.max_total_cost is not None
        if (
            limited
            or self._blocks
            or self._waiting <= slots
            or any(instance.ended_at is not None for instance in alive)
        ):
            return self._check_after(self._now)
        return _NEVER

    def _check(self) -> bool:
        """Observe, decide and act; return whether no action was called for."""
        while True:
            actions = decide(self._observe())
            refused = False
            for action in actions:
                refused |= self._act(action)
            if not refused:
                return not actions

    def _act(self, action: Action) -> bool:
        """Carry out an action; return whether a launch was refused."""
        match action:
            case Launch(ranked=ranked, count=count, lifetime=lifetime):
                return self._launch(ranked, count, lifetime)
            case Terminate(instance_id=instance_id):
                self._terminate(self._instances[int(instance_id)])
            case MarkEnded(instance_id=instance_id):
                ended = self._alive.pop(int(instance_id))
                self._ended.append(ended.created_at)
                self._last_preemption = self._datetime()
            case Drain():
                self._draining = True
                self._waiting = 0
            case Abort(reason=reason):
                self._stopped = reason
            case Finish():
                pass
        return False

    def _observe(self) -> Observation:
        now = self._datetime()
        self._blocks = [block for block in self._blocks if block.until > now]
        fleet = tuple(self._observe_instance(instance) for instance in self._alive.values())
        remaining = self._total - self._done
        slots = sum(instance.slots for instance in fleet)
        # A simulated task fills as many slots as it represents tasks.
        if slots <= remaining * self._batch_size:
            self._surplus_since = None
        elif self._surplus_since is None:
            self._surplus_since = now
        self._ended = [created for created in self._ended if self._last_end is None or created > self._last_end]
        return Observation(
            now=now,
            policy=self._policy,
            remaining=remaining * self._batch_size,
            all_loaded=True,
            fleet=fleet,
            offers=self._offers,
            blocks=tuple(self._blocks),
            events_read_since=_START,
            accrued_cost=self._accrued(),
            task_time=self._mean if self._done else None,
            any_heartbeat=self._ever_ran,
            # Only preemption ends a simulated instance.
            failed_instances=FailedInstances(preempted=len(self._ended), last_end=self._last_preemption),
            tasks_finished=self._done * self._batch_size,
            surplus_since=self._surplus_since,
            draining=self._draining,
        )

    def _accrued(self) -> Money:
        if self._policy.limits.max_total_cost is None:
            return self._spent
        alive = self._alive.values()
        return sum((instance.cost(self._now) for instance in alive if instance.ended_at is None), self._spent)

    def _observe_instance(self, instance: _Instance) -> FleetInstance:
        offer = instance.offer
        idle = instance.idle_since is not None and not instance.running
        busy_until = instance.idle_since if idle else self._now if instance.running else None
        return FleetInstance(
            client_token=str(instance.number),
            instance_id=str(instance.number),
            state=instance.state,
            vcpus=offer.instance_type.vcpus,
            slots=instance.slots,
            price_per_hour=offer.price_per_hour,
            launched_at=self._datetime(instance.created_at),
            zone=offer.zone,
            deadline=None if instance.deadline == _NEVER else self._datetime(instance.deadline),
            last_heartbeat=self._datetime() if instance.has_run else None,
            running_tasks=len(instance.running),
            tasks_finished=instance.finished * self._batch_size,
            last_busy=None if busy_until is None else self._datetime(busy_until),
        )
