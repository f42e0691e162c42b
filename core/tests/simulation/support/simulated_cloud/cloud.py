"""`SimulatedCloud`: launches are refused, instances boot slowly, vanish, and leave resources, under a virtual clock.

Invariants, each with a test:

1. Two launches with one client token create one instance, even if the first answer was lost.
2. An instance is billed from its creation to its termination, while stopped too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import attrs
from virtual_loop import VirtualLoop

from cloud_tasks.errors import LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.estimate import SimulatedInstance
from cloud_tasks.model import (
    Headroom,
    Image,
    Instance,
    InstanceState,
    InstanceType,
    LaunchRequest,
    Money,
    Offer,
    ProvisioningModel,
    Region,
)
from cloud_tasks.plugin.boot_guard import BOOT_GRACE
from simulated_cloud.catalogue import ZONES, catalogue
from simulated_cloud.scenario import Faults

__all__ = ["CloudInstance", "Program", "SimulatedCloud"]


class Program(Protocol):
    """Program that runs on an instance."""

    def start(self) -> None:
        """Start, at the end of the startup script."""

    def notice(self, left: timedelta) -> None:
        """Handle a termination notice."""

    def drain(self) -> None:
        """Take no more tasks, and end when the running ones are finished."""

    def kill(self) -> None:
        """Stop at once."""


@attrs.define(kw_only=True, eq=False)
class CloudInstance(SimulatedInstance[datetime]):
    """One instance of the simulated cloud."""

    instance_id: str
    client_token: str
    script_failed: bool = False
    unmanaged: bool = False
    program: Program | None = None

    @property
    def is_alive(self) -> bool:
        """Whether it is starting or running."""
        return self.state in (InstanceState.STARTING, InstanceState.RUNNING)


class SimulatedCloud:
    """One `cloud_tasks.plugin.Compute`; calls fail only by refusals and partial terminations (see `Unreliable`).

    Args:
        make_program: Return the program of a new instance.
        on_launch: Called with a request before it creates an instance.
        on_change: Called with an instance that was created or terminated.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        rng: random.Random,
        faults: Faults,
        *,
        job_id: str,
        make_program: Callable[[CloudInstance], Program],
        on_launch: Callable[[LaunchRequest], None],
        on_change: Callable[[CloudInstance], None],
    ) -> None:
        self.faults = faults
        self.all_instances: dict[str, CloudInstance] = {}
        self._loop = loop
        self._rng = rng
        self._job_id = job_id
        self._make_program = make_program
        self._on_launch = on_launch
        self._on_change = on_change
        self._by_token: dict[str, CloudInstance] = {}
        self.listed_at = loop.now()
        """Time of the last listing."""
        self._no_capacity: dict[tuple[str, str, ProvisioningModel], datetime] = {}

    # -- the Protocol ----------------------------------------------------------------------------------------------

    def regions(self) -> Sequence[Region]:
        return (Region(name="sim", zones=ZONES),)

    def images(self) -> Sequence[Image]:
        return ()

    def instance_types(self) -> Sequence[InstanceType]:
        return catalogue()

    def headroom(self, offer: Offer) -> Headroom | None:
        return None

    def launch(self, request: LaunchRequest) -> Instance:
        known = self._by_token.get(request.client_token)
        if known is None:
            self._refuse(request.offer)
            self._on_launch(request)
            slots = int(request.labels.get("slots", "1"))
            known = self._create(request.offer, slots, request.client_token, request.max_lifetime)
            program = known.program
            if "drain" in request.labels and program is not None:
                self._loop.later(timedelta(seconds=float(request.labels["drain"])), program.drain)
        return self._shown(known)

    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        self.listed_at = self._loop.now()
        seen_until = self._loop.now() - self.faults.listing_lag * self._rng.random()
        return [
            self._shown(instance)
            for instance in self.all_instances.values()
            if (instance.ended_at is None or include_terminated) and instance.created_at <= seen_until
        ]

    def terminate(self, instance_ids: Sequence[str]) -> None:
        partial = self._rng.random() < self.faults.partial
        for instance_id in instance_ids:
            instance = self.all_instances.get(instance_id)
            if instance is None or instance.is_ending:
                continue
            if partial and self._rng.random() < 0.5:
                continue
            self._kill_program(instance)
            instance.stop()
            stop = timedelta(seconds=self.faults.draw_stop_time(self._rng))
            self._loop.later(stop, lambda instance=instance: self.end(instance))  # type: ignore[misc]
        if partial:
            raise ProviderError("some instances may remain", transient=True)

    def console_log(self, instance_id: str) -> str:
        instance = self.all_instances.get(instance_id)
        failed = instance is not None and instance.script_failed
        return "bash: line 7: no such command\n" if failed else "worker started\n"

    def close(self) -> None:
        """Do nothing: no connection is open."""

    # -- simulation ----------------------------------------------------------------------------------------------

    def _refuse(self, offer: Offer) -> None:
        now = self._loop.now()
        key = (offer.instance_type.name, offer.zone, offer.provisioning_model)
        if self.faults.draw_refusal(self._rng):
            self._no_capacity.setdefault(key, now + timedelta(minutes=self._rng.uniform(1, 30)))
        until = self._no_capacity.get(key)
        if until is not None and until > now:
            scope = self._rng.choice(
                (RefusalScope.OFFER, RefusalScope.OFFER, RefusalScope.ZONE, RefusalScope.INSTANCE_TYPE)
            )
            raise self._refusal("no capacity", scope, "OUT_OF_STOCK")
        self._no_capacity.pop(key, None)
        quota = self.faults.quota_vcpus
        if quota is not None and self.vcpus() + offer.instance_type.vcpus > quota:
            raise self._refusal(f"quota of {quota} vCPUs exceeded", RefusalScope.REGION, "QUOTA")

    def _refusal(self, message: str, scope: RefusalScope, reason: str) -> LaunchRefusedError:
        pause = timedelta(seconds=self._rng.choice((60, 300)))
        return LaunchRefusedError(message, scope=scope, retry_after=pause, reason=reason)

    def vcpus(self) -> int:
        return sum(instance.offer.instance_type.vcpus for instance in self.existing())

    def existing(self) -> Iterator[CloudInstance]:
        """Return the instances that are billed, stopped ones included."""
        return (instance for instance in self.all_instances.values() if instance.ended_at is None)

    def add_unmanaged(self, offer: Offer) -> None:
        """Create an instance with the job's label that is in no record."""
        self._create(offer, 1, f"unmanaged{len(self.all_instances)}", None, unmanaged=True)

    def _create(
        self, offer: Offer, slots: int, token: str, lifetime: timedelta | None, *, unmanaged: bool = False
    ) -> CloudInstance:
        instance = CloudInstance(
            instance_id=f"sim-{len(self.all_instances) + 1:04}",
            offer=offer,
            slots=slots,
            client_token=token,
            created_at=self._loop.now(),
            unmanaged=unmanaged,
        )
        self.all_instances[instance.instance_id] = self._by_token[token] = instance
        instance.program = self._make_program(instance)
        self._on_change(instance)
        boot = timedelta(seconds=self.faults.draw_boot_time(self._rng))
        self._loop.later(boot, lambda: self._boot(instance))
        if lifetime is not None:
            self._loop.later(lifetime, lambda: self.end(instance))
        span = self.faults.draw_lifetime(self._rng, offer)
        if span is not None:
            self._loop.later(timedelta(seconds=span), lambda: self._preempt(instance))
        return instance

    def _boot(self, instance: CloudInstance) -> None:
        if instance.program is None or not instance.boot():
            return
        if self._rng.random() >= self.faults.broken_start:
            instance.program.start()
            return
        instance.script_failed = True
        # Some scripts power the instance off; after the others, the boot guard does.
        span = timedelta(seconds=20 if self._rng.random() < 0.5 else BOOT_GRACE)
        self._loop.later(span, lambda: self.end(instance))

    def _preempt(self, instance: CloudInstance) -> None:
        if not instance.is_alive or self.faults.spot_lifetime is None:
            return
        if instance.program is None or self._rng.random() < self.faults.preempted_silently:
            self._interrupt(instance)
        else:
            left = timedelta(seconds=self._rng.choice((30, 120)))
            instance.program.notice(left)
            self._loop.later(left, lambda: self._interrupt(instance))

    def _interrupt(self, instance: CloudInstance) -> None:
        if instance.is_alive and self._rng.random() < self.faults.remains:
            self._kill_program(instance)
            instance.state = InstanceState.STOPPED
        elif instance.is_alive:
            self.end(instance)

    def _kill_program(self, instance: CloudInstance) -> None:
        if instance.program is not None:
            instance.program.kill()
            instance.program = None

    def end(self, instance: CloudInstance) -> None:
        """Terminate an instance with all its resources."""
        if instance.ended_at is not None:
            return
        self._kill_program(instance)
        instance.end(self._loop.now())
        self._on_change(instance)

    def cost(self) -> Money:
        """Return the cost of all instances until now."""
        now = self._loop.now()
        counted = (instance for instance in self.all_instances.values() if not instance.unmanaged)
        return sum((instance.cost(now) for instance in counted), Money.zero())

    def _shown(self, instance: CloudInstance) -> Instance:
        return Instance(
            instance_id=instance.instance_id,
            job_id=self._job_id,
            state=instance.state,
            instance_type=instance.offer.instance_type.name,
            zone=instance.offer.zone,
            provisioning_model=instance.offer.provisioning_model,
            created_at=instance.created_at,
            client_token=instance.client_token,
            boot_disk_type=instance.offer.boot_disk.disk_type,
        )
