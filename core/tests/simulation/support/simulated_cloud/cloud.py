"""`SimulatedCloud`: machines that are refused, boot slowly, vanish and leave remains, under the virtual clock.

Invariants, each with a test:

1. Two launches with one client token make one machine, even when the first answer was lost.
2. A machine costs from its creation until it is terminated, remains included.
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
    Purchase,
    Region,
)
from simulated_cloud.catalogue import ZONES, catalogue
from simulated_cloud.scenario import Faults

__all__ = ["Machine", "Program", "SimulatedCloud"]


class Program(Protocol):
    """What runs on a machine."""

    def start(self) -> None:
        """The startup script has got as far as the worker."""

    def notice(self, left: timedelta) -> None:
        """The machine will be taken away."""

    def kill(self) -> None:
        """The machine is gone."""


@attrs.define(kw_only=True, eq=False)
class Machine(SimulatedInstance[datetime]):
    """One machine, as it truly is."""

    instance_id: str
    client_token: str
    script_failed: bool = False
    stranger: bool = False
    program: Program | None = None

    @property
    def is_alive(self) -> bool:
        """Whether it starts or runs."""
        return self.state in (InstanceState.STARTING, InstanceState.RUNNING)


class SimulatedCloud:
    """One region of one provider, with the face of `cloud_tasks.plugin.Compute`; calls fail only as a provider refuses.

    Args:
        make_program: Makes what a new machine runs.
        on_launch: Told of a request that is about to make a machine.
        on_change: Told of a machine that began to exist or ended.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        rng: random.Random,
        faults: Faults,
        *,
        job_id: str,
        make_program: Callable[[Machine], Program],
        on_launch: Callable[[LaunchRequest], None],
        on_change: Callable[[Machine], None],
    ) -> None:
        self.faults = faults
        self.machines: dict[str, Machine] = {}
        self._loop = loop
        self._rng = rng
        self._job_id = job_id
        self._make_program = make_program
        self._on_launch = on_launch
        self._on_change = on_change
        self._by_token: dict[str, Machine] = {}
        self.listed_at = loop.now()
        """When a listing was last made."""
        self._out_of_stock: dict[tuple[str, str, Purchase], datetime] = {}

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
        return self._shown(known)

    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        self.listed_at = self._loop.now()
        seen_until = self._loop.now() - self.faults.listing_lag * self._rng.random()
        return [
            self._shown(machine)
            for machine in self.machines.values()
            if (machine.ended_at is None or include_terminated) and machine.created_at <= seen_until
        ]

    def terminate(self, instance_ids: Sequence[str]) -> None:
        partial = self._rng.random() < self.faults.partial
        for instance_id in instance_ids:
            machine = self.machines.get(instance_id)
            if machine is None or machine.is_ending:
                continue
            if partial and self._rng.random() < 0.5:
                continue
            self._kill_program(machine)
            machine.stop()
            stop = timedelta(seconds=self.faults.draw_stop_time(self._rng))
            self._loop.later(stop, lambda machine=machine: self.end(machine))  # type: ignore[misc]
        if partial:
            raise ProviderError("some instances may remain", transient=True)

    def console_log(self, instance_id: str) -> str:
        machine = self.machines.get(instance_id)
        failed = machine is not None and machine.script_failed
        return "bash: line 7: no such command\n" if failed else "worker started\n"

    def close(self) -> None:
        """Nothing is open."""

    # -- what happens in it ----------------------------------------------------------------------------------------

    def _refuse(self, offer: Offer) -> None:
        now = self._loop.now()
        key = (offer.instance_type.name, offer.zone, offer.purchase)
        if self.faults.draw_refusal(self._rng):
            self._out_of_stock.setdefault(key, now + timedelta(minutes=self._rng.uniform(1, 30)))
        until = self._out_of_stock.get(key)
        if until is not None and until > now:
            scope = self._rng.choice(
                (RefusalScope.OFFER, RefusalScope.OFFER, RefusalScope.ZONE, RefusalScope.INSTANCE_TYPE)
            )
            raise self._refusal("no capacity", scope, "OUT_OF_STOCK")
        self._out_of_stock.pop(key, None)
        quota = self.faults.quota_vcpus
        if quota is not None and self.vcpus() + offer.instance_type.vcpus > quota:
            raise self._refusal(f"quota of {quota} vCPUs exceeded", RefusalScope.REGION, "QUOTA")

    def _refusal(self, message: str, scope: RefusalScope, reason: str) -> LaunchRefusedError:
        away = timedelta(seconds=self._rng.choice((60, 300)))
        return LaunchRefusedError(message, scope=scope, retry_after=away, reason=reason)

    def vcpus(self) -> int:
        return sum(machine.offer.instance_type.vcpus for machine in self.existing())

    def existing(self) -> Iterator[Machine]:
        """Machines that cost money, remains included."""
        return (machine for machine in self.machines.values() if machine.ended_at is None)

    def add_stranger(self, offer: Offer) -> None:
        """A machine with our job's label that nobody remembers."""
        self._create(offer, 1, f"stranger{len(self.machines)}", None, stranger=True)

    def _create(
        self, offer: Offer, slots: int, token: str, lifetime: timedelta | None, *, stranger: bool = False
    ) -> Machine:
        machine = Machine(
            instance_id=f"sim-{len(self.machines) + 1:04}",
            offer=offer,
            slots=slots,
            client_token=token,
            created_at=self._loop.now(),
            stranger=stranger,
        )
        self.machines[machine.instance_id] = self._by_token[token] = machine
        machine.program = self._make_program(machine)
        self._on_change(machine)
        boot = timedelta(seconds=self.faults.draw_boot_time(self._rng))
        self._loop.later(boot, lambda: self._boot(machine))
        if lifetime is not None:
            self._loop.later(lifetime, lambda: self.end(machine))
        span = self.faults.draw_lifetime(self._rng, offer)
        if span is not None:
            self._loop.later(timedelta(seconds=span), lambda: self._preempt(machine))
        return machine

    def _boot(self, machine: Machine) -> None:
        if machine.program is None or not machine.boot():
            return
        if self._rng.random() >= self.faults.broken_start:
            machine.program.start()
            return
        machine.script_failed = True
        if self._rng.random() < 0.5:  # some scripts end with the machine switched off, others leave it idle
            self._loop.later(timedelta(seconds=20), lambda: self.end(machine))

    def _preempt(self, machine: Machine) -> None:
        if not machine.is_alive or self.faults.spot_lifetime is None:
            return
        if machine.program is None or self._rng.random() < self.faults.preempted_silently:
            self._take_away(machine)
        else:
            left = timedelta(seconds=self._rng.choice((30, 120)))
            machine.program.notice(left)
            self._loop.later(left, lambda: self._take_away(machine))

    def _take_away(self, machine: Machine) -> None:
        if machine.is_alive and self._rng.random() < self.faults.remains:
            self._kill_program(machine)
            machine.state = InstanceState.STOPPED
        elif machine.is_alive:
            self.end(machine)

    def _kill_program(self, machine: Machine) -> None:
        if machine.program is not None:
            machine.program.kill()
            machine.program = None

    def end(self, machine: Machine) -> None:
        """The machine and all its remains are gone."""
        if machine.ended_at is not None:
            return
        self._kill_program(machine)
        machine.end(self._loop.now())
        self._on_change(machine)

    def cost(self) -> Money:
        """What all machines have cost until now."""
        now = self._loop.now()
        counted = (machine for machine in self.machines.values() if not machine.stranger)
        return sum((machine.cost(now) for machine in counted), Money.zero())

    def _shown(self, machine: Machine) -> Instance:
        return Instance(
            instance_id=machine.instance_id,
            job_id=self._job_id,
            state=machine.state,
            instance_type=machine.offer.instance_type.name,
            zone=machine.offer.zone,
            purchase=machine.offer.purchase,
            created_at=machine.created_at,
            client_token=machine.client_token,
            boot_disk_type=machine.offer.boot_disk.disk_type,
        )
