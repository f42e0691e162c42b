"""Model of a cloud's instances: capacity, boot times, spot interruptions, and prices by the second.

`CloudModel` holds the rates and draws from them, `SimulatedInstance` is the lifecycle of one instance. Clock, queue and
controller are those of the cost simulation, or of the tests' simulated cloud, which adds faults to the same model.

Invariants, each with a test:

1. An instance starts, runs, stops and terminates in this order, and terminates once; a late event changes nothing.
2. An instance is billed from its creation to its termination.
3. The number of draws from a random generator depends on the model alone, so that a seed reproduces its run.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import attrs

from cloud_tasks.model import InstanceState, Money, Offer, ProvisioningModel

__all__ = ["CloudModel", "SimulatedInstance"]

_Time = TypeVar("_Time", float, datetime)


@attrs.frozen(kw_only=True)
class CloudModel:
    """Rates of a cloud. Probabilities are per launch; spreads are shares of the mean, in either direction."""

    boot_time: timedelta = timedelta(seconds=60)
    """Mean time from the launch to the first task."""
    boot_spread: float = 0.5
    stop_time: timedelta = timedelta(seconds=15)
    """Mean time for which an instance is billed after its termination was requested."""
    stop_spread: float = 0.0
    spot_lifetime: timedelta | None = None
    """Mean time until a spot instance is interrupted; None: never."""
    refused: float = 0.0
    """Probability that no capacity is available."""

    def draw_refusal(self, rng: random.Random) -> bool:
        """Return whether a launch is refused for lack of capacity."""
        return rng.random() < self.refused

    def draw_boot_time(self, rng: random.Random) -> float:
        """Return the seconds from a launch to the first task."""
        return _uniform(rng, self.boot_time, self.boot_spread)

    def draw_stop_time(self, rng: random.Random) -> float:
        """Return the seconds from a termination request to the end of billing."""
        return _uniform(rng, self.stop_time, self.stop_spread)

    def draw_lifetime(self, rng: random.Random, offer: Offer) -> float | None:
        """Return the seconds from a launch to the spot interruption; None: never interrupted."""
        if offer.provisioning_model is not ProvisioningModel.SPOT or self.spot_lifetime is None:
            return None
        return rng.expovariate(1 / self.spot_lifetime.total_seconds())


def _uniform(rng: random.Random, mean: timedelta, spread: float) -> float:
    return mean.total_seconds() * (rng.uniform(1 - spread, 1 + spread) if spread else 1.0)


@attrs.define(kw_only=True, eq=False)
class SimulatedInstance(Generic[_Time]):
    """Lifecycle of one instance; times are seconds of a simulation, or datetimes."""

    offer: Offer
    slots: int
    created_at: _Time
    state: InstanceState = InstanceState.STARTING
    ended_at: _Time | None = None

    @property
    def is_ending(self) -> bool:
        """Whether it is stopping or terminated."""
        return self.ended_at is not None or self.state is InstanceState.STOPPING

    def boot(self) -> bool:
        """Enter the running state; return False if it is no longer starting."""
        if self.state is not InstanceState.STARTING:
            return False
        self.state = InstanceState.RUNNING
        return True

    def stop(self) -> bool:
        """Enter the stopping state; return False if it is stopping or terminated already."""
        if self.is_ending:
            return False
        self.state = InstanceState.STOPPING
        return True

    def end(self, when: _Time) -> bool:
        """Terminate, which ends the billing; return False if it is terminated already."""
        if self.ended_at is not None:
            return False
        self.state, self.ended_at = InstanceState.TERMINATED, when
        return True

    def cost(self, now: _Time) -> Money:
        """Return the cost from the creation to the termination, or until now."""
        span = (now if self.ended_at is None else self.ended_at) - self.created_at
        seconds = span.total_seconds() if isinstance(span, timedelta) else span
        return self.offer.price_per_hour * (max(seconds, 0.0) / 3600)
