"""Launches, starts and ends: refusals without end, pending instances, scripts without a worker, restarts, remains."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING

import attrs

from cloud_tasks.errors import RefusalScope
from simulated_cloud.dials.dial import Dial, Window, with_group

if TYPE_CHECKING:
    from simulated_cloud.scenario import Scenario

__all__ = ["DIALS", "LaunchFaults"]


@attrs.frozen(kw_only=True)
class LaunchFaults:
    """Disturbances of launches, boots and machines."""

    refusals: Window | None = None
    """Time in which every launch is refused."""
    refusal_scope: RefusalScope = RefusalScope.ACCOUNT
    refusal_pause: timedelta = timedelta(minutes=5)
    """Time for which the scope is to be avoided."""
    preempted_at_boot: float = 0.0
    """Probability that a spot instance is preempted while it boots."""
    preempted_starts: int = 0
    """Number of launches, the first ones, that are all preempted while they boot."""
    hanging_script: float = 0.0
    """Probability that the startup script of an instance never ends, nor starts a worker."""
    ending_script: float = 0.0
    """Probability that the startup script of an instance ends without a worker, and leaves the instance running."""
    restart: timedelta | None = None
    """Mean time until an instance restarts without running its script again; None: never."""
    pending: float = 0.0
    """Probability that an instance is pending for minutes, without a charge, before it boots."""
    canceled: float = 0.0
    """Probability that the provider cancels a pending instance."""
    shows_pending: bool = False
    """Whether the listing shows pending instances as such, and lifetimes count from the start."""
    names_times: bool = False
    """Whether the listing names starts and ends."""
    never_starts: float = 0.0
    """Probability that a pending instance never starts, and is canceled after hours."""
    remains: float = 0.0
    """Probability that disk and address of an instance remain after its end, and are charged until their removal."""


def _refusals(rng: random.Random, scenario: Scenario) -> Scenario:
    begin = scenario.busy_time * rng.choice((0, 0, rng.uniform(0, 0.5)))
    return with_group(
        scenario,
        "launches",
        refusals=Window(begin=begin),
        refusal_scope=rng.choice(tuple(RefusalScope)),
        refusal_pause=timedelta(seconds=rng.choice((60, 300, 3600, 86400))),
    )


def _preemption(rng: random.Random, scenario: Scenario) -> Scenario:
    starts = rng.choice((0, 1, 3, 8))
    return with_group(scenario, "launches", preempted_at_boot=rng.choice((0.1, 0.5)), preempted_starts=starts)


def _scripts(rng: random.Random, scenario: Scenario) -> Scenario:
    share = rng.choice((0.1, 0.3))
    return with_group(scenario, "launches", hanging_script=share * rng.random(), ending_script=share * rng.random())


def _restarts(rng: random.Random, scenario: Scenario) -> Scenario:
    return with_group(scenario, "launches", restart=timedelta(minutes=rng.choice((10, 30, 120))))


def _pending(rng: random.Random, scenario: Scenario) -> Scenario:
    return with_group(
        scenario,
        "launches",
        pending=rng.choice((0.1, 0.5)),
        canceled=rng.choice((0.0, 0.5)),
        shows_pending=rng.random() < 0.7,
        names_times=rng.random() < 0.5,
        never_starts=rng.choice((0.0, 0.2)),
    )


def _remains(rng: random.Random, scenario: Scenario) -> Scenario:
    return with_group(scenario, "launches", remains=rng.choice((0.2, 1.0)))


DIALS = (
    Dial(
        name="endless refusals",
        shows="a job that can never start ends, with the last refusal",
        turn_on=_refusals,
    ),
    Dial(
        name="preemption at boot",
        shows="an instance that is preempted while it boots is no failed start",
        turn_on=_preemption,
    ),
    Dial(
        name="scripts without worker",
        shows="an instance whose script hangs, or ends without a worker, is replaced",
        turn_on=_scripts,
    ),
    Dial(
        name="restarts",
        shows="an instance that restarts without its worker is replaced",
        turn_on=_restarts,
    ),
    Dial(
        name="pending instances",
        shows="an instance that the provider has not started yet counts towards the limits, and costs nothing",
        turn_on=_pending,
    ),
    Dial(
        name="remains",
        shows="disks and addresses that an instance leaves behind are removed",
        turn_on=_remains,
    ),
)
