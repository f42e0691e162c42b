"""Clocks of the parties: controller, cloud and workers differ from the true time, or jump."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING

import attrs

from simulated_cloud.dials.dial import Dial, with_group

if TYPE_CHECKING:
    from simulated_cloud.scenario import Scenario

__all__ = ["DIALS", "Clocks"]

_SKEWS = tuple(timedelta(seconds=seconds) for seconds in (50, 300, 25 * 60, 8 * 3600))
_NONE = timedelta(0)


@attrs.frozen(kw_only=True)
class Clocks:
    """Differences from the true time; positive for a clock that is ahead."""

    controller: timedelta = _NONE
    cloud: timedelta = _NONE
    worker: timedelta = _NONE
    """Maximum difference of a worker's clock, in either direction; each worker has its own."""
    jumps: tuple[tuple[timedelta, timedelta], ...] = ()
    """Jumps of the controller's clock: time since the start of the simulation, and size."""

    def of_controller(self, elapsed: timedelta) -> timedelta:
        """Return the difference of the controller's clock at a time since the start of the simulation."""
        return self.controller + sum((by for after, by in self.jumps if after <= elapsed), _NONE)

    def of_worker(self, rng: random.Random) -> timedelta:
        """Draw the difference of one worker's clock."""
        return self.worker * rng.uniform(-1, 1) if self.worker else _NONE


def _skew(rng: random.Random) -> timedelta:
    return rng.choice(_SKEWS) * rng.choice((-1, 1))


def _controller(rng: random.Random, scenario: Scenario) -> Scenario:
    return with_group(scenario, "clocks", controller=_skew(rng))


def _cloud(rng: random.Random, scenario: Scenario) -> Scenario:
    return with_group(scenario, "clocks", cloud=_skew(rng))


def _workers(rng: random.Random, scenario: Scenario) -> Scenario:
    return with_group(scenario, "clocks", worker=rng.choice(_SKEWS))


def _jumps(rng: random.Random, scenario: Scenario) -> Scenario:
    jumps = tuple((scenario.busy_time * rng.random(), _skew(rng)) for _ in range(rng.randint(1, 3)))
    return with_group(scenario, "clocks", jumps=jumps)


DIALS = (
    Dial(
        name="controller clock",
        shows="silence, cost and age do not depend on the difference between two clocks",
        turn_on=_controller,
    ),
    Dial(
        name="cloud clock",
        shows="instances are billed for all of their time, whatever the provider says when they were created",
        turn_on=_cloud,
    ),
    Dial(
        name="worker clocks",
        shows="no instance is terminated because its clock is wrong",
        turn_on=_workers,
    ),
    Dial(
        name="clock jumps",
        shows="a correction of the controller's clock is no silence and costs nothing",
        turn_on=_jumps,
    ),
)
