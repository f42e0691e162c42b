"""`Simulation`: one job in one simulated cloud, from its first task to its end, through all crashes."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import attrs

from cloud_tasks.controller.beginning import go_on, start_afresh
from cloud_tasks.controller.collect import Collector
from cloud_tasks.controller.controller import Controller, Outcome
from cloud_tasks.controller.feed import Feeder
from cloud_tasks.controller.fleet import Fleet
from cloud_tasks.controller.observation import Policy
from cloud_tasks.convert import encode_task_message
from cloud_tasks.errors import LaunchRefused, ProviderError
from cloud_tasks.model import Event, LaunchRequest, Money, Task, TaskMessage
from cloud_tasks.plugin import Compute, Queue
from cloud_tasks.selection import RankedOffer, rank
from cloud_tasks.store import JobRecord, Store
from cloud_tasks.testing.simulation.catalogue import catalogue, prices
from cloud_tasks.testing.simulation.cloud import Machine, SimulatedCloud
from cloud_tasks.testing.simulation.loop import CrashableLoop, CrashPoints, Pointed, SimulatedCrash, WorldEnded
from cloud_tasks.testing.simulation.monitor import InvariantViolation, Monitor, WatchedStore
from cloud_tasks.testing.simulation.queue import SimulatedQueue
from cloud_tasks.testing.simulation.scenario import CALM, Scenario
from cloud_tasks.testing.simulation.unreliable import Unreliable
from cloud_tasks.testing.simulation.worker import SimulatedWorker
from cloud_tasks.testing.virtual import START, VirtualLoop

__all__ = ["Parts", "Simulation", "SimulationResult"]

JOB_ID = "simulated"

_PATIENCE = timedelta(days=1)
"""After which the world is freed of all faults, so that the job can only end."""
_END = timedelta(days=3)
_RUNS = 12
"""How often a job is continued after it ended without being complete; the last time without faults."""


@attrs.frozen(kw_only=True)
class Parts:
    """The classes of the controller under test; a test plants a defect by giving another."""

    collector: type[Collector] = Collector
    fleet: type[Fleet] = Fleet
    feeder: type[Feeder] = Feeder


@attrs.frozen(kw_only=True)
class SimulationResult:
    """What became of a job in which every invariant held."""

    seed: int
    tasks: int
    outcomes: tuple[Outcome, ...]
    """Of each run that ended; crashed runs are not among them."""
    crashes: tuple[str, ...]
    """Where the controller was killed."""
    duration: timedelta
    cost: Money
    instances: int
    steps: int
    crash_points: int
    """Places at which the controller could have been killed."""


class Simulation:
    """One job.

    Args:
        folder: Where its database is kept.
        parts: The controller's classes.
        crash_after: Crash once, after so many of the places at which a crash may happen; None: as the faults say.
        offers: What can be bought, best first; None: what the scenario's constraints leave of the catalogue.
    """

    def __init__(
        self,
        scenario: Scenario,
        folder: Path,
        *,
        parts: Parts | None = None,
        crash_after: int | None = None,
        offers: tuple[RankedOffer, ...] | None = None,
    ) -> None:
        self._given_offers = offers
        self._scenario = scenario
        self._path = folder / f"simulated-{scenario.seed}.db"
        self._parts = parts or Parts()
        self._faults = scenario.faults
        self._steps = 0
        latency = self._rng("latency")
        mean = scenario.latency.total_seconds()
        self._world = VirtualLoop(
            latency=lambda: timedelta(seconds=latency.expovariate(1 / mean)), after_step=self._after_step
        )
        self.monitor = Monitor(scenario, self._world.now)
        crashes = scenario.faults.crashes if crash_after is None else 1
        self._points = CrashPoints(self._rng("crashes"), crashes, first=crash_after)
        self._asleep_until = START
        self._down_until = START
        self._deadline = START + _PATIENCE
        self._refusals: dict[int, LaunchRequest] = {}
        self._limits = scenario.limits
        self._reason = ""
        self.console_log = ""
        """The last one that a controller fetched when it gave up."""
        self._build()

    def _rng(self, name: str) -> random.Random:
        return random.Random(f"{name}/{self._scenario.seed}")

    def _after_step(self) -> None:
        self._steps += 1
        self.monitor.check_limits()

    # -- the world -------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        scenario, monitor = self._scenario, self.monitor
        garbled = self._rng("garbage")
        self._tasks = SimulatedQueue(
            self._world, self._rng("tasks"), self._faults, lease=scenario.lease, exact_depth=scenario.exact_depth
        )
        self._events = SimulatedQueue(
            self._world, self._rng("events"), self._faults, lease=scenario.lease, on_ack=monitor.acked_events
        )
        self._cloud = SimulatedCloud(
            self._world,
            self._rng("cloud"),
            self._faults,
            job_id=JOB_ID,
            make_program=self._make_worker,
            on_launch=monitor.launching,
            on_change=monitor.changed,
        )
        monitor.cloud = self._cloud
        self._garbled = garbled
        is_down: Callable[[], bool] = lambda: self._world.now() < self._down_until  # noqa: E731
        self._fronts = [
            Unreliable(self._tasks, self._rng("task calls"), self._faults, is_down=is_down),
            Unreliable(self._events, self._rng("event calls"), self._faults, is_down=is_down),
            Unreliable(self._cloud, self._rng("cloud calls"), self._faults),
            Unreliable(
                self._tasks, self._rng("worker task calls"), self._faults, is_down=is_down, never=("extend", "release")
            ),
            Unreliable(self._events, self._rng("worker event calls"), self._faults, is_down=is_down),
        ]
        self._plan_disturbances()

    def _plan_disturbances(self) -> None:
        rng, faults = self._rng("disturbances"), self._faults
        span = self._scenario.mean_task_time * (self._scenario.tasks / 20) + timedelta(minutes=10)
        for _ in range(faults.outages):
            self._world.later(span * rng.random(), lambda: self._outage(rng.uniform(1, 20)))
        for _ in range(faults.sleeps):
            self._world.later(span * rng.random(), lambda: self._sleep(rng.uniform(1, 60)))
        for _ in range(faults.interrupts):
            answer = rng.choice("TLC")
            self._world.later(span * rng.random(), lambda answer=answer: self._interrupt(answer))  # type: ignore[misc]
        for _ in range(faults.strangers):
            self._world.later(span * rng.random(), self._stranger)

    def _outage(self, minutes: float) -> None:
        self._down_until = self._world.now() + timedelta(minutes=minutes)

    def _sleep(self, minutes: float) -> None:
        self._asleep_until = self._world.now() + timedelta(minutes=minutes)

    def _interrupt(self, answer: str) -> None:
        """Ctrl-C, and what the person says to the question."""
        controller = self._controller
        if controller is not None and answer != "C" and self._world.now() >= self._asleep_until:
            controller.stop(leave=answer == "L")

    def _stranger(self) -> None:
        # Only while a controller is there to find it: afterwards it is `sweep`'s to find.
        if self._controller_runs:
            self._cloud.add_stranger(self._offers[0].offer)

    def _make_worker(self, machine: Machine) -> SimulatedWorker:
        worker = SimulatedWorker(
            self._world,
            self._rng(f"worker/{machine.instance_id}"),
            self._scenario,
            machine,
            faults=lambda: self._faults,
            tasks=cast(Queue, self._fronts[3]),
            events=cast(Queue, self._fronts[4]),
            on_sending=self._sending,
            on_begin=self.monitor.begun,
            switch_off=lambda: self._cloud.end(machine),
        )
        self.monitor.workers[machine.instance_id] = worker
        return worker

    def _sending(self, events: Sequence[Event], body: bytes, event_ids: Sequence[str]) -> None:
        self.monitor.sending(events)
        self.monitor.carried(body, event_ids)
        if self._garbled.random() < self._faults.garbage:
            body = self._garbled.choice(
                (b"\xff\xfe", b"{", b"42", b'[{"event_type": "task_completed"}]', b'[{"event_type": "no such"}, 7]')
            )
            self._events.send([body])

    def _calm(self) -> None:
        """No fault any more."""
        self._faults = CALM
        for part in (self._tasks, self._events, self._cloud, *self._fronts):
            part.faults = CALM  # type: ignore[attr-defined]
        self._points.left = 0
        self._deadline = START + _END

    # -- the job ---------------------------------------------------------------------------------------------------

    def run(self) -> SimulationResult:
        """Run the job to its end, and check the end.

        Raises:
            InvariantViolation: The controller broke a promise.
        """
        scenario = self._scenario
        self._offers = (
            self._given_offers
            or rank(
                catalogue(), scenario.constraints, scenario.limits, prices, spot_fallback=scenario.spot_fallback
            ).offers
        )
        self._controller_runs = False
        self._controller: Controller | None = None
        self._path.unlink(missing_ok=True)
        if self._faults.earlier_run:
            self._leave_an_earlier_run()
        while not self.monitor.published:
            self._begin()
        outcomes: list[Outcome] = []
        while not outcomes or outcomes[-1] is not Outcome.COMPLETE:
            if len(outcomes) >= _RUNS:
                raise InvariantViolation(f"1: the job did not complete in {len(outcomes)} runs: {outcomes}")
            if len(outcomes) == _RUNS - 1:
                self._calm()
            outcome = self._run_once()
            if outcome is not None:
                outcomes.append(outcome)
            if outcome is Outcome.ABORTED and "max_total_cost" in self._reason:
                self._raise_cost_limit()
        return SimulationResult(
            seed=scenario.seed,
            tasks=scenario.tasks,
            outcomes=tuple(outcomes),
            crashes=tuple(self._points.log),
            duration=self._world.now() - START,
            cost=self._cloud.cost(),
            instances=len(self._cloud.machines),
            steps=self._steps,
            crash_points=self._points.passed,
        )

    def _leave_an_earlier_run(self) -> None:
        """What a person finds who starts the job a second time."""
        self._tasks.create()
        self._events.create()
        earlier = [TaskMessage(task_id=f"task-{n:07}", data={"earlier": n}) for n in range(self._scenario.tasks // 2)]
        self._tasks.send([encode_task_message(message) for message in earlier])
        self._cloud.add_stranger(self._offers[0].offer)

    def _begin(self) -> None:
        """Load the job and put it in its place, as a run does before its controller; killed in between, once more."""
        folder = self._path.parent
        record = JobRecord(job_id=JOB_ID, queue_name=JOB_ID, run_id="run", created_at=START)

        def pass_time() -> None:
            self._world.run_for(self._scenario.latency)

        def front(number: int) -> Any:
            return Pointed(self._fronts[number], self._points, pass_time)

        scratch = folder / f"loading-{self._scenario.seed}.db"
        try:
            with Store.create(scratch, record, overwrite=True, durable=False) as store:
                store.load_tasks(self._read_tasks())
                self._points("before publishing")
                start_afresh(store, self._path, job_id=JOB_ID, compute=front(2), tasks=front(0), events=front(1))
        except (SimulatedCrash, ProviderError):
            pass
        self.monitor.published = self._path.exists()

    def _read_tasks(self) -> Iterator[Task]:
        for n in range(self._scenario.tasks):
            if n % 100 == 0:
                self._points("while loading")
            yield Task(task_id=f"task-{n:07}", data={"n": n})

    def _raise_cost_limit(self) -> None:
        """As a person would who wants the job done."""
        limit = self._limits.max_total_cost
        assert limit is not None
        self.monitor.stopped_for_money(limit)
        self._limits = attrs.evolve(self._limits, max_total_cost=limit * 2 + self._cloud.cost())

    def _run_once(self) -> Outcome | None:
        """One life of the controller; None when it was killed."""
        loop = CrashableLoop(
            self._world,
            point=self._points,
            deadline=lambda: self._deadline,
            asleep_until=lambda: self._asleep_until,
            on_failure=self._call_failed,
        )
        self.monitor.restarted()
        with Store.open(self._path, job_id=JOB_ID, durable=False) as store:
            self._controller_runs = True
            try:
                self._go_on(store)
                self._controller = controller = self._make_controller(loop, store)
                outcome = self._live(controller)
                self._reason, self.console_log = controller.reason, controller.console_log or self.console_log
                self.monitor.was_left |= outcome is Outcome.LEFT
                if outcome is not Outcome.LEFT and controller.all_gone:
                    self.monitor.all_gone()
                elif outcome is not Outcome.LEFT and self._faults is CALM:
                    raise InvariantViolation("2: the controller gave up on instances although nothing went wrong")
                if outcome is Outcome.COMPLETE:
                    self.monitor.complete(store)
                return outcome
            except SimulatedCrash:
                pass
            finally:
                loop.alive = False
                self._controller_runs = False
                self._controller = None
        # A person takes a while to notice.
        self._world.run_for(timedelta(seconds=self._rng(f"away/{self._steps}").choice((1, 60, 600))))
        return None

    def _go_on(self, store: Store) -> None:
        """As a run does before its controller; where a call fails, the person tries again."""
        watched = cast(Store, WatchedStore(store, self.monitor, self._points))
        tasks, events = (Pointed(self._fronts[n], self._points, lambda: None) for n in (0, 1))
        while True:
            try:
                go_on(watched, tasks=cast(Queue, tasks), events=cast(Queue, events))
            except ProviderError:
                self._world.run_for(timedelta(seconds=30))
            else:
                return

    def _live(self, controller: Controller) -> Outcome:
        while True:
            try:
                return controller.run() if controller.outcome is Outcome.RUNNING else controller.outcome
            except WorldEnded:
                if self._faults is CALM:
                    raise InvariantViolation(f"1: the job did not end within {_END}") from None
                self._calm()
                raise SimulatedCrash("restarted in a calm world") from None

    def _call_failed(self, error: Exception) -> None:
        request = self._refusals.pop(id(error), None)
        if request is not None and isinstance(error, LaunchRefused):
            self.monitor.refusal_known(request, error)

    def _make_controller(self, loop: CrashableLoop, real_store: Store) -> Controller:
        scenario = self._scenario
        store = cast(Store, WatchedStore(real_store, self.monitor, self._points))
        holder: list[Controller] = []
        tasks = cast(Queue, _ControllerTasks(self._fronts[0], self.monitor))
        compute = cast(Compute, _ControllerCompute(self._fronts[2], self.monitor, self._refusals))
        feeder = self._parts.feeder(loop, store, tasks, on_broken=lambda reason: holder[0].broken(reason))
        collector = self._parts.collector(
            loop,
            store,
            cast(Queue, self._fronts[1]),
            on_events=lambda events: holder[0].noticed_events(),
            wait=scenario.event_wait,
        )
        fleet = self._parts.fleet(
            loop,
            store,
            compute,
            compose=self._compose,
            max_parallel=scenario.max_parallel_launches,
            on_refused=lambda: holder[0].refused(),
        )
        controller = Controller(
            loop,
            store,
            job_id=JOB_ID,
            task_queue=tasks,
            feeder=feeder,
            collector=collector,
            fleet=cast(Fleet, _WatchedFleet(fleet, self.monitor)),
            offers=self._offers,
            policy=Policy(
                limits=self._limits,
                termination_delay=scenario.instance_termination_delay,
                listing_lag=scenario.faults.listing_lag,
                canary=scenario.canary,
                spot_fallback=scenario.spot_fallback,
            ),
            interval=scenario.scaling_check_interval,
        )
        holder.append(controller)
        return controller

    def _compose(self, ranked: RankedOffer, others: Sequence[RankedOffer], token: str) -> LaunchRequest:
        return LaunchRequest(
            client_token=token,
            job_id=JOB_ID,
            offer=ranked.offer,
            startup_script="start the worker",
            labels={"slots": str(ranked.slots)},
            max_lifetime=self._scenario.max_lifetime,
        )


class _ControllerTasks:
    """The task queue as the controller calls it, told to the monitor."""

    def __init__(self, front: Unreliable, monitor: Monitor) -> None:
        self._front = front
        self._monitor = monitor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._front, name)

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Any:
        failures = self._front.send(bodies, delay=delay)
        self._monitor.took_tasks(bodies, {failure.index for failure in failures})
        return failures


class _WatchedFleet:
    """The fleet as the controller steers it while the job runs, told to the monitor."""

    def __init__(self, fleet: Fleet, monitor: Monitor) -> None:
        self._fleet = fleet
        self._monitor = monitor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fleet, name)

    def terminate(self, instance_id: str, reason: str) -> None:
        self._monitor.terminating(instance_id, reason)
        self._fleet.terminate(instance_id, reason)


class _ControllerCompute:
    """The cloud as the controller calls it, told to the monitor."""

    def __init__(self, front: Unreliable, monitor: Monitor, refusals: dict[int, LaunchRequest]) -> None:
        self._front = front
        self._monitor = monitor
        self._refusals = refusals

    def __getattr__(self, name: str) -> Any:
        return getattr(self._front, name)

    def launch(self, request: LaunchRequest) -> Any:
        self._monitor.launch_called(request)
        try:
            return self._front.launch(request)
        except LaunchRefused as error:
            self._refusals[id(error)] = request
            raise


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder in memory where the system has one: the simulation syncs its database thousands of times."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="cloud-tasks-simulation-", dir=memory if memory.is_dir() else None)
