"""`SimulatedCloud`: launches are refused, instances boot slowly, vanish, and leave resources, under a virtual clock.

Invariants, each with a test:

1. Two launches with one client token create one instance, even if the first answer was lost.
2. An instance is billed from its creation to its termination, while stopped too.
3. An instance ends at its maximum lifetime, whatever runs on it.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import attrs
from virtual_loop import START, VirtualLoop

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
    Unpriced,
)
from cloud_tasks.plugin.boot_guard import BOOT_GRACE
from simulated_cloud.bill import Bill
from simulated_cloud.catalogue import ZONES, catalogue, make_prices, request_of
from simulated_cloud.dials.dial import Window
from simulated_cloud.faults import Faults

__all__ = ["RIVAL_RUN", "CloudInstance", "EndCause", "Program", "SimulatedCloud"]

RIVAL_RUN = "another"
"""Run id of another controller of the job."""


class EndCause(enum.Enum):
    """Cause of the end of an instance."""

    TERMINATED = "terminated"
    POWERED_OFF = "powered off"
    """By its script or its worker."""
    PREEMPTED = "preempted"
    LIFETIME = "maximum lifetime"
    CANCELED = "canceled"
    """By the provider, while it was pending."""


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
    """Whether its script ended, or hangs, without a worker."""
    is_pending: bool = False
    """Whether the provider has accepted its launch and not started it: it is not charged yet."""
    started_at: datetime | None = None
    """Time since which it is charged; None while it is pending, and if it never was."""
    gone_at: datetime | None = None
    """Time since which the machine is gone while its disk and address remain until they are removed."""
    unmanaged: bool = False
    is_rival: bool = False
    """Whether another controller launched it."""
    labels: Mapping[str, str] = attrs.field(factory=dict)
    program: Program | None = None
    end_cause: EndCause | None = None
    max_price: Money | None = None
    """Price per hour of the machine above which the provider reclaims it; None: it charges more."""
    listed_until: datetime | None = None
    """Time until which it is listed as running although it has ended."""

    @property
    def is_alive(self) -> bool:
        """Whether it is starting or running."""
        return self.state in (InstanceState.STARTING, InstanceState.RUNNING)

    @property
    def is_ours(self) -> bool:
        """Whether the controller under test launched it."""
        return not self.unmanaged and not self.is_rival


class SimulatedCloud:
    """One `cloud_tasks.plugin.Compute`; calls fail only by refusals and partial terminations (see `Unreliable`).

    Args:
        make_program: Return the program of a new instance.
        on_launch: Called with a request before it creates an instance.
        on_change: Called with an instance that was created or terminated.
        on_charge: Called after the charge of an instance has changed.
        on_terminate: Called with an instance that is to be terminated, and whether another controller does that.
        is_open: Return whether a window of the faults covers the present.
        skew: Difference of its clock from the true time.
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
        on_charge: Callable[[], None] = lambda: None,
        on_terminate: Callable[[CloudInstance, bool], None] = lambda instance, by_rival: None,
        is_open: Callable[[Window | None], bool] = lambda window: False,
        skew: timedelta = timedelta(0),
    ) -> None:
        self.faults = faults
        self.all_instances: dict[str, CloudInstance] = {}
        self._loop = loop
        self._rng = rng
        self._job_id = job_id
        self._make_program = make_program
        self._on_launch = on_launch
        self._on_change = on_change
        self._on_charge = on_charge
        self._on_terminate = on_terminate
        self._is_open = is_open
        self._skew = skew
        self.bill = Bill(loop.now)
        self._by_token: dict[str, CloudInstance] = {}
        self.is_elsewhere = False
        """Whether the controller looks in another place, where no instance is listed."""
        self._zone_of: dict[str, str] = {}
        """Zones that the present controller knows by instance, as `note_zones` requires."""
        self.listed_at = loop.now()
        """Time of the last listing."""
        self._prices = make_prices(lambda: self.faults.money, lambda: loop.now() - START)
        self._no_capacity: dict[tuple[str, str, ProvisioningModel], datetime] = {}

    # -- the Protocol ----------------------------------------------------------------------------------------------

    def regions(self) -> Sequence[Region]:
        return (Region(name="sim", zones=ZONES),)

    def images(self) -> Sequence[Image]:
        return ()

    def instance_types(self) -> Sequence[InstanceType]:
        return catalogue(self.faults.money.sustained_cpu)

    def headroom(self, offer: Offer) -> Headroom | None:
        return None

    def launch(self, request: LaunchRequest) -> Instance:
        known = self._by_token.get(request.client_token)
        if known is None:
            self._refuse(request.offer)
            is_rival = request.labels.get("run") == RIVAL_RUN
            if not is_rival:
                self._on_launch(request)
            self._zone_of[request.client_token] = request.offer.zone
            known = self._create(
                request.offer, request.client_token, request.labels, request.max_lifetime, is_rival=is_rival
            )
            known.max_price = request.max_price_per_hour
            program = known.program
            if "drain" in request.labels and program is not None:
                self._loop.later(timedelta(seconds=float(request.labels["drain"])), program.drain)
        return self._shown(known)

    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        self.listed_at = now = self._loop.now()
        if self.is_elsewhere:
            return ()
        if self.needs_silent_zone():
            raise ProviderError("no answer from a zone", transient=True)
        seen_until = now - self.faults.listing_lag * self._rng.random()
        listed = [
            instance
            for instance in self.all_instances.values()
            if (instance.ended_at is None or include_terminated or self._is_hidden(instance))
            and instance.created_at <= seen_until
            and not self.is_silent(instance.offer.zone)
        ]
        self._zone_of.update((each.instance_id, each.offer.zone) for each in listed)
        return [self._shown(instance) for instance in listed]

    def is_silent(self, zone: str) -> bool:
        """Return whether a zone does not answer: without its instances, a listing is complete for other jobs only."""
        calls = self.faults.calls
        return zone == calls.silent_zone and self._is_open(calls.silence)

    def needs_silent_zone(self) -> bool:
        """Return whether a listing would lack instances of the job."""
        return any(self.is_silent(zone) for zone in self._zone_of.values())

    def note_zones(self, zones: Mapping[str, str]) -> None:
        self._zone_of.update(zones)

    def forget_zones(self) -> None:
        """Forget what the controller under test keeps in memory only."""
        kept = {
            name
            for each in self.all_instances.values()
            if each.is_rival
            for name in (each.instance_id, each.client_token)
        }
        self._zone_of = {name: zone for name, zone in self._zone_of.items() if name in kept}

    def _is_hidden(self, instance: CloudInstance) -> bool:
        """Return whether the end of an instance is not visible yet."""
        until = instance.listed_until
        return until is not None and self._loop.now() < until and bool(self.faults.calls.hidden_end)

    def terminate(self, instance_ids: Sequence[str], *, by_rival: bool = False) -> None:
        partial = self._rng.random() < self.faults.partial
        hidden = False
        for instance_id in instance_ids:
            instance = self.all_instances.get(instance_id)
            if instance is None or instance.is_ending:
                hidden |= instance is not None and self._is_hidden(instance)
                continue
            self._on_terminate(instance, by_rival)
            if partial and self._rng.random() < 0.5:
                continue
            self._kill_program(instance)
            instance.stop()
            stop = timedelta(seconds=self.faults.draw_stop_time(self._rng))
            self._loop.later(stop, lambda instance=instance: self.end(instance, EndCause.TERMINATED))  # type: ignore[misc]
        if hidden:
            raise ProviderError("the instance is not ready: another operation is in progress")
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
        now, launches = self._loop.now(), self.faults.launches
        if self.refuses_everything:
            raise LaunchRefusedError(
                "this account may not launch instances",
                scope=launches.refusal_scope,
                retry_after=launches.refusal_pause,
                reason="DENIED",
                needs_action=True,
            )
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

    @property
    def refuses_everything(self) -> bool:
        """Whether every launch is refused until the user repairs that."""
        return self._is_open(self.faults.launches.refusals)

    @property
    def lists_nothing(self) -> bool:
        """Whether every listing fails, without which nothing is launched."""
        return self._is_open(self.faults.calls.listing_outage)

    def _refusal(self, message: str, scope: RefusalScope, reason: str) -> LaunchRefusedError:
        pause = timedelta(seconds=self._rng.choice((60, 300)))
        return LaunchRefusedError(message, scope=scope, retry_after=pause, reason=reason)

    def lists_rivals(self) -> bool:
        """Return whether a listing may show an instance of another controller."""
        rivals = (each for each in self.all_instances.values() if each.is_rival)
        return any(each.ended_at is None or self._is_hidden(each) for each in rivals)

    def vcpus(self) -> int:
        return sum(instance.offer.instance_type.vcpus for instance in self.existing())

    def ours(self) -> list[CloudInstance]:
        """Return the instances of the controller under test that are billed."""
        return [instance for instance in self.existing() if instance.is_ours]

    def existing(self) -> Iterator[CloudInstance]:
        """Return the instances that are billed, stopped ones included."""
        return (instance for instance in self.all_instances.values() if instance.ended_at is None)

    def add_unmanaged(self, offer: Offer) -> None:
        """Create an instance with the job's label that is in no record."""
        self._create(offer, f"unmanaged{len(self.all_instances)}", {"run": "run"}, None, unmanaged=True)

    def add_rival(self, offer: Offer, stays: timedelta) -> None:
        """Create an instance that another controller of the job launched, and terminates later."""
        labels = {"run": RIVAL_RUN, "owner": "somebody-else"}
        instance = self._create(offer, f"rival{len(self.all_instances)}", labels, None, is_rival=True, works=False)
        self._loop.later(stays, lambda: self.end(instance, EndCause.TERMINATED))

    def _create(
        self,
        offer: Offer,
        token: str,
        labels: Mapping[str, str],
        lifetime: timedelta | None,
        *,
        unmanaged: bool = False,
        is_rival: bool = False,
        works: bool = True,
    ) -> CloudInstance:
        instance = CloudInstance(
            instance_id=f"sim-{len(self.all_instances) + 1:04}",
            offer=offer,
            slots=int(labels.get("slots", "1")),
            client_token=token,
            created_at=self._loop.now(),
            unmanaged=unmanaged,
            is_rival=is_rival,
            labels=labels,
        )
        self.all_instances[instance.instance_id] = self._by_token[token] = instance
        pending = self._draw_pending(instance)
        self.charge(instance)
        if works:
            instance.program = self._make_program(instance)
        self._on_change(instance)
        boot = pending + timedelta(seconds=self.faults.draw_boot_time(self._rng))
        self._loop.later(boot, lambda: self._boot(instance))
        if lifetime is not None:
            if self.faults.launches.shows_pending:
                lifetime += pending
            self._loop.later(lifetime, lambda: self.end(instance, EndCause.LIFETIME))
        if instance.is_ours:
            self._schedule_interruptions(instance, boot)
        return instance

    def _draw_pending(self, instance: CloudInstance) -> timedelta:
        """Return the time for which the provider does not start an instance that it has accepted."""
        launches = self.faults.launches
        if not launches.pending or not instance.is_ours or self._rng.random() >= launches.pending:
            instance.started_at = instance.created_at
            return timedelta(0)
        instance.is_pending = True
        span = timedelta(minutes=self._rng.uniform(1, 40))
        canceled = self._rng.random() < launches.canceled
        if launches.shows_pending and self._rng.random() < launches.never_starts:
            span, canceled = span * 10, True
        self._loop.later(span, lambda: self._end_pending(instance, canceled=canceled))
        return span

    def _end_pending(self, instance: CloudInstance, *, canceled: bool) -> None:
        if instance.ended_at is not None:
            return
        instance.is_pending = False
        if canceled:
            self.end(instance, EndCause.CANCELED)
            return
        instance.started_at = self._loop.now()
        self.charge(instance)

    def _schedule_interruptions(self, instance: CloudInstance, boot: timedelta) -> None:
        launches = self.faults.launches
        span = self.faults.draw_lifetime(self._rng, instance.offer)
        if span is not None:
            self._loop.later(timedelta(seconds=span), lambda: self._preempt(instance))
        if launches.restart is not None:
            after = self._rng.expovariate(1 / launches.restart.total_seconds())
            self._loop.later(boot + timedelta(seconds=after), lambda: self._restart(instance))
        is_spot = instance.offer.provisioning_model is ProvisioningModel.SPOT
        if is_spot and launches.preempted_at_boot and self._is_preempted_at_boot(instance):
            self._loop.later(boot * self._rng.uniform(0.1, 0.9), lambda: self._preempt_silently(instance))

    def _is_preempted_at_boot(self, instance: CloudInstance) -> bool:
        launches, launched = self.faults.launches, sum(each.is_ours for each in self.all_instances.values())
        return launched <= launches.preempted_starts or self._rng.random() < launches.preempted_at_boot

    def _restart(self, instance: CloudInstance) -> None:
        """Restart an instance; nothing starts its worker again."""
        if instance.is_alive and self.faults.launches.restart is not None:
            self._kill_program(instance)

    def _boot(self, instance: CloudInstance) -> None:
        if instance.program is None or not instance.boot():
            return
        launches = self.faults.launches
        without_worker = launches.hanging_script + launches.ending_script
        if without_worker and self._rng.random() < without_worker:
            instance.script_failed = True
            return
        if self._rng.random() >= self.faults.broken_start:
            instance.program.start()
            return
        instance.script_failed = True
        # Some scripts power the instance off; after the others, the boot guard does.
        span = timedelta(seconds=20 if self._rng.random() < 0.5 else BOOT_GRACE)
        self._loop.later(span, lambda: self.end(instance, EndCause.POWERED_OFF))

    def _preempt(self, instance: CloudInstance) -> None:
        if not instance.is_alive or self.faults.spot_lifetime is None:
            return
        if instance.program is None or self._rng.random() < self.faults.preempted_silently:
            self._interrupt(instance)
        else:
            left = timedelta(seconds=self._rng.choice((30, 120)))
            instance.program.notice(left)
            self._loop.later(left, lambda: self._interrupt(instance))

    def _preempt_silently(self, instance: CloudInstance) -> None:
        if self.faults.launches.preempted_at_boot:
            self._interrupt(instance)

    def _interrupt(self, instance: CloudInstance) -> None:
        if instance.is_alive and self._rng.random() < self.faults.remains:
            self._kill_program(instance)
            instance.state, instance.end_cause = InstanceState.STOPPED, EndCause.PREEMPTED
        elif instance.is_alive:
            self.end(instance, EndCause.PREEMPTED)

    def _kill_program(self, instance: CloudInstance) -> None:
        if instance.program is not None:
            instance.program.kill()
            instance.program = None

    def end(self, instance: CloudInstance, cause: EndCause) -> None:
        """Terminate an instance with all its resources, or without those that remain until another termination."""
        if instance.ended_at is not None:
            return
        self._kill_program(instance)
        if cause is not EndCause.LIFETIME and self._leaves_remains(instance):
            instance.gone_at = self._loop.now()
            instance.state, instance.end_cause = InstanceState.STOPPED, instance.end_cause or cause
            self.charge(instance)
            return
        instance.end(self._loop.now())
        instance.end_cause = instance.end_cause or cause
        if self.faults.calls.hidden_end:
            instance.listed_until = self._loop.now() + self.faults.calls.hidden_end * self._rng.random()
        self.bill.charge(instance.instance_id, Money.zero())
        self._on_change(instance)

    def _leaves_remains(self, instance: CloudInstance) -> bool:
        faults = self.faults
        # Nobody removes them after the end of the controller.
        possible = instance.is_ours and instance.gone_at is None and not faults.parties.dies
        return possible and bool(faults.launches.remains) and self._rng.random() < faults.launches.remains

    def charge(self, instance: CloudInstance) -> None:
        """Charge an instance its present price; reclaim one whose price exceeds the maximum that it was given."""
        if not instance.is_ours or instance.ended_at is not None:
            return
        (current,) = self._prices([self.faults.money.made(request_of(instance.offer))])
        price = instance.offer.price if isinstance(current, Unpriced) else current.price
        charged = price.boot_disk + price.address if instance.gone_at is not None else price.total
        self.bill.charge(instance.instance_id, Money.zero() if instance.is_pending else charged)
        self._on_charge()
        if instance.gone_at is not None:
            return
        if instance.max_price is not None and price.machine > instance.max_price:
            self._interrupt(instance)

    def prices_moved(self) -> None:
        """Charge all instances their present prices."""
        for instance in self.ours():
            self.charge(instance)

    def cost(self) -> Money:
        """Return the bill of the controller's instances until now."""
        return self.bill.total()

    def _shown(self, instance: CloudInstance) -> Instance:
        launches, hidden = self.faults.launches, self._is_hidden(instance)
        before = InstanceState.STARTING if instance.is_pending else InstanceState.RUNNING
        state = before if hidden else instance.state
        if launches.shows_pending and instance.is_pending and state is InstanceState.STARTING:
            state = InstanceState.PENDING
        started, ended = instance.started_at, None if hidden else instance.ended_at
        return Instance(
            instance_id=instance.instance_id,
            job_id=self._job_id,
            state=state,
            started_at=started + self._skew if launches.names_times and started is not None else None,
            ended_at=ended + self._skew if launches.names_times and ended is not None else None,
            reason="no free capacity" if state is InstanceState.PENDING else "",
            instance_type=instance.offer.instance_type.name,
            zone=instance.offer.zone,
            provisioning_model=instance.offer.provisioning_model,
            created_at=instance.created_at + self._skew,
            client_token=instance.client_token,
            labels=instance.labels,
            boot_disk_type=instance.offer.boot_disk.disk_type,
        )
