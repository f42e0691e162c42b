"""Parties: a controller that never comes back or looks elsewhere, and another controller of the same job id."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING

import attrs

from simulated_cloud.dials.dial import Dial, with_budget, with_group, with_long_tasks

if TYPE_CHECKING:
    from simulated_cloud.scenario import Scenario

__all__ = ["DIALS", "PartyFaults"]


@attrs.frozen(kw_only=True)
class PartyFaults:
    """Disturbances by the people around a job."""

    dies: bool = False
    """Whether the controller never comes back after a crash of its run."""
    elsewhere: float = 0.0
    """Probability that a run is continued with the settings of another place, where no instance is listed."""
    rivals: int = 0
    """Number of instances that another controller of the same job id, with another owner, launches."""
    second_after: timedelta | None = None
    """Time after which a second controller of the job id wants to start, with its own database; None: never."""
    rival_after: timedelta = timedelta(0)
    rival_stays: timedelta = timedelta(0)
    """Time after which its instances are gone."""


def _dead_controller(rng: random.Random, scenario: Scenario) -> Scenario:
    if rng.random() < 0.7:
        scenario = with_budget(rng, scenario)
    faults = scenario.faults
    scripts = rng.choice((0.0, 0.3))
    launches = attrs.evolve(faults.launches, hanging_script=scripts / 2, ending_script=scripts / 2)
    if rng.random() < 0.3:
        launches = attrs.evolve(launches, restart=timedelta(minutes=rng.choice((10, 60))))
    return with_group(attrs.evolve(scenario, faults=attrs.evolve(faults, launches=launches)), "parties", dies=True)


def _rival(rng: random.Random, scenario: Scenario) -> Scenario:
    return with_group(
        scenario,
        "parties",
        rivals=rng.randint(1, 4),
        rival_after=scenario.busy_time * rng.uniform(0, 0.5),
        rival_stays=timedelta(hours=rng.uniform(0.2, 3)),
    )


def _elsewhere(rng: random.Random, scenario: Scenario) -> Scenario:
    faults = attrs.evolve(scenario.faults, crashes=max(scenario.faults.crashes, 3), interrupts=2)
    return with_group(attrs.evolve(scenario, faults=faults), "parties", elsewhere=rng.choice((0.3, 1.0)))


def _two_controllers(rng: random.Random, scenario: Scenario) -> Scenario:
    # At once, before the first one has instances, or when it has none again.
    after = rng.choice((timedelta(0), timedelta(0), scenario.busy_time * rng.uniform(0, 0.7)))
    faults = attrs.evolve(scenario.faults, spot_lifetime=timedelta(minutes=rng.choice((15, 60))))
    scenario = with_long_tasks(attrs.evolve(scenario, faults=faults))
    return with_group(scenario, "parties", second_after=after)


DIALS = (
    Dial(
        name="dead controller",
        shows="whenever the controller dies, every instance ends by itself and the total stays within the limit",
        turn_on=_dead_controller,
        probability=0.1,
    ),
    Dial(
        name="another place",
        shows="a job is not continued in another region, account or folder, where its instances are not listed",
        turn_on=_elsewhere,
        probability=0.1,
    ),
    Dial(
        name="second controller",
        shows="instances of another owner are never terminated, and the run ends",
        turn_on=_rival,
        probability=0.1,
    ),
    Dial(
        name="two controllers",
        shows="two controllers of one job id terminate no instance of each other, and do not run beside each other",
        turn_on=_two_controllers,
        probability=0.1,
    ),
)
