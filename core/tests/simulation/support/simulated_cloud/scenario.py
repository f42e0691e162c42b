"""Scenario of a simulation: job, cloud and faults."""

from __future__ import annotations

from datetime import timedelta

import attrs

from cloud_tasks.model import Constraints, Limits
from simulated_cloud.faults import Faults

__all__ = ["RetryPolicy", "Scenario"]


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
    bounded_lifetimes: bool = False
    """Whether the limit on the total cost holds while no controller runs, by the lifetimes of the instances."""
    dials: frozenset[str] = frozenset()
    """Names of the dials that are on."""

    @property
    def busy_time(self) -> timedelta:
        """Time in which a job with a typical fleet is busy, for the times of disturbances."""
        return self.mean_task_time * (self.tasks / 20) + timedelta(minutes=10)
