"""Faults of the simulated cloud: rates of small faults, and the dials of `simulated_cloud.dials` in groups."""

from __future__ import annotations

import random
from datetime import timedelta

import attrs

from cloud_tasks.estimate import CloudModel
from simulated_cloud.dials.calls import CallFaults
from simulated_cloud.dials.clocks import Clocks
from simulated_cloud.dials.launches import LaunchFaults
from simulated_cloud.dials.money import MoneyFaults
from simulated_cloud.dials.parties import PartyFaults

__all__ = ["CALM", "Faults"]


@attrs.frozen(kw_only=True)
class Faults(CloudModel):
    """A cloud model with faults. Probabilities are per opportunity; the default is a cloud without any fault.

    A launch that is refused (`refused`) leaves a zone without the instance type for some minutes.
    """

    boot_time: timedelta = timedelta(seconds=50)
    boot_spread: float = 0.8
    stop_spread: float = 1.0
    quota_vcpus: int | None = None
    """Quota of vCPUs in the region; None: unlimited."""
    call_fails: float = 0.0
    """A call of the controller fails without effect."""
    call_times_out: float = 0.0
    """A call of the controller takes effect and its answer is lost."""
    partial: float = 0.0
    """A batch (send, termination) is carried out in part."""
    listing_lag: timedelta = timedelta(0)
    """Maximum time for which listings do not show a new instance; known to the controller."""
    slow_boot: float = 0.0
    """An instance takes many minutes to boot."""
    broken_start: float = 0.0
    """The startup script of an instance fails."""
    preempted_silently: float = 0.0
    """A spot instance is interrupted without notice."""
    remains: float = 0.0
    """An interrupted instance stays stopped until it is terminated."""
    broken_instances: int = 0
    """Number of instances, the first ones, on which every task exits at once."""
    worker_crashes: float = 0.0
    """A worker crashes at the end of a task."""
    worker_hangs: float = 0.0
    """A worker hangs at the end of a task."""
    lease_lost: float = 0.0
    """The lease of a running task ends although its worker runs."""
    duplicated: float = 0.0
    """A message is stored twice."""
    ack_lost: float = 0.0
    """An ack is confirmed and has no effect."""
    delayed: float = 0.0
    """A message is delayed by up to a minute, so that others overtake it."""
    garbage: float = 0.0
    """A malformed or hostile message is in the event queue, per event message."""
    refused_events: float = 0.0
    """A message has an event that the store cannot take, per event message."""
    outages: int = 0
    """Number of outages of the queues, of some minutes each."""
    database_locks: int = 0
    """Number of times that another program locks the job database, for some minutes each."""
    errors: int = 0
    """Number of errors in callbacks of the controller that nothing handles, each followed by ``--continue``."""
    sleeps: int = 0
    """Number of times that the controller's computer sleeps, for up to an hour."""
    unmanaged_instances: int = 0
    """Number of instances with the job's label that are in no record."""
    interrupts: int = 0
    """Number of Ctrl-C interrupts, answered by terminate, leave or continue."""
    earlier_run: bool = False
    """Whether an earlier run of the job left an instance."""
    crashes: int = 0
    """Number of crashes of the controller, each followed by ``--continue``."""

    calls: CallFaults = attrs.field(factory=CallFaults)
    clocks: Clocks = attrs.field(factory=Clocks)
    launches: LaunchFaults = attrs.field(factory=LaunchFaults)
    money: MoneyFaults = attrs.field(factory=MoneyFaults)
    parties: PartyFaults = attrs.field(factory=PartyFaults)

    def draw_boot_time(self, rng: random.Random) -> float:
        slow = rng.random() < self.slow_boot
        return 60 * rng.uniform(5, 15) if slow else super().draw_boot_time(rng)


CALM = Faults()
