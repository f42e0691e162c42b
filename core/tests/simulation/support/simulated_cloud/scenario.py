"""Scenario of a simulation: job, cloud and faults, all drawn from one seed."""

from __future__ import annotations

import random
from datetime import timedelta

import attrs

from cloud_tasks.estimate import CloudModel
from cloud_tasks.model import Constraints, Limits, Money, ProvisioningModel

__all__ = ["CALM", "Faults", "RetryPolicy", "Scenario", "draw_scenario"]


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
    """Whether an earlier run of the job left messages in the queues, and an instance."""
    crashes: int = 0
    """Number of crashes of the controller, each followed by ``--continue``."""

    def draw_boot_time(self, rng: random.Random) -> float:
        slow = rng.random() < self.slow_boot
        return 60 * rng.uniform(5, 15) if slow else super().draw_boot_time(rng)


CALM = Faults()
_MAX_WORK = 40_000
"""Maximum total task time of a drawn job, in seconds."""


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """Retry settings of a job; a kind of failure that is off ends the task at once."""

    on_exit: bool = False
    on_exception: bool = False
    on_timeout: bool = False
    max_attempts: int = 3
    """Maximum number of attempts, retries requested by the task included."""
    max_losses: int = 10


@attrs.frozen(kw_only=True)
class Scenario:
    """One job in one simulated cloud."""

    seed: int
    tasks: int
    faults: Faults
    constraints: Constraints
    limits: Limits
    retry: RetryPolicy
    mean_task_time: timedelta = timedelta(seconds=30)
    exception: float = 0.0
    timeout: float = 0.0
    exit: float = 0.0
    requests_retry: float = 0.0
    spot_fallback: bool = False
    canary: bool = False
    exact_depth: bool = False
    scaling_check_interval: timedelta = timedelta(seconds=60)
    instance_termination_delay: timedelta = timedelta(seconds=60)
    keepalive_interval: timedelta = timedelta(seconds=60)
    lease: timedelta = timedelta(seconds=60)
    idle_limit: timedelta = timedelta(minutes=10)
    max_lifetime: timedelta | None = timedelta(days=1)
    max_runtime: timedelta = timedelta(hours=1)
    latency: timedelta = timedelta(milliseconds=200)
    """Mean duration of a call."""
    max_parallel_launches: int = 4
    event_wait: timedelta = timedelta(seconds=1)
    """Maximum time for which a receive call of the controller waits for the first event."""


def draw_scenario(seed: int, *, min_tasks: int = 200, max_tasks: int = 2000) -> Scenario:
    """Draw a job with faults of random strength."""
    rng = random.Random(f"scenario/{seed}")

    def chance(maximum: float) -> float:
        return rng.choice((0.0, rng.uniform(0, maximum), maximum))

    spot = rng.random() < 0.6
    faults = Faults(
        refused=chance(0.5),
        quota_vcpus=rng.choice((None, None, rng.randint(16, 128))),
        call_fails=chance(0.1),
        call_times_out=chance(0.1),
        partial=chance(0.1),
        listing_lag=timedelta(seconds=rng.choice((0, 0, 5, 30))),
        slow_boot=chance(0.2),
        broken_start=chance(0.2),
        spot_lifetime=timedelta(minutes=rng.uniform(5, 120)),
        preempted_silently=chance(0.5),
        remains=chance(0.5),
        worker_crashes=chance(0.01),
        worker_hangs=chance(0.005),
        lease_lost=chance(0.05),
        duplicated=chance(0.05),
        ack_lost=chance(0.05),
        delayed=chance(0.2),
        garbage=(garbage := chance(0.05)),
        refused_events=garbage,
        outages=rng.randint(0, 3),
        sleeps=rng.randint(0, 2),
        unmanaged_instances=rng.randint(0, 2),
        crashes=rng.randint(0, 6),
        interrupts=rng.randint(0, 2),
        earlier_run=rng.random() < 0.3,
    )
    # Drawn apart: the other faults of a seed stay the same.
    more = random.Random(f"database/{seed}")
    faults = attrs.evolve(faults, database_locks=more.randint(0, 3), errors=more.randint(0, 2))
    limits = Limits(
        max_instances=rng.choice((rng.randint(1, 4), rng.randint(5, 20))),
        max_total_cpus=rng.choice((None, rng.randint(8, 200))),
        max_simultaneous_tasks=rng.choice((None, rng.randint(8, 100))),
        max_total_price_per_hour=rng.choice((None, Money(round(rng.uniform(0.5, 10), 2)))),
        max_total_cost=rng.choice((None, None, Money(round(rng.uniform(0.05, 1), 2)))),
    )
    constraints = Constraints(
        provisioning_model=ProvisioningModel.SPOT if spot else ProvisioningModel.ON_DEMAND,
        cpus_per_task=rng.choice((1, 1, 2)),
        max_cpu=rng.choice((None, 8)),
    )
    tasks = rng.randint(min_tasks, max_tasks)
    retries = {f"on_{kind}": rng.random() < 0.5 for kind in ("exit", "exception", "timeout")}
    return Scenario(
        seed=seed,
        tasks=tasks,
        faults=faults,
        constraints=constraints,
        limits=limits,
        retry=RetryPolicy(**retries, max_attempts=rng.randint(1, 4)),
        # Many tasks are short, so that no job takes days.
        mean_task_time=timedelta(seconds=min(rng.choice((3, 20, 60, 200)), _MAX_WORK / tasks)),
        exception=chance(0.1),
        timeout=chance(0.02),
        exit=chance(0.02),
        requests_retry=chance(0.05),
        spot_fallback=rng.random() < 0.5,
        canary=rng.random() < 0.2,
        exact_depth=rng.random() < 0.5,
        scaling_check_interval=timedelta(seconds=rng.choice((10, 60))),
        idle_limit=timedelta(minutes=rng.choice((5, 15, 60))),
        max_lifetime=rng.choice((None, timedelta(days=1), timedelta(hours=rng.randint(1, 6)))),
        latency=timedelta(milliseconds=rng.choice((50, 500, 2000))),
        max_parallel_launches=rng.randint(1, 10),
        event_wait=timedelta(seconds=rng.choice((1, 10, 20))),
    )
