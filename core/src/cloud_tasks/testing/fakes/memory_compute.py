"""Instances and prices of the provider in memory.

As with a real provider, `launch` returns before the instance runs, and listings may lag behind.
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
    ProvisioningModel,
    Region,
    TerminationNotice,
    Unpriced,
)

__all__ = ["MemoryCompute", "MemoryInstanceSide", "MemoryInstances", "MemoryPricing"]

_CPU_HOUR = Money("0.05")
_SPOT_FACTOR = 0.3


@attrs.frozen(kw_only=True)
class _Record:
    instance: Instance
    is_managed: bool = True
    ends_at: datetime | None = None
    listings: int = 0
    """Number of listings since its launch."""


class MemoryInstances:
    """State of one provider: its instances.

    Args:
        missing_listings: Number of listings after a launch without the instance.
        pending_listings: Number of further listings with it as PENDING, before STARTING.
        starting_listings: Number of further listings with it as STARTING, before RUNNING.
        max_pending: Number of pending instances, above which a launch is refused.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], datetime],
        region: Region,
        types: Sequence[InstanceType],
        missing_listings: int = 0,
        pending_listings: int = 0,
        starting_listings: int = 1,
        max_pending: int | None = None,
    ) -> None:
        self._missing_listings = missing_listings
        self._pending_listings = pending_listings
        self.max_pending = max_pending
        self._starting_listings = starting_listings
        self.clock = clock
        self.region = region
        self.types = tuple(types)
        self.lock = threading.RLock()
        self.records: dict[str, _Record] = {}
        self.exhausted_zones: set[str] = set()
        """Zones that refuse every launch; filled by tests."""
        self.numbers = itertools.count(1)

    def start_unmanaged(self) -> str:
        """Start an unmanaged instance and return its id."""
        with self.lock:
            instance_id = f"unmanaged-{next(self.numbers)}"
            instance = Instance(
                instance_id=instance_id,
                job_id="",
                state=InstanceState.RUNNING,
                instance_type=self.types[0].name,
                zone=self.region.zones[0],
                provisioning_model=ProvisioningModel.ON_DEMAND,
                created_at=self.clock(),
                started_at=self.clock(),
            )
            self.records[instance_id] = _Record(instance=instance, is_managed=False)
        return instance_id

    def end(self, instance_id: str) -> None:
        """Terminate a managed instance, as a termination or an interruption does."""
        with self.lock:
            record = self.records.get(instance_id)
            if record is not None and record.is_managed and record.instance.state is not InstanceState.TERMINATED:
                ended = attrs.evolve(
                    record.instance, state=InstanceState.TERMINATED, ended_at=self.clock(), reason="terminated"
                )
                self.records[instance_id] = attrs.evolve(record, instance=ended)

    def ours(self) -> Mapping[str, Instance]:
        """Return the managed instances as of now."""
        with self.lock:
            now = self.clock()
            for instance_id, record in list(self.records.items()):
                if record.ends_at is not None and record.ends_at <= now:
                    self.end(instance_id)
            return {instance_id: record.instance for instance_id, record in self.records.items() if record.is_managed}

    def listing(self, *, foreign: bool) -> Sequence[Instance]:
        """Return a listing; unmanaged instances belong to no job."""
        with self.lock:
            self.ours()
            shown: list[Instance] = []
            for instance_id, record in self.records.items():
                if not record.is_managed:
                    shown += [attrs.evolve(record.instance, job_id="")] if foreign else []
                    continue
                listed = self._listed_again(record)
                self.records[instance_id] = listed
                shown += [listed.instance] if listed.listings > self._missing_listings else []
            return shown

    def _listed_again(self, record: _Record) -> _Record:
        listings, instance = record.listings + 1, record.instance
        waited = listings - self._missing_listings
        if instance.state is InstanceState.PENDING and waited > self._pending_listings:
            instance = attrs.evolve(instance, state=InstanceState.STARTING, started_at=self.clock(), reason="")
        if instance.state is InstanceState.STARTING and waited > self._pending_listings + self._starting_listings:
            instance = attrs.evolve(instance, state=InstanceState.RUNNING)
        return attrs.evolve(record, listings=listings, instance=instance)

    def first_state(self) -> InstanceState:
        """Return the state of a launched instance. Refuse a launch above `max_pending`."""
        if not self._pending_listings:
            return InstanceState.STARTING
        waiting = [each for each in self.ours().values() if each.state is InstanceState.PENDING]
        if self.max_pending is not None and len(waiting) >= self.max_pending:
            raise LaunchRefusedError(
                f"{len(waiting)} instances are pending",
                scope=RefusalScope.ACCOUNT,
                retry_after=timedelta(seconds=10),
                reason="MAX_PENDING",
            )
        return InstanceState.PENDING


class MemoryCompute:
    """`Compute` of the provider in memory."""

    def __init__(self, instances: MemoryInstances) -> None:
        self._state = instances

    def regions(self) -> Sequence[Region]:
        return (self._state.region,)

    def images(self) -> Sequence[Image]:
        return (Image(name="memory", uri="memory", architecture=Architecture.X86_64),)

    def instance_types(self) -> Sequence[InstanceType]:
        return self._state.types

    def headroom(self, offer: Offer) -> Headroom | None:
        return None

    def launch(self, request: LaunchRequest) -> Instance:
        with self._state.lock:
            for instance in self._state.ours().values():
                if instance.client_token == request.client_token:
                    return instance
            self._refuse(request)
            state, now = self._state.first_state(), self._state.clock()
            is_pending = state is InstanceState.PENDING
            instance = Instance(
                instance_id=f"memory-{next(self._state.numbers)}",
                job_id=request.job_id,
                state=state,
                instance_type=request.offer.instance_type.name,
                zone=request.offer.zone,
                provisioning_model=request.offer.provisioning_model,
                created_at=now,
                client_token=request.client_token,
                labels=dict(request.labels),
                started_at=None if is_pending else now,
                reason="Resources" if is_pending else "",
            )
            ends_at = None if request.max_lifetime is None else now + request.max_lifetime
            self._state.records[instance.instance_id] = _Record(instance=instance, ends_at=ends_at)
            return instance

    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        return tuple(
            instance
            for instance in self._state.listing(foreign=foreign)
            if job_id in (None, instance.job_id)
            and (include_terminated or instance.state is not InstanceState.TERMINATED)
        )

    def terminate(self, instance_ids: Sequence[str]) -> None:
        for instance_id in instance_ids:
            self._state.end(instance_id)

    def console_log(self, instance_id: str) -> str:
        return ""

    def close(self) -> None:
        """Do nothing: no connection is open."""

    def _refuse(self, request: LaunchRequest) -> None:
        zone = request.offer.zone
        if zone not in self._state.region.zones or zone in self._state.exhausted_zones:
            raise LaunchRefusedError(
                f'zone "{zone}" has no capacity',
                scope=RefusalScope.ZONE,
                retry_after=timedelta(minutes=10),
                reason="ZONE_EXHAUSTED",
            )
        if request.offer.instance_type.name not in {each.name for each in self._state.types}:
            raise LaunchRefusedError(
                f'instance type "{request.offer.instance_type.name}" not found',
                scope=RefusalScope.INSTANCE_TYPE,
                retry_after=timedelta(days=1),
                reason="UNKNOWN_TYPE",
            )


class MemoryInstanceSide:
    """`InstanceSide` of the only instance of a job."""

    def __init__(self, instances: MemoryInstances, job_id: str) -> None:
        self._state = instances
        self._job_id = job_id

    def identity(self) -> InstanceIdentity:
        own = [instance for instance in self._state.ours().values() if instance.job_id == self._job_id]
        if len(own) != 1:
            raise ProviderError(f"job {self._job_id} has {len(own)} instances; expected one")
        return InstanceIdentity(instance_id=own[0].instance_id, zone=own[0].zone, instance_type=own[0].instance_type)

    def termination_notice(self) -> TerminationNotice | None:
        return None


class MemoryPricing:
    """`Pricing` of the provider in memory: by CPU; unknown types have no price."""

    def __init__(self, instances: MemoryInstances) -> None:
        self._state = instances

    def price(self, requests: Sequence[OfferRequest]) -> Sequence[Offer | Unpriced]:
        return tuple(self._answer(request) for request in requests)

    def close(self) -> None:
        """Do nothing: no connection is open."""

    def _answer(self, request: OfferRequest) -> Offer | Unpriced:
        if request.instance_type.name not in {each.name for each in self._state.types}:
            return Unpriced(request=request, reason=f"no price for {request.instance_type.name}")
        factor = _SPOT_FACTOR if request.provisioning_model is ProvisioningModel.SPOT else 1
        return Offer(
            instance_type=request.instance_type,
            zone=request.zone,
            provisioning_model=request.provisioning_model,
            boot_disk=request.boot_disk,
            price=PriceBreakdown(cpu=_CPU_HOUR * request.instance_type.vcpus * factor),
            priced_at=self._state.clock(),
        )
