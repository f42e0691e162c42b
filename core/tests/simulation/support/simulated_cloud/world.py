"""`World`: queues, cloud and workers around a simulated controller, with their faults."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import cast

import attrs
from virtual_loop import START, VirtualLoop

from cloud_tasks.controller.setup.offers import fit_disk
from cloud_tasks.convert import encode_events
from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Event, EventType
from cloud_tasks.plugin import Queue
from cloud_tasks.selection import RankedOffer, rank
from cloud_tasks.store import JobClock
from simulated_cloud.catalogue import make_prices
from simulated_cloud.cloud import CloudInstance, EndCause, SimulatedCloud
from simulated_cloud.dials.calls import Obstacles
from simulated_cloud.faults import CALM
from simulated_cloud.monitor import Monitor
from simulated_cloud.queue import SimulatedQueue
from simulated_cloud.scenario import Scenario
from simulated_cloud.unreliable import Unreliable
from simulated_cloud.watched import REFUSED
from simulated_cloud.worker import SimulatedWorker

__all__ = ["World"]

_CHECK_INTERVAL = timedelta(minutes=5)

_HOSTILE = '{"event_type": "task_completed", "timestamp": "2026-01-01T00:00:00", "task_id": "no such task", '
_GARBAGE = (
    b"\xff\xfe",
    b"{",
    b"42",
    b"[" * 20_000,
    b'[{"event_type": "task_completed"}]',
    b'[{"event_type": "no such"}, 7]',
    *(
        f"[{_HOSTILE}{fields}}}]".encode()
        for fields in (
            '"attempt": Infinity',
            '"attempt": 9223372036854775807, "retry": true',
            '"instance_id": {"a": 1}, "event_id": "\\ud800", "hostname": "\\udcff"',
            '"elapsed_time": NaN',
            f'"result": {"[" * 1500}{"]" * 1500}',
            '"timestamp": "9999-12-31T23:59:59-23:59"',
            '"run_id": "other"',
        )
    ),
)


class World:
    """One cloud with its queues, under one virtual clock, checked by one monitor.

    Args:
        on_interrupt: Called for Ctrl-C, with the user's answer: T, L or C.
        on_unmanaged: Called when an unmanaged instance with the job's label is to appear.
        on_rival: Called when another controller of the job is to launch its instances.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        job_id: str,
        on_interrupt: Callable[[str], None],
        on_unmanaged: Callable[[], None],
        on_rival: Callable[[], None],
    ) -> None:
        self.scenario = self._scenario = scenario
        self._on_interrupt = on_interrupt
        self._on_unmanaged = on_unmanaged
        self._on_rival = on_rival
        self.faults = faults = scenario.faults
        self.steps = 0
        latency = self.rng("latency")
        mean = scenario.latency.total_seconds()
        self.loop = VirtualLoop(
            latency=lambda: timedelta(seconds=latency.expovariate(1 / mean)), after_step=self._after_step
        )
        self.monitor = monitor = Monitor(scenario, self.loop.now)
        self._obstacles = Obstacles(self.rng("obstacles"), self._elapsed, lambda: self.faults.calls, self.loop.charge)
        self._garbage = self.rng("garbage")
        self._down_until = START
        self._asleep_until = START
        self._locked_until = START
        self.tasks = SimulatedQueue(
            self.loop, self.rng("tasks"), faults, lease=scenario.lease, exact_depth=scenario.exact_depth
        )
        self.events = SimulatedQueue(
            self.loop, self.rng("events"), faults, lease=scenario.lease, on_ack=monitor.acked_events
        )
        self.cloud = SimulatedCloud(
            self.loop,
            self.rng("cloud"),
            faults,
            job_id=job_id,
            make_program=self._make_worker,
            on_launch=monitor.launching,
            on_change=monitor.changed,
            on_charge=monitor.charged,
            on_terminate=monitor.terminated,
            is_open=self._obstacles.is_open,
            skew=faults.clocks.cloud,
        )
        monitor.cloud, monitor.readable_since = self.cloud, self.events.readable_since
        self.prices = make_prices(lambda: self.cloud.faults.money, self._elapsed)
        """Prices requests at the present, as `cloud_tasks.plugin.Pricing.price` does."""
        self._check_silent_instances()
        self._make_proxies()
        self._schedule_disturbances()
        if (interval := faults.money.price_interval) is not None:
            self.loop.later(interval, lambda: self._move_prices(interval))

    def rng(self, name: str) -> random.Random:
        """Return the random generator of one part, independent of the others."""
        return random.Random(f"{name}/{self._scenario.seed}")

    def _elapsed(self) -> timedelta:
        return self.loop.now() - START

    def job_clock(self) -> JobClock:
        """Return the clock of a controller that starts now, on a machine that never boots again."""
        clocks = self._scenario.faults.clocks
        return JobClock(
            ticks=lambda: self._elapsed().total_seconds(),
            wall=lambda: (self.loop.now() + clocks.of_controller(self._elapsed())).timestamp(),
            boot=lambda: "this boot",
        )

    def repair(self) -> None:
        """End what lasts until the user repairs it after the end of a run."""
        self._obstacles.repair()

    def _after_step(self) -> None:
        self.steps += 1
        self.monitor.check_limits()

    def _make_proxies(self) -> None:
        """Make the proxies for the controller and for the workers; each fails independently."""
        faults, obstacles = self.faults, self._obstacles
        of_queue, of_worker = self._queue_obstacle, self._outage_error
        self.task_calls = Unreliable(self.tasks, self.rng("task calls"), faults, obstacle=of_queue)
        self.event_calls = Unreliable(self.events, self.rng("event calls"), faults, obstacle=of_queue)
        self.cloud_calls = Unreliable(
            self.cloud, self.rng("cloud calls"), faults, obstacle=obstacles.of_controller, never=("note_zones",)
        )
        self._worker_task_calls = Unreliable(
            self.tasks, self.rng("worker task calls"), faults, obstacle=of_worker, never=("extend", "release")
        )
        self._worker_event_calls = Unreliable(self.events, self.rng("worker event calls"), faults, obstacle=of_worker)

    def _queue_obstacle(self, name: str) -> Exception | None:
        return self._outage_error(name) or self._obstacles.of_controller(name)

    def _outage_error(self, name: str) -> Exception | None:
        is_down = self.loop.now() < self._down_until
        return ProviderError(f"{name}: the service is unavailable", transient=True) if is_down else None

    # -- workers ---------------------------------------------------------------------------------------------------

    def _make_worker(self, instance: CloudInstance) -> SimulatedWorker:
        own = self.rng(f"machine/{instance.instance_id}")
        tasks, events, launched = self._worker_task_calls, self._worker_event_calls, self._elapsed()
        if own.random() < self.faults.calls.worker_share:
            tasks, events = (
                Unreliable(
                    inner,
                    own,
                    CALM,
                    obstacle=lambda name: self._obstacles.of_worker(name, launched),
                    never=("extend", "release"),
                )
                for inner in (tasks, events)
            )
        worker = SimulatedWorker(
            self.loop,
            self.rng(f"worker/{instance.instance_id}"),
            self._scenario,
            instance,
            faults=lambda: self.faults,
            tasks=cast(Queue, tasks),
            events=cast(Queue, events),
            on_sending=self._sending,
            power_off=lambda: self.cloud.end(instance, EndCause.POWERED_OFF),
            skew=self._scenario.faults.clocks.of_worker(own),
        )
        self.monitor.workers[instance.instance_id] = worker
        return worker

    def _sending(self, events: Sequence[Event], body: bytes, event_ids: Sequence[str]) -> None:
        self.monitor.sending(events)
        self.monitor.carried(body, event_ids)
        if not self.events.exists():
            return
        if self._garbage.random() < self.faults.garbage:
            self.events.send([self._garbage.choice(_GARBAGE)])
        if self._garbage.random() < self.faults.refused_events:
            at = self.loop.now()
            refused = Event(event_id=f"{REFUSED}{at}", event_type=EventType.KEEP_ALIVE, timestamp=at)
            self.events.send([encode_events([refused, refused])])

    def rank(self) -> tuple[RankedOffer, ...]:
        """Return the offers of the catalogue at present prices."""
        scenario, types = self._scenario, self.cloud.instance_types()
        constraints, limits = fit_disk(scenario.constraints, scenario.faults.money.image), scenario.limits
        return rank(types, constraints, limits, self.prices, spot_fallback=scenario.spot_fallback).offers

    def _move_prices(self, interval: timedelta) -> None:
        self.cloud.prices_moved()
        self.loop.later(interval, lambda: self._move_prices(interval))

    def _check_silent_instances(self) -> None:
        self.monitor.check_silent_instances()
        self.loop.later(_CHECK_INTERVAL, self._check_silent_instances)

    # -- disturbances ----------------------------------------------------------------------------------------------

    def _schedule_disturbances(self) -> None:
        rng, faults = self.rng("disturbances"), self.faults
        span = self._scenario.busy_time
        for _ in range(faults.outages):
            self.loop.later(span * rng.random(), lambda: self._outage(rng.uniform(1, 20)))
        for _ in range(faults.sleeps):
            self.loop.later(span * rng.random(), lambda: self._sleep(rng.uniform(1, 60)))
        locks = self.rng("database locks")
        for _ in range(faults.database_locks):
            self.loop.later(span * locks.random(), lambda: self._lock(locks.uniform(0.01, 20)))
        for _ in range(faults.interrupts):
            answer = rng.choice("TLC")
            self.loop.later(span * rng.random(), lambda answer=answer: self._on_interrupt(answer))  # type: ignore[misc]
        for _ in range(faults.unmanaged_instances):
            self.loop.later(span * rng.random(), self._on_unmanaged)
        if faults.parties.rivals:
            self.loop.later(faults.parties.rival_after, self._on_rival)

    def _outage(self, minutes: float) -> None:
        self._down_until = self.loop.now() + timedelta(minutes=minutes)

    def _lock(self, minutes: float) -> None:
        self._locked_until = self.loop.now() + timedelta(minutes=minutes)

    def is_database_locked(self) -> bool:
        """Return whether another program has locked the job database."""
        return self.loop.now() < self._locked_until

    def _sleep(self, minutes: float) -> None:
        self._asleep_until = self.loop.now() + timedelta(minutes=minutes)

    def asleep_until(self) -> datetime:
        """Return when the controller's computer wakes up, or last woke up."""
        return self._asleep_until

    def calm(self) -> None:
        """Stop all faults."""
        self.faults = CALM
        self._locked_until = START
        for queue in (self.tasks, self.events):
            queue.faults = CALM
        # Its types and its listings stay what they are, and its prices change no more.
        money, launches = self.cloud.faults.money, self.cloud.faults.launches
        self.cloud.faults = attrs.evolve(
            CALM,
            money=attrs.evolve(money, price_interval=None),
            launches=attrs.evolve(
                CALM.launches, shows_pending=launches.shows_pending, names_times=launches.names_times
            ),
        )
        proxies = (self.task_calls, self.event_calls, self.cloud_calls, self._worker_task_calls)
        for proxy in (*proxies, self._worker_event_calls):
            proxy.faults = CALM
