"""Fakes of queue and compute for controller tests, and factories of events and offers."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
from virtual_loop import VirtualLoop

from cloud_tasks.controller.autoscaler.state import FleetInstance, Observation, Policy
from cloud_tasks.convert import encode_events
from cloud_tasks.errors import LaunchRefusedError, NotFoundError, ProviderError, RefusalScope, StoreBusyError
from cloud_tasks.model import (
    Architecture,
    BootDisk,
    Event,
    EventType,
    Headroom,
    Image,
    Instance,
    InstanceState,
    InstanceType,
    LaunchRequest,
    Limits,
    Money,
    Offer,
    PriceBreakdown,
    ProvisioningModel,
    Region,
)
from cloud_tasks.plugin import Delivery, Depth, SendFailure
from cloud_tasks.selection import RankedOffer
from cloud_tasks.store import Store

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


class StoreLock:
    """A lock of another program on the database of a store: while it is held, every write fails."""

    def __init__(self, store: Store) -> None:
        self.held = False
        self.refused = 0
        """Number of writes that failed."""
        self._writing = store._file.writing
        store._file.writing = self._write  # type: ignore[method-assign]

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        if self.held:
            self.refused += 1
            raise StoreBusyError("job.db: locked by another program", hint="close the program that has the file open")
        with self._writing() as connection:
            yield connection

    def hold(self) -> None:
        self.held = True

    def release(self) -> None:
        self.held = False


class FakeQueue:
    """Queue whose next faults a test can set."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.bodies: list[bytes] = []
        self.inbox: deque[bytes] = deque()
        self.acked: list[str] = []
        self.faults: deque[Exception | Sequence[SendFailure]] = deque()
        self.journal: list[str] = []
        self.is_deleted = False
        self.created = 0
        self.depth_calls = 0
        self._number = 0

    def delete_from_outside(self) -> None:
        """Delete the queue, with its messages, as another command does."""
        self.is_deleted = True
        self.bodies.clear()
        self.inbox.clear()

    def exists(self) -> bool:
        return not self.is_deleted

    def create(self) -> None:
        self.created += 1
        self.is_deleted = False

    def _fault(self) -> Sequence[SendFailure]:
        if self.is_deleted:
            raise NotFoundError("the queue does not exist")
        fault = self.faults.popleft() if self.faults else ()
        if isinstance(fault, Exception):
            raise fault
        return fault

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        failures = self._fault()
        failed = {failure.index for failure in failures}
        self.bodies.extend(body for index, body in enumerate(bodies) if index not in failed)
        return failures

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        self._fault()
        if not self.inbox:
            self._loop.charge(wait)
        deliveries: list[Delivery] = []
        while self.inbox and len(deliveries) < max_messages:
            self._number += 1
            deliveries.append(Delivery(lease_id=str(self._number), body=self.inbox.popleft(), delivery_count=1))
        self.journal.append(f"received {len(deliveries)}")
        return deliveries

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        self.acked.extend(lease_ids)
        self.journal.append(f"acked {len(lease_ids)}")
        return ()

    def depth(self) -> Depth:
        self.depth_calls += 1
        if self.is_deleted:
            raise NotFoundError("the queue does not exist")
        return Depth(visible=len(self.bodies), in_flight=0, exact=False, as_of=self._loop.now())

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the controller called {name}, which this fake does not have")


class FakeCompute:
    """A provider that starts the requested instances, unless set otherwise.

    A new instance is STARTING for ``boot_time``, and missing from listings for ``listing_lag``.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.boot_time = timedelta(seconds=30)
        self.listing_lag = timedelta(0)
        self.listings = 0
        self.existing: dict[str, Instance] = {}
        self.launched: list[LaunchRequest] = []
        self._started = 0
        self.faults: deque[Exception | None] = deque()
        self.listing_fails = False
        self.effect_before_fault = False
        self.before_launch: Callable[[LaunchRequest], None] = lambda request: None
        self.before_listing: Callable[[], None] = lambda: None
        self.choose: Callable[[Sequence[Offer]], Offer] = lambda offers: offers[0]

    def headroom(self, offer: Offer) -> Headroom | None:
        return None

    def launch(self, request: LaunchRequest) -> Instance:
        self.before_launch(request)
        self.launched.append(request)
        fault = self.faults.popleft() if self.faults else None
        if fault is not None and not self.effect_before_fault:
            raise fault
        offer = self.choose((request.offer, *request.alternatives))
        known = next((i for i in self.existing.values() if i.client_token == request.client_token), None)
        instance = known or Instance(
            instance_id=f"i-{self._started + 1}",
            job_id=request.job_id,
            state=InstanceState.STARTING,
            instance_type=offer.instance_type.name,
            zone=offer.zone,
            provisioning_model=offer.provisioning_model,
            created_at=self._loop.now(),
            client_token=request.client_token,
        )
        self._started += known is None
        self.existing[instance.instance_id] = instance
        if fault is not None:
            raise fault
        return instance

    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        self.before_listing()
        self.listings += 1
        if self.listing_fails:
            raise ProviderError("listing is out of order", transient=True)
        return tuple(self._booted(i) for i in self.existing.values() if self._age(i) >= self.listing_lag)

    def _age(self, instance: Instance) -> timedelta:
        return self._loop.now() - instance.created_at

    def _booted(self, instance: Instance) -> Instance:
        if instance.state is InstanceState.STARTING and self._age(instance) >= self.boot_time:
            return attrs.evolve(instance, state=InstanceState.RUNNING)
        return instance

    def terminate(self, instance_ids: Sequence[str]) -> None:
        for instance_id in instance_ids:
            self.existing.pop(instance_id, None)

    def console_log(self, instance_id: str) -> str:
        return f"console of {instance_id}"

    def regions(self) -> Sequence[Region]:
        return ()

    def images(self) -> Sequence[Image]:
        return ()

    def instance_types(self) -> Sequence[InstanceType]:
        return ()

    def close(self) -> None:
        """Do nothing: no connection is open."""


def refusal(scope: RefusalScope = RefusalScope.ZONE) -> LaunchRefusedError:
    return LaunchRefusedError("no capacity", scope=scope, retry_after=timedelta(minutes=5), reason="EXHAUSTED")


def event(kind: EventType, number: int, task: int | None = None, **changes: Any) -> Event:
    facts: dict[str, Any] = {
        "event_id": f"e{number}",
        "event_type": kind,
        "timestamp": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
        "hostname": "host",
        "task_id": None if task is None else f"task-{task}",
        "attempt": None if task is None else 1,
        "retry": False if task is not None and kind is not EventType.TASK_STARTED else None,
        "elapsed_time": 1.0 if kind is EventType.TASK_COMPLETED else None,
    }
    return Event(**{**facts, **changes})


def completed_by(instance: str, task: int, at: datetime) -> Event:
    """Return the event that an instance has completed a task, by its own clock at this time."""
    return event(EventType.TASK_COMPLETED, 5000 + task, task=task, instance_id=instance, timestamp=at)


def message(*events: Event) -> bytes:
    return encode_events(events)


def ranked(
    name: str = "m-8", zone: str = "z-a", price: str = "0.25", vcpus: int = 8, spot: bool = False
) -> RankedOffer:
    instance_type = InstanceType(
        name=name, vcpus=vcpus, memory_gb=vcpus * 4.0, architecture=Architecture.X86_64, zones=("z-a", "z-b")
    )
    offer = Offer(
        instance_type=instance_type,
        zone=zone,
        provisioning_model=ProvisioningModel.SPOT if spot else ProvisioningModel.ON_DEMAND,
        boot_disk=BootDisk(disk_type="", size_gb=10),
        price=PriceBreakdown(cpu=Money(price)),
        priced_at=NOW,
    )
    return RankedOffer(offer=offer, slots=vcpus, price_per_slot=Money(price) / vcpus)


def make_instance(number: int, *, age: float = 100, heartbeat: float | None = 10, **changes: object) -> FleetInstance:
    """Return an instance launched ``age`` seconds ago; ``heartbeat``: seconds since the last one (None: none)."""
    facts: dict[str, object] = {
        "client_token": f"token{number}",
        "instance_id": f"i-{number}",
        "state": InstanceState.RUNNING,
        "vcpus": 8,
        "slots": 8,
        "price_per_hour": Money("0.25"),
        "launched_at": NOW - timedelta(seconds=age),
        "last_heartbeat": None if heartbeat is None else NOW - timedelta(seconds=heartbeat),
        "running_tasks": 8,
    }
    return FleetInstance(**{**facts, **changes})  # type: ignore[arg-type]


def make_observation(*fleet: FleetInstance, **changes: object) -> Observation:
    facts: dict[str, object] = {
        "now": NOW,
        "policy": Policy(limits=Limits(max_instances=5)),
        "remaining": 10_000,
        "all_loaded": True,
        "fleet": fleet,
        "offers": (ranked(), ranked(zone="z-b"), ranked("n-8", price="0.30")),
        "blocks": (),
        "events_read_since": NOW - timedelta(hours=5),
        "any_heartbeat": any(instance.last_heartbeat is not None for instance in fleet),
    }
    return Observation(**{**facts, **changes})  # type: ignore[arg-type]
