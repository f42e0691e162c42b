"""A small job: a real store, a virtual loop, and fakes of queue and compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from controller_fakes import FakeCompute, FakeQueue, StoreLock, ranked
from virtual_loop import VirtualLoop

from cloud_tasks.controller.autoscaler.fleet import Fleet
from cloud_tasks.controller.autoscaler.price_refresh import RequestPrices
from cloud_tasks.controller.autoscaler.state import Policy
from cloud_tasks.controller.controller import Controller, StopMode
from cloud_tasks.controller.deferred_writes import DeferredWrites
from cloud_tasks.controller.messaging.enqueuer import TaskEnqueuer
from cloud_tasks.controller.messaging.event_collector import EventCollector
from cloud_tasks.controller.messaging.progress import Progress
from cloud_tasks.model import LaunchRequest, Limits, Task
from cloud_tasks.selection import RankedOffer
from cloud_tasks.store import JobRecord, Store

TWO_INSTANCES = Limits(max_instances=2)


@pytest.fixture
def loop() -> VirtualLoop:
    return VirtualLoop()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    record = JobRecord(job_id="job", queue_name="job", run_id="run", created_at=datetime(2026, 1, 1, tzinfo=UTC))
    with Store.create(tmp_path / "job.db", record, durable=False) as opened:
        opened.load_tasks(Task(task_id=f"task-{number}", data={"n": number}) for number in range(20))
        yield opened


@pytest.fixture
def lock(store: Store) -> StoreLock:
    return StoreLock(store)


@pytest.fixture
def queue(loop: VirtualLoop) -> FakeQueue:
    return FakeQueue(loop)


@pytest.fixture
def compute(loop: VirtualLoop) -> FakeCompute:
    return FakeCompute(loop)


@pytest.fixture
def events(loop: VirtualLoop) -> FakeQueue:
    return FakeQueue(loop)


@pytest.fixture
def make_controller(
    loop: VirtualLoop, store: Store, queue: FakeQueue, events: FakeQueue, compute: FakeCompute
) -> Callable[..., Controller]:
    """Return a function that makes a controller over the fakes; keyword arguments go to its policy."""

    def compose(offer: RankedOffer, others: object, token: str, lifetime: timedelta | None) -> LaunchRequest:
        return LaunchRequest(
            client_token=token,
            job_id="job",
            offer=offer.offer,
            startup_script="",
            labels={},
            max_lifetime=lifetime,
        )

    def make(
        on_progress: Callable[[Progress], None] = lambda _: None,
        offers: tuple[RankedOffer, ...] = (ranked(), ranked(zone="z-b")),
        limits: Limits = TWO_INSTANCES,
        on_error: StopMode = StopMode.TERMINATE,
        watch_interval: timedelta | None = None,
        request_prices: RequestPrices | None = None,
        price_interval: timedelta | None = None,
        own_end: timedelta | None = None,
        max_parallel: int = 10,
        **policy: object,
    ) -> Controller:
        writes = DeferredWrites(loop, store)
        return Controller(
            loop,
            store,
            task_queue=queue,
            make_enqueuer=lambda on_broken: TaskEnqueuer(loop, store, queue, on_broken=on_broken, writes=writes),
            make_collector=lambda on_events: EventCollector(loop, store, events, on_events=on_events, writes=writes),
            make_fleet=lambda on_refused: Fleet(
                loop,
                store,
                compute,
                job_id="job",
                compose=compose,
                max_parallel=max_parallel,
                on_refused=on_refused,
                own_end=own_end,
                writes=writes,
            ),
            offers=offers,
            policy=Policy(limits=limits, **policy),  # type: ignore[arg-type]
            interval=timedelta(seconds=60),
            watch_interval=watch_interval,
            on_progress=on_progress,
            event_queue=events,
            writes=writes,
            on_error=on_error,
            request_prices=request_prices,
            price_interval=price_interval,
        )

    return make
