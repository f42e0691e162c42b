"""`SecondController`: another controller of the same job id, with a database of its own, in the same cloud."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import attrs

from cloud_tasks.controller.controller import Controller
from cloud_tasks.controller.setup.resources import create_resources
from cloud_tasks.model import JobPhase, LaunchRequest, Task
from cloud_tasks.plugin import Queue
from cloud_tasks.selection import RankedOffer
from cloud_tasks.store import JobRecord, Store
from simulated_cloud.assembly import Parts, make_controller
from simulated_cloud.cloud import RIVAL_RUN, SimulatedCloud
from simulated_cloud.faults import CALM
from simulated_cloud.loop import CrashableLoop
from simulated_cloud.monitor import Monitor
from simulated_cloud.unreliable import Unreliable
from simulated_cloud.watched import WatchedStore
from simulated_cloud.world import World

__all__ = ["SecondController"]

_PAUSE = timedelta(seconds=20)
_ATTEMPTS = 1000


class _Loop(CrashableLoop):
    """Loop whose callbacks run with those of the first controller."""

    def run(self, done: Callable[[], bool]) -> None:
        """Return at once: the run continues in callbacks."""


class _Cloud:
    """The cloud as the second controller sees it."""

    def __init__(self, cloud: SimulatedCloud) -> None:
        self._cloud = cloud

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cloud, name)

    def terminate(self, instance_ids: list[str]) -> None:
        self._cloud.terminate(instance_ids, by_rival=True)


class _Quiet:
    """Monitor of the second controller: notes its events, since tasks have the same ids, and checks nothing."""

    def __init__(self, monitor: Monitor) -> None:
        self.applied = monitor.applied

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *of, **by: None


@attrs.frozen
class _View:
    """What a controller needs of the world."""

    task_calls: Unreliable
    event_calls: Unreliable
    cloud_calls: Unreliable
    monitor: Any
    world: World

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world, name)


class SecondController:
    """One run, without crashes, that starts as soon as the provider lists no instance of the job."""

    def __init__(
        self, world: World, *, job_id: str, folder: Path, parts: Parts, offers: tuple[RankedOffer, ...]
    ) -> None:
        self._world = world
        self._job_id = job_id
        self._path = folder / "second.db"
        self._parts = parts
        self._offers = offers
        self._store: Store | None = None
        self._attempts = 0
        self.controller: Controller | None = None
        self.is_over = False
        """Whether it has ended, or never starts."""

    def start(self) -> None:
        """Start, unless the job has instances, which a new run refuses to overwrite."""
        self._attempts += 1
        has_instances = any(instance.is_alive for instance in self._world.cloud.existing())
        if self._attempts > _ATTEMPTS:
            self.is_over = True
        elif has_instances or not self._world.monitor.is_set_up:
            self._world.loop.later(_PAUSE, self.start)
        else:
            self._run()

    def _run(self) -> None:
        world, scenario = self._world, self._world.scenario
        record = JobRecord(job_id=self._job_id, queue_name=self._job_id, run_id=RIVAL_RUN, created_at=world.loop.now())
        loaded = Store.create(self._path.with_suffix(".new"), record, overwrite=True, durable=False)
        loaded.load_tasks(Task(task_id=f"task-{n:07}", data={"n": n}) for n in range(scenario.tasks))
        create_resources(
            loaded,
            self._path,
            job_id=self._job_id,
            compute=None,
            tasks=cast(Queue, world.tasks),
            events=cast(Queue, world.events),
        )
        world.monitor.is_shared = True
        rng = world.rng("second controller")
        tasks, events, cloud = (
            Unreliable(each, rng, CALM) for each in (world.tasks, world.events, _Cloud(world.cloud))
        )
        monitor = cast(Monitor, _Quiet(world.monitor))
        view = _View(tasks, events, cloud, monitor, world)
        loop = _Loop(
            world.loop, point=lambda place: None, deadline=world.loop.now, asleep_until=lambda: world.loop.now()
        )
        self._store = loaded
        refusals: dict[int, LaunchRequest] = {}
        self.controller = make_controller(
            loop,
            cast(Store, WatchedStore(loaded, monitor, lambda place: None)),
            cast(World, view),
            parts=self._parts,
            job_id=self._job_id,
            scenario=scenario,
            limits=attrs.evolve(scenario.limits, max_total_cost=None),
            offers=self._offers,
            refusals=refusals,
        )
        self.controller.run()
        self._watch(self.controller, loaded)

    def _watch(self, controller: Controller, store: Store) -> None:
        """End as a run does: a complete one deletes its queues."""
        if controller.error is not None:
            raise controller.error
        if not controller.is_over:
            self._world.loop.later(_PAUSE, lambda: self._watch(controller, store))
            return
        if controller.phase is JobPhase.COMPLETE:
            self._world.tasks.delete()
            self._world.events.delete()
        store.close()
        self.is_over = True
