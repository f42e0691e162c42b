"""A job rehearsed: the controller's own decisions over a model of its machines, fast enough for millions of tasks.

Real: `decide` with the job's own policy, limits and ranked offers, at every scaling interval and after every refusal.
Modelled: machines that boot, are refused, taken away and billed by the second; slots that take the next task the
moment they are free; task times drawn from a distribution. There is no database, no queue and no message: a task is one
step of a heap. Left out: failed attempts, the time between two tasks, network outages.

Invariants, each with a test:

1. The same seed gives the same result.
2. Every task is done once, what a vanished machine had begun included; no slot works on two at a time.
3. What it says agrees with the simulated cloud, which runs the whole controller message by message.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import attrs

from cloud_tasks.controller.decide import decide
from cloud_tasks.controller.observation import (
    Abort,
    Action,
    Block,
    Drain,
    Finish,
    FleetInstance,
    Launch,
    MarkEnded,
    Observation,
    Policy,
    Terminate,
)
from cloud_tasks.errors import RefusalScope
from cloud_tasks.estimate.durations import TaskDurations
from cloud_tasks.model import InstanceState, Money, Purchase
from cloud_tasks.selection import RankedOffer

__all__ = ["CloudModel", "CostResult", "CostSimulation"]

_BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
_ENDING = 15.0
"""Seconds that a machine is billed for after it was told to end."""
_LAUNCHING = 3.0
"""Seconds that one launch call takes."""
_BLOCKED = timedelta(minutes=5)
_NEVER = float("inf")
_LONGEST = 20 * 365.25 * 86400.0


@attrs.frozen(kw_only=True)
class CloudModel:
    """What the cloud is like."""

    boot_time: timedelta = timedelta(seconds=60)
    """Mean from the launch to the first task; each takes between half of it and one and a half."""
    spot_lifetime: timedelta | None = None
    """Mean time until a spot instance is taken away; None: never."""
    refused: float = 0.0
    """Probability that what is asked for is out of stock."""
    parallel_launches: int = 10


@attrs.frozen(kw_only=True)
class CostResult:
    duration: timedelta
    """From the start to the end of the last task, or to the stop."""
    cost: Money
    instances: int
    """Machines that were bought."""
    taken_away: int
    lost_tasks: int
    """Tasks that had to be begun again."""
    stopped: str = ""
    """Why the controller gave up; empty where every task was done."""


class _Machine:
    __slots__ = (
        "begun", "created", "ended", "finished", "free", "idle_since", "number", "ranked", "ready", "running",
        "terminating",
    )  # fmt: skip

    def __init__(self, number: int, ranked: RankedOffer, created: float, ready: float) -> None:
        self.number = number
        self.ranked = ranked
        self.created = created
        self.ready = ready
        self.ended: float | None = None
        self.running: dict[int, float] = {}
        """Slot to the duration of what it does."""
        self.free: list[int] = list(range(ranked.slots))
        self.begun = False
        self.finished = 0
        self.idle_since: float | None = None
        self.terminating = False


class CostSimulation:
    """One run of one job.

    Args:
        tasks: How many.
        batch_size: How many tasks each simulated one stands for; their times are drawn together.
    """

    def __init__(
        self,
        seed: int,
        *,
        tasks: int,
        times: TaskDurations,
        offers: tuple[RankedOffer, ...],
        policy: Policy,
        interval: timedelta,
        cloud: CloudModel,
        batch_size: int = 1,
    ) -> None:
        self._rng = random.Random(f"rehearsal/{seed}")
        self._draw = times.draws(random.Random(f"times/{seed}"), batch_size)
        self._total = -(-tasks // batch_size)
        self._batch_size = batch_size
        self._mean = timedelta(seconds=times.mean)
        self._offers = offers
        self._policy = policy
        self._interval = interval.total_seconds()
        self._cloud = cloud
        self._now = 0.0
        self._waiting = self._total
        self._again: list[float] = []
        self._done = 0
        self._last_end: float | None = None
        self._ends: list[tuple[float, int, int]] = []
        """When which slot of which machine has done its task."""
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = itertools.count()
        self._machines: list[_Machine] = []
        self._alive: dict[int, _Machine] = {}
        self._blocks: list[Block] = []
        self._gone: list[float] = []
        """When those were bought that went since a task was done."""
        self._failed_starts = 0
        self._ever_spoke = False
        self._draining = False
        self._surplus_since: datetime | None = None
        self._spent = Money.zero()
        self._taken = self._lost = 0
        self._stopped = ""

    def run(self) -> CostResult:
        """From the first look to the end of the last task."""
        look = 0.0
        while self._done < self._total and not self._stopped:
            due = self._agenda[0][0] if self._agenda else _NEVER
            ran_out = self._work(min(due, look), watch=look == _NEVER)
            if self._done == self._total:
                break
            if ran_out:
                look = self._look_after(self._now)
            elif due <= look:
                self._now, _, happens = heapq.heappop(self._agenda)
                happens()
                # Whatever happened, the controller sees it at its next regular look.
                look = min(look, self._look_after(self._now))
            else:
                self._now = look
                look = self._after_looks() if self._look() else self._look_after(self._now)
            if self._now >= _LONGEST:
                self._stopped = "it would take longer than twenty years"
        end = self._now
        for machine in list(self._alive.values()):
            self._end(machine, end + _ENDING)
        return CostResult(
            duration=timedelta(seconds=end),
            cost=self._spent,
            instances=len(self._machines),
            taken_away=self._taken,
            lost_tasks=self._lost * self._batch_size,
            stopped=self._stopped,
        )

    # -- the work --------------------------------------------------------------------------------------------------

    def _work(self, until: float, *, watch: bool) -> bool:
        """Let the slots work until then, or until all is done. True: with ``watch``, the tasks that wait ran out."""
        ends, machines = self._ends, self._machines
        while ends and ends[0][0] <= until:
            end, number, slot = ends[0]
            machine = machines[number]
            self._done += 1
            machine.finished += 1
            self._now = self._last_end = end
            if self._waiting and not machine.terminating:
                self._waiting -= 1
                span = self._again.pop() if self._again else self._draw()
                machine.running[slot] = span
                heapq.heapreplace(ends, (end + span, number, slot))
                continue
            heapq.heappop(ends)
            del machine.running[slot]
            machine.free.append(slot)
            if not machine.running:
                machine.idle_since = end
            if watch or self._done == self._total:
                return watch
        return False

    def _take(self, machine: _Machine) -> None:
        """Its free slots take tasks."""
        while self._waiting and machine.free and not machine.terminating:
            self._waiting -= 1
            slot = machine.free.pop()
            span = self._again.pop() if self._again else self._draw()
            machine.running[slot] = span
            heapq.heappush(self._ends, (self._now + span, machine.number, slot))

    # -- what happens to machines ----------------------------------------------------------------------------------

    def _later(self, delay: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self._now + delay, next(self._sequence), happens))

    def _launch(self, ranked: RankedOffer, count: int) -> bool:
        """Whether any was refused: the rest of the wave then is, too."""
        for index in range(count):
            if self._rng.random() < self._cloud.refused:
                until = self._moment() + _BLOCKED
                block = Block(scope=RefusalScope.OFFER, offer=ranked.offer, until=until, reason="out of stock")
                self._blocks.append(block)
                return True
            wait = (index // self._cloud.parallel_launches) * _LAUNCHING
            boot = self._cloud.boot_time.total_seconds() * self._rng.uniform(0.5, 1.5)
            machine = _Machine(len(self._machines), ranked, self._now + wait, self._now + wait + boot)
            self._machines.append(machine)
            self._alive[machine.number] = machine
            self._later(wait + boot, lambda machine=machine: self._boot(machine))  # type: ignore[misc]
            lifetime = self._cloud.spot_lifetime
            if ranked.offer.purchase is Purchase.SPOT and lifetime is not None:
                span = self._rng.expovariate(1 / lifetime.total_seconds())
                self._later(wait + span, lambda machine=machine: self._take_away(machine))  # type: ignore[misc]
        return False

    def _boot(self, machine: _Machine) -> None:
        if machine.ended is None and not machine.terminating:
            machine.begun = self._ever_spoke = True
            machine.idle_since = self._now
            self._take(machine)

    def _take_away(self, machine: _Machine) -> None:
        if machine.ended is None:
            self._taken += 1
            self._end(machine, self._now)

    def _terminate(self, machine: _Machine) -> None:
        if not machine.terminating:
            machine.terminating = True
            self._give_back(machine)
            self._later(_ENDING, lambda: self._end(machine, self._now))

    def _give_back(self, machine: _Machine) -> None:
        """What it had begun is begun again elsewhere."""
        lost = list(machine.running.values())
        machine.running.clear()
        self._lost += len(lost)
        if not self._draining:
            self._waiting += len(lost)
            self._again += lost
        if lost:
            self._ends = [entry for entry in self._ends if entry[1] != machine.number]
            heapq.heapify(self._ends)
            for other in self._alive.values():
                if other.begun and other.ended is None:
                    self._take(other)

    def _end(self, machine: _Machine, when: float) -> None:
        if machine.ended is None:
            machine.ended = when
            self._give_back(machine)
            hours = max(when - machine.created, 0.0) / 3600
            self._spent += machine.ranked.offer.price_per_hour * hours

    # -- the controller --------------------------------------------------------------------------------------------

    def _moment(self, at: float | None = None) -> datetime:
        return _BEGINNING + timedelta(seconds=self._now if at is None else at)

    def _look_after(self, at: float) -> float:
        return (at // self._interval + 1) * self._interval

    def _after_looks(self) -> float:
        """The next look at which anything could be decided, where this one decided nothing."""
        slots = sum(machine.ranked.slots for machine in self._alive.values())
        limited = self._policy.limits.max_total_cost is not None
        if limited or self._blocks or self._waiting <= slots or any(m.ended is not None for m in self._alive.values()):
            return self._look_after(self._now)
        return _NEVER

    def _look(self) -> bool:
        """Observe, decide, act; whether there was nothing to do."""
        while True:
            actions = decide(self._observe())
            refused = False
            for action in actions:
                refused |= self._act(action)
            if not refused:
                return not actions

    def _act(self, action: Action) -> bool:
        """Whether a launch was refused."""
        match action:
            case Launch(ranked=ranked, count=count):
                return self._launch(ranked, count)
            case Terminate(instance_id=instance_id):
                self._terminate(self._machines[int(instance_id)])
            case MarkEnded(instance_id=instance_id):
                gone = self._alive.pop(int(instance_id))
                self._gone.append(gone.created)
                self._failed_starts += not gone.begun
            case Drain():
                self._draining = True
                self._waiting = 0
            case Abort(reason=reason):
                self._stopped = reason
            case Finish():
                pass
        return False

    def _observe(self) -> Observation:
        now = self._moment()
        self._blocks = [block for block in self._blocks if block.until > now]
        fleet = tuple(self._seen(machine) for machine in self._alive.values())
        remaining = self._total - self._done
        slots = sum(machine.slots for machine in fleet)
        # Of what waits in lumps, each can fill as many slots as it has tasks.
        if slots <= remaining * self._batch_size:
            self._surplus_since = None
        elif self._surplus_since is None:
            self._surplus_since = now
        self._gone = [created for created in self._gone if self._last_end is None or created > self._last_end]
        return Observation(
            now=now,
            policy=self._policy,
            remaining=remaining * self._batch_size,
            all_loaded=True,
            fleet=fleet,
            offers=self._offers,
            blocks=tuple(self._blocks),
            listening_since=_BEGINNING,
            accrued_cost=self._accrued(),
            task_time=self._mean if self._done else None,
            ever_spoke=self._ever_spoke,
            failed_starts=self._failed_starts,
            futile=len(self._gone),
            tasks_finished=self._done * self._batch_size,
            surplus_since=self._surplus_since,
            draining=self._draining,
        )

    def _accrued(self) -> Money:
        if self._policy.limits.max_total_cost is None:
            return self._spent
        running = (m for m in self._alive.values() if m.ended is None)
        return sum(
            (m.ranked.offer.price_per_hour * (max(self._now - m.created, 0.0) / 3600) for m in running), self._spent
        )

    def _seen(self, machine: _Machine) -> FleetInstance:
        offer = machine.ranked.offer
        idle = machine.idle_since is not None and not machine.running
        busy_until = machine.idle_since if idle else self._now if machine.running else None
        state = InstanceState.RUNNING if machine.begun else InstanceState.STARTING
        if machine.ended is not None:
            state = InstanceState.TERMINATED
        elif machine.terminating:
            state = InstanceState.STOPPING
        return FleetInstance(
            client_token=str(machine.number),
            instance_id=str(machine.number),
            state=state,
            vcpus=offer.instance_type.vcpus,
            slots=machine.ranked.slots,
            price_per_hour=offer.price_per_hour,
            launched_at=self._moment(machine.created),
            zone=offer.zone,
            last_heard=self._moment() if machine.begun else None,
            running_tasks=len(machine.running),
            tasks_finished=machine.finished * self._batch_size,
            last_busy=None if busy_until is None else self._moment(busy_until),
        )
