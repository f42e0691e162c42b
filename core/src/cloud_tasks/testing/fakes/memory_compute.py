"""Instances and prices of the provider in memory.

As at a real provider, a launch is answered before the instance runs, and a listing may lag behind it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import attrs

from cloud_tasks.errors import LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import (
    Architecture,
    Headroom,
    Image,
    Instance,
    InstanceIdentity,
    InstanceState,
    InstanceType,
    LaunchRequest,
    Money,
    Offer,
    OfferRequest,
    PriceBreakdown,
    Purchase,
    Region,
    TerminationNotice,
    Unpriced,
)

__all__ = ["MemoryCompute", "MemoryInstanceSide", "MemoryInstances", "MemoryPricing"]

_CPU_HOUR = Money("0.05")
_SPOT_FACTOR = 0.3


@attrs.frozen(kw_only=True)
class _Machine:
    instance: Instance
    ours: bool = True
    ends_at: datetime | None = None
    listings: int = 0
    """How many listings were made since its launch."""


class MemoryInstances:
    """All machines of one world.

    Args:
        missing_listings: How many listings after its launch do not show an instance yet.
        starting_listings: How many listings then show it as STARTING, before it is RUNNING.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], datetime],
        region: Region,
        types: Sequence[InstanceType],
        missing_listings: int = 0,
        starting_listings: int = 1,
    ) -> None:
        self._missing_listings = missing_listings
        self._starting_listings = starting_listings
        self.clock = clock
        self.region = region
        self.types = tuple(types)
        self.lock = threading.RLock()
        self.machines: dict[str, _Machine] = {}
        self.exhausted_zones: set[str] = set()
        """Zones that refuse every launch for now; a test fills it."""
        self.numbers = itertools.count(1)

    def start_foreign(self) -> str:
        """A machine that somebody else started; its id."""
        with self.lock:
            instance_id = f"foreign-{next(self.numbers)}"
            instance = Instance(
                instance_id=instance_id,
                job_id="",
                state=InstanceState.RUNNING,
                instance_type=self.types[0].name,
                zone=self.region.zones[0],
                purchase=Purchase.ON_DEMAND,
                created_at=self.clock(),
            )
            self.machines[instance_id] = _Machine(instance=instance, ours=False)
        return instance_id

    def end(self, instance_id: str) -> None:
        """Take one of our machines away, as a termination or an interruption does."""
        with self.lock:
            machine = self.machines.get(instance_id)
            if machine is not None and machine.ours:
                ended = attrs.evolve(machine.instance, state=InstanceState.TERMINATED)
                self.machines[instance_id] = attrs.evolve(machine, instance=ended)

    def ours(self) -> Mapping[str, Instance]:
        """Our machines as they are now."""
        with self.lock:
            now = self.clock()
            for instance_id, machine in list(self.machines.items()):
                if machine.ends_at is not None and machine.ends_at <= now:
                    self.end(instance_id)
            return {instance_id: machine.instance for instance_id, machine in self.machines.items() if machine.ours}

    def listing(self, *, foreign: bool) -> Sequence[Instance]:
        """Return what a listing shows now; foreign instances belong to no job."""
        with self.lock:
            self.ours()
            shown: list[Instance] = []
            for instance_id, machine in self.machines.items():
                if not machine.ours:
                    shown += [attrs.evolve(machine.instance, job_id="")] if foreign else []
                    continue
                listed = self._listed_again(machine)
                self.machines[instance_id] = listed
                shown += [listed.instance] if listed.listings > self._missing_listings else []
            return shown

    def _listed_again(self, machine: _Machine) -> _Machine:
        listings, instance = machine.listings + 1, machine.instance
        if instance.state is InstanceState.STARTING and listings > self._missing_listings + self._starting_listings:
            instance = attrs.evolve(instance, state=InstanceState.RUNNING)
        return attrs.evolve(machine, listings=listings, instance=instance)


class MemoryCompute:
    """The `Compute` of one world."""

    def __init__(self, instances: MemoryInstances) -> None:
        self._world = instances

    def regions(self) -> Sequence[Region]:
        return (self._world.region,)

    def images(self) -> Sequence[Image]:
        return (Image(name="memory", uri="memory", architecture=Architecture.X86_64),)

    def instance_types(self) -> Sequence[InstanceType]:
        return self._world.types

    def headroom(self, offer: Offer) -> Headroom | None:
        return None

    def launch(self, request: LaunchRequest) -> Instance:
        with self._world.lock:
            for instance in self._world.ours().values():
                if instance.client_token == request.client_token:
                    return instance
            self._refuse(request)
            instance = Instance(
                instance_id=f"memory-{next(self._world.numbers)}",
                job_id=request.job_id,
                state=InstanceState.STARTING,
                instance_type=request.offer.instance_type.name,
                zone=request.offer.zone,
                purchase=request.offer.purchase,
                created_at=self._world.clock(),
                client_token=request.client_token,
                labels=dict(request.labels),
            )
            ends_at = None if request.max_lifetime is None else self._world.clock() + request.max_lifetime
            self._world.machines[instance.instance_id] = _Machine(instance=instance, ends_at=ends_at)
            return instance

    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        return tuple(
            instance
            for instance in self._world.listing(foreign=foreign)
            if job_id in (None, instance.job_id)
            and (include_terminated or instance.state is not InstanceState.TERMINATED)
        )

    def terminate(self, instance_ids: Sequence[str]) -> None:
        for instance_id in instance_ids:
            self._world.end(instance_id)

    def console_log(self, instance_id: str) -> str:
        return ""

    def close(self) -> None:
        """Nothing is kept open."""

    def _refuse(self, request: LaunchRequest) -> None:
        zone = request.offer.zone
        if zone not in self._world.region.zones or zone in self._world.exhausted_zones:
            raise LaunchRefusedError(
                f'zone "{zone}" has no machines',
                scope=RefusalScope.ZONE,
                retry_after=timedelta(minutes=10),
                reason="ZONE_EXHAUSTED",
            )
        if request.offer.instance_type.name not in {each.name for each in self._world.types}:
            raise LaunchRefusedError(
                f'there is no instance type "{request.offer.instance_type.name}"',
                scope=RefusalScope.INSTANCE_TYPE,
                retry_after=timedelta(days=1),
                reason="UNKNOWN_TYPE",
            )


class MemoryInstanceSide:
    """The `InstanceSide` of the one machine that a job has."""

    def __init__(self, instances: MemoryInstances, job_id: str) -> None:
        self._world = instances
        self._job_id = job_id

    def identity(self) -> InstanceIdentity:
        own = [instance for instance in self._world.ours().values() if instance.job_id == self._job_id]
        if len(own) != 1:
            raise ProviderError(f"job {self._job_id} has {len(own)} machines, so which one this is cannot be told")
        return InstanceIdentity(instance_id=own[0].instance_id, zone=own[0].zone, instance_type=own[0].instance_type)

    def termination_notice(self) -> TerminationNotice | None:
        return None


class MemoryPricing:
    """The `Pricing` of one world: by the CPU, nothing for types that it does not have."""

    def __init__(self, instances: MemoryInstances) -> None:
        self._world = instances

    def price(self, requests: Sequence[OfferRequest]) -> Sequence[Offer | Unpriced]:
        return tuple(self._answer(request) for request in requests)

    def close(self) -> None:
        """Nothing is kept open."""

    def _answer(self, request: OfferRequest) -> Offer | Unpriced:
        if request.instance_type.name not in {each.name for each in self._world.types}:
            return Unpriced(request=request, reason=f"no price for {request.instance_type.name}")
        factor = _SPOT_FACTOR if request.purchase is Purchase.SPOT else 1
        return Offer(
            instance_type=request.instance_type,
            zone=request.zone,
            purchase=request.purchase,
            boot_disk=request.boot_disk,
            price=PriceBreakdown(cpu=_CPU_HOUR * request.instance_type.vcpus * factor),
            priced_at=self._world.clock(),
        )
