"""`FleetView`: an observation with a complete listing, as the rules of one stage see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypeAlias

import attrs

from cloud_tasks.controller.autoscaler.actions import Action, Discard, MarkEnded, Terminate
from cloud_tasks.controller.autoscaler.state import FleetInstance, Observation
from cloud_tasks.model import InstanceState

__all__ = ["GONE", "FleetView", "Rule"]

GONE = (None, InstanceState.TERMINATED)
"""States of an instance that is not listed, or listed as terminated."""
_ALIVE = (InstanceState.STARTING, InstanceState.RUNNING)


@attrs.frozen(slots=False)
class FleetView:
    """Input of a rule.

    The actions of earlier stages have removed instances from `alive`; rules of one stage see the same instances.
    """

    observation: Observation
    fleet: tuple[FleetInstance, ...]
    """All instances and open intents of the observation."""
    removed: frozenset[str] = frozenset()
    """Ids of the instances that earlier stages terminate or record as ended."""

    @cached_property
    def alive(self) -> list[FleetInstance]:
        """Instances that start or run, and are not removed."""
        return [i for i in self.fleet if i.state in _ALIVE and i.recorded and i.instance_id not in self.removed]

    @cached_property
    def pending(self) -> list[FleetInstance]:
        """Instances that the provider has not started yet, and that are not removed."""
        pending = (i for i in self.fleet if i.state is InstanceState.PENDING)
        return [i for i in pending if i.recorded and i.instance_id not in self.removed]

    @cached_property
    def ended(self) -> list[FleetInstance]:
        """Instances whose end this decision records."""
        return [i for i in self.fleet if i.recorded and i.state in GONE and i.instance_id in self.removed]

    @cached_property
    def held(self) -> list[FleetInstance]:
        """Instances that count towards the limits: all that may still be billed, pending and removed ones included."""
        return [i for i in self.fleet if i.state not in GONE or i.instance_id is None or self.may_be_unlisted(i)]

    def may_be_unlisted(self, instance: FleetInstance) -> bool:
        """Return whether the instance is so new that the listing need not show it."""
        age = self.observation.now - instance.launched_at
        recent = age <= self.observation.policy.listing_lag
        return instance.state is None and (recent or instance.may_be_unlisted)

    def is_alive(self, instance: FleetInstance) -> bool:
        """Return whether the instance is listed as starting or running."""
        return instance.state in _ALIVE

    def after(self, actions: Sequence[Action]) -> FleetView:
        """Return the view of the next stage."""
        removed = {action.instance_id for action in actions if isinstance(action, (Terminate, Discard, MarkEnded))}
        return attrs.evolve(self, removed=self.removed | removed) if removed else self


Rule: TypeAlias = Callable[[FleetView], Sequence[Action]]
