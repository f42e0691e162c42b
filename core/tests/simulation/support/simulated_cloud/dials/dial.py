"""`Dial`: one way in which the world around a job breaks, drawn into a scenario with a probability of its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import attrs

from cloud_tasks.model import Money

if TYPE_CHECKING:
    # Faults consist of the parts that the dials set, and scenarios have faults.
    from simulated_cloud.scenario import Scenario

__all__ = ["Dial", "Window", "with_budget", "with_group", "with_long_tasks"]


_LONG_JOB = timedelta(hours=8)
"""Total time of all tasks of a job of long tasks."""
_PRICE_OF_SLOT = 0.012
"""Price of a task slot per hour, in US dollars, about that of the cheapest spot offer."""


@attrs.frozen(kw_only=True)
class Window:
    """Time in which something is broken."""

    begin: timedelta
    """Since the start of the simulation."""
    length: timedelta | None = None
    """None: until the user repairs it after the end of a run."""

    def covers(self, elapsed: timedelta, repaired_at: timedelta) -> bool:
        """Return whether it is broken now.

        Args:
            repaired_at: Time of the last repair.
        """
        is_over = self.length is not None and elapsed >= self.begin + self.length
        return repaired_at <= self.begin <= elapsed and not is_over


@attrs.frozen(kw_only=True)
class Dial:
    """A kind of disturbance."""

    name: str
    shows: str
    """What the controller has to do about it, in one line."""
    turn_on: Callable[[random.Random, Scenario], Scenario]
    """Returns the scenario with the disturbance, drawn from the generator."""
    probability: float = 0.2


def with_group(scenario: Scenario, group: str, **changes: Any) -> Scenario:
    """Return the scenario with changes in one group of its faults."""
    changed = attrs.evolve(getattr(scenario.faults, group), **changes)
    return attrs.evolve(scenario, faults=attrs.evolve(scenario.faults, **{group: changed}))


def with_long_tasks(scenario: Scenario) -> Scenario:
    """Return the scenario with longer tasks, unless all of them together take long already."""
    longest = max(scenario.mean_task_time, _LONG_JOB / scenario.tasks)
    return attrs.evolve(scenario, mean_task_time=min(scenario.mean_task_time * 3, longest))


def with_budget(rng: random.Random, scenario: Scenario) -> Scenario:
    """Return the scenario with a limit on the total cost that the job is likely to reach."""
    if scenario.limits.max_total_cost is not None:
        return scenario
    hours = scenario.mean_task_time * scenario.tasks / timedelta(hours=1)
    limit = max(0.03, hours * _PRICE_OF_SLOT * rng.uniform(0.3, 1.2))
    limits = attrs.evolve(scenario.limits, max_total_cost=Money(round(limit, 2)))
    return attrs.evolve(scenario, limits=limits)
