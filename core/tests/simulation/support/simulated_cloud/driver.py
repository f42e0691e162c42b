"""`Simulation`: one job in one simulated cloud, from its start to its end, through all crashes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import attrs
from virtual_loop import START

from cloud_tasks.controller.controller import Controller, StopMode
from cloud_tasks.controller.launch.terminate import note_zones
from cloud_tasks.controller.setup.place import check_place
from cloud_tasks.controller.setup.resources import create_resources, resume_resources
from cloud_tasks.errors import LaunchRefusedError, PlaceError, ProviderError, StoreBusyError
from cloud_tasks.model import JobPhase, LaunchRequest, Money, Task
from cloud_tasks.plugin import Compute, Queue
from cloud_tasks.selection import RankedOffer
from cloud_tasks.store import JobRecord, Store
from simulated_cloud.assembly import Parts, make_controller
from simulated_cloud.faults import CALM
from simulated_cloud.loop import (
    CrashableLoop,
    CrashPoints,
    ErrorPoints,
    PlantedError,
    Pointed,
    SimulatedCrash,
    WorldEnded,
)
from simulated_cloud.monitor import InvariantViolation
from simulated_cloud.scenario import Scenario
from simulated_cloud.second import SecondController
from simulated_cloud.unreliable import Unreliable
from simulated_cloud.watched import WatchedStore
from simulated_cloud.worker import MEAN_OF_TASKS, slowness
from simulated_cloud.world import World

__all__ = ["Simulation", "SimulationResult"]

JOB_ID = "simulated"

_PLACE = {"compute region": "sim"}
_FAULTY_TIME = timedelta(hours=12)
"""Time after which all faults stop, so that the job can complete."""
_END = timedelta(days=7)
_STEP = timedelta(minutes=1)
"""Time between two looks at the instances that a controller has left for ever."""
_RUNS = 12
"""Maximum number of runs of a job; the last is without faults and limit on the total cost."""


@attrs.frozen(kw_only=True)
class SimulationResult:
    """Result of a job in which all invariants held."""

    seed: int
    tasks: int
    outcomes: tuple[JobPhase, ...]
    """Outcome of each run that ended; crashed runs excluded. Empty for a controller that never came back."""
    reasons: tuple[str, ...]
    """Reasons of the aborted runs."""
    crashes: tuple[str, ...]
    """Crash points at which the controller was killed."""
    duration: timedelta
    cost: Money
    instances: int
    steps: int
    crash_points: int
    """Number of crash points passed."""


class Simulation:
    """One job.

    Args:
        folder: Folder of its database.
        parts: The controller's classes.
        crash_after: Crash once, after this number of crash points; None: as drawn from the faults.
        offers: Ranked offers; None: those of the catalogue that satisfy the scenario's constraints.
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
        self._world = World(
            scenario,
            job_id=JOB_ID,
            on_interrupt=self._interrupt,
            on_unmanaged=self._add_unmanaged,
            on_rival=self._add_rivals,
        )
        self.monitor = self._world.monitor
        crashes = max(scenario.faults.crashes, scenario.faults.parties.dies) if crash_after is None else 1
        self._points = CrashPoints(self._world.rng("crashes"), crashes, first=crash_after)
        self._errors = ErrorPoints(self._world.rng("errors"), scenario.faults.errors)
        self._deadline = START + _FAULTY_TIME
        self._refusals: dict[int, LaunchRequest] = {}
        self._limits = scenario.limits
        self._reason = ""
        self._reasons: list[str] = []
        self._is_dead = False
        self.console_log = ""
        """Console log of the last aborted run."""

    def _interrupt(self, answer: str) -> None:
        """Interrupt the controller; the user answers T (terminate), L (leave) or C (continue)."""
        controller = self._controller
        if controller is not None and answer != "C" and self._world.loop.now() >= self._world.asleep_until():
            controller.stop(StopMode.LEAVE if answer == "L" else StopMode.TERMINATE)

    def _add_unmanaged(self) -> None:
        # Only while a controller can find it; later, `cleanup` does.
        if self._controller_runs:
            self._world.cloud.add_unmanaged(self._offers[0].offer)

    def _add_rivals(self) -> None:
        """Launch the instances of another controller, once the job has been created."""
        if not self.monitor.is_set_up:
            self._world.loop.later(timedelta(minutes=1), self._add_rivals)
            return
        parties = self._scenario.faults.parties
        for _ in range(parties.rivals):
            self._world.cloud.add_rival(self._offers[0].offer, parties.rival_stays)

    def _calm(self) -> None:
        """Stop all faults."""
        self._world.calm()
        self._points.left = self._errors.left = 0
        self._deadline = self._world.loop.now() + self._time_to_end

    @property
    def _time_to_end(self) -> timedelta:
        """Time in which a job ends without faults: at the worst, all its tasks run one after another, twice."""
        scenario = self._scenario
        slowest = max(slowness(scenario, each.offer.instance_type, each.slots) for each in self._offers)
        return max(_END, scenario.mean_task_time * MEAN_OF_TASKS * scenario.tasks * slowest * 2)

    def run(self) -> SimulationResult:
        """Run the job to its end, and check the result.

        Raises:
            InvariantViolation: The controller violated an invariant.
        """
        scenario = self._scenario
        self._offers = self._given_offers or self._world.rank()
        self._controller_runs = False
        self._controller: Controller | None = None
        self._path.unlink(missing_ok=True)
        self._second: SecondController | None = None
        if (after := self._world.faults.parties.second_after) is not None:
            self._second = SecondController(
                self._world, job_id=JOB_ID, folder=self._path.parent, parts=self._parts, offers=self._offers
            )
        if self._world.faults.earlier_run:
            self._leave_an_earlier_run()
        while not self._path.exists():
            self._set_up()
        if self._second is not None and after is not None:
            # At once: before the first controller has launched anything.
            self._world.loop.later(after, self._second.start)
        outcomes: list[JobPhase] = []
        while not self._is_dead and (not outcomes or outcomes[-1] is not JobPhase.COMPLETE):
            if len(outcomes) >= _RUNS:
                raise InvariantViolation(f"1: the job did not complete in {len(outcomes)} runs: {outcomes}")
            if len(outcomes) == _RUNS - 1:
                self._calm()
                self._limits = attrs.evolve(self._limits, max_total_cost=None)
            outcome = self._run_once()
            if outcome is not None:
                outcomes.append(outcome)
                self._world.repair()
            if outcome is JobPhase.ABORTED:
                self._solve_problem()
        return SimulationResult(
            seed=scenario.seed,
            tasks=scenario.tasks,
            outcomes=tuple(outcomes),
            reasons=tuple(self._reasons),
            crashes=tuple(self._points.log),
            duration=self._world.loop.now() - START,
            cost=self._world.cloud.cost(),
            instances=len(self._world.cloud.all_instances),
            steps=self._world.steps,
            crash_points=self._points.passed,
        )

    def _leave_an_earlier_run(self) -> None:
        """Create an instance of an earlier job of the same name. That job's queues have other names."""
        self._world.cloud.add_unmanaged(self._offers[0].offer)
        self._world.loop.run_for(self._scenario.faults.listing_lag)

    def _set_up(self) -> None:
        """Load and publish the job, as a run does before its controller; a crash leads to another attempt."""
        folder = self._path.parent
        loop = self._world.loop
        record = JobRecord(job_id=JOB_ID, queue_name=JOB_ID, run_id="run", created_at=START, place=_PLACE)

        def pass_time() -> None:
            self._world.loop.run_for(self._scenario.latency)

        def pointed(calls: Unreliable) -> Any:
            return Pointed(calls, self._points, pass_time)

        scratch = folder / f"loading-{self._scenario.seed}.db"
        try:
            with Store.create(scratch, record, overwrite=True, durable=False) as store:
                store.load_tasks(self._read_tasks())
                self._points("before publishing")
                create_resources(
                    store,
                    self._path,
                    job_id=JOB_ID,
                    compute=pointed(self._world.cloud_calls),
                    tasks=pointed(self._world.task_calls),
                    events=pointed(self._world.event_calls),
                    clock=lambda: loop.now().timestamp(),
                    sleep=lambda seconds: loop.run_for(timedelta(seconds=seconds)),
                )
                self.monitor.is_set_up = True
        except SimulatedCrash:
            pass
        except ProviderError as error:
            self.monitor.setup_failed(error)
            loop.run_for(timedelta(seconds=30))
            self._world.repair()

    def _read_tasks(self) -> Iterator[Task]:
        for n in range(self._scenario.tasks):
            if n % 100 == 0:
                self._points("while loading")
            yield Task(task_id=f"task-{n:07}", data={"n": n})

    def _solve_problem(self) -> None:
        """Solve the problem that aborted a run, as a user would to complete the job."""
        limit = self._limits.max_total_cost
        if limit is not None and "max_total_cost" in self._reason:
            self._limits = attrs.evolve(self._limits, max_total_cost=limit * 2 + self._world.cloud.cost())
        elif self._has_rivals():
            self._wait_for_rivals()

    def _has_rivals(self) -> bool:
        runs = self._second is not None and self._second.controller is not None and not self._second.is_over
        return runs or self._world.cloud.lists_rivals()

    def _wait_for_rivals(self) -> None:
        """Let other controllers end before the job is continued, as the reason of the abort advises."""
        until = self._world.loop.now() + _END
        while self._has_rivals() and self._world.loop.now() < until:
            self._world.loop.run_for(timedelta(hours=1))
            self._world.repair()
        self._deadline = max(self._deadline, self._world.loop.now() + timedelta(hours=1))

    def _choose_place(self) -> None:
        """Continue the job, now and then with the settings of another place first, which are refused."""
        cloud, elsewhere = self._world.cloud, self._world.faults.parties.elsewhere
        cloud.forget_zones()
        cloud.is_elsewhere = False
        with Store.open(self._path, read_only=True) as store:
            if self._world.rng(f"place/{self._world.steps}").random() < elsewhere:
                try:
                    check_place(store.job, dict.fromkeys(_PLACE, "elsewhere"), where="simulation")
                except PlaceError:
                    pass
                else:
                    cloud.is_elsewhere = True
            note_zones(cast(Compute, self._world.cloud_calls), store.instances())

    def _run_once(self) -> JobPhase | None:
        """Run one controller to its end; return None if it crashed."""
        self._choose_place()
        clock = self._world.job_clock()
        loop = CrashableLoop(
            self._world.loop,
            point=self._points,
            deadline=lambda: self._deadline,
            asleep_until=self._world.asleep_until,
            on_failure=self._call_failed,
            error_point=self._errors,
            now=clock.now,
        )
        self.monitor.restarted(clock.now)
        self.monitor.limit_cost(self._limits.max_total_cost)
        with Store.open(self._path, job_id=JOB_ID, durable=False) as store:
            try:
                watched = cast(Store, WatchedStore(store, self.monitor, self._points, self._world.is_database_locked))
                self._resume(watched)
                # Before, the queue may hold tasks of an earlier job, whose instances have all been terminated.
                self._controller_runs = True
                clock.resume(store)
                self._controller = controller = make_controller(
                    loop,
                    watched,
                    self._world,
                    parts=self._parts,
                    job_id=JOB_ID,
                    scenario=self._scenario,
                    limits=self._limits,
                    offers=self._offers,
                    refusals=self._refusals,
                )
                outcome = self._run_controller(controller)
                self._reason, self.console_log = controller.reason, controller.console_log or self.console_log
                if outcome is JobPhase.ABORTED and controller.error is None:
                    self._reasons.append(controller.reason)
                    self.monitor.aborted(controller.reason)
                self.monitor.was_left |= outcome is JobPhase.LEFT
                if outcome is not JobPhase.LEFT and controller.all_gone:
                    self.monitor.all_gone()
                elif outcome is not JobPhase.LEFT and self._world.faults is CALM:
                    raise InvariantViolation("2: instances were left although no fault occurred")
                if outcome is JobPhase.COMPLETE:
                    self.monitor.complete(store)
                return outcome
            except SimulatedCrash:
                self._is_dead = self._scenario.faults.parties.dies and self._world.faults is not CALM
            finally:
                loop.alive = False
                self.monitor.stopped()
                self._controller_runs = False
                self._controller = None
        if self._is_dead:
            self._outlive()
            return None
        # The user notices after a while.
        self._world.loop.run_for(timedelta(seconds=self._world.rng(f"away/{self._world.steps}").choice((1, 60, 600))))
        return None

    def _outlive(self) -> None:
        """Let time pass without a controller until its instances have ended, or one should have."""
        died_at = self._world.loop.now()
        while self.monitor.check_outlived(died_at):
            self._world.loop.run_for(_STEP)

    def _resume(self, store: Store) -> None:
        """Resume the queues as a run does; the user repeats it after a failed call."""
        calls = (self._world.task_calls, self._world.event_calls)
        tasks, events = (Pointed(each, self._points, lambda: None) for each in calls)
        while True:
            try:
                resume_resources(store, lambda job: (cast(Queue, tasks), cast(Queue, events)))
                self.monitor.is_set_up = True
            except (ProviderError, StoreBusyError):
                self._world.loop.run_for(timedelta(seconds=30))
            else:
                return

    def _run_controller(self, controller: Controller) -> JobPhase:
        while True:
            try:
                phase = controller.phase if controller.is_over else controller.run()
            except WorldEnded:
                if self._world.faults is CALM:
                    raise InvariantViolation(f"1: the job did not end within {self._time_to_end}") from None
                self._calm()
                raise SimulatedCrash("restarted without faults") from None
            except ValueError as error:
                raise InvariantViolation(f"1: the controller stopped: {error}") from error
            # The end of the instances does not excuse an error that no scenario planted.
            if controller.error is not None and not isinstance(controller.error, PlantedError):
                raise InvariantViolation(f"1: the controller stopped: {controller.error}") from controller.error
            return phase

    def _call_failed(self, error: Exception) -> None:
        request = self._refusals.pop(id(error), None)
        if request is not None and isinstance(error, LaunchRefusedError):
            self.monitor.refusal_known(request, error)
