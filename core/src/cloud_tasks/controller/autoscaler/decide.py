"""The decision: which actions an observation calls for. Pure: no clock, no lock, no call.

The rules are applied in stages, in order. The rules of one stage see the same instances; those that a stage terminates
or records as ended are not among the living ones of the next. `Abort` and `Drain` end the decision.

Invariants, each with a test; the others are those of the rules:

1. A failed listing means "unknown": no instance is launched, terminated or recorded as ended because of it.
2. The same observation gives the same actions.
"""

from __future__ import annotations

from cloud_tasks.controller.autoscaler.actions import Abort, Action, Drain, Finish, Warn
from cloud_tasks.controller.autoscaler.rules.budget import abort_drained, abort_over_budget, drain, terminate_drained
from cloud_tasks.controller.autoscaler.rules.comparison import discard_failing
from cloud_tasks.controller.autoscaler.rules.corrections import correct_records
from cloud_tasks.controller.autoscaler.rules.fleet_view import FleetView, Rule
from cloud_tasks.controller.autoscaler.rules.heartbeats import abort_without_heartbeat, replace_unresponsive
from cloud_tasks.controller.autoscaler.rules.launches import launch_missing
from cloud_tasks.controller.autoscaler.rules.lifetimes import terminate_expired, terminate_unaffordable
from cloud_tasks.controller.autoscaler.rules.progress import (
    abort_failing_workers,
    abort_unlaunchable,
    abort_without_progress,
)
from cloud_tasks.controller.autoscaler.rules.requeue import requeue_missing
from cloud_tasks.controller.autoscaler.rules.surplus import terminate_surplus
from cloud_tasks.controller.autoscaler.state import Observation

__all__ = ["decide"]

_STAGES: tuple[tuple[Rule, ...], ...] = (
    (correct_records, terminate_expired, terminate_unaffordable),
    (
        abort_over_budget,
        abort_drained,
        abort_unlaunchable,
        abort_without_heartbeat,
        abort_failing_workers,
        abort_without_progress,
    ),
    (discard_failing, replace_unresponsive),
    (terminate_drained, terminate_surplus, drain, requeue_missing, launch_missing),
)


def decide(observation: Observation) -> tuple[Action, ...]:
    """Return the actions that an observation calls for; the caller carries out all of them, in order."""
    if observation.remaining == 0 and observation.all_loaded:
        # The failed tasks of a discarded instance run again.
        return (*discard_failing(FleetView(observation, observation.fleet or ())),) or (Finish(),)
    if observation.fleet is None:
        return (Warn(key="listing", message="Instances could not be listed; no changes until a listing succeeds"),)
    actions: list[Action] = []
    view = FleetView(observation, observation.fleet)
    for stage in _STAGES:
        first = len(actions)
        for rule in stage:
            found = rule(view)
            actions += found
            if any(isinstance(action, (Abort, Drain)) for action in found):
                return tuple(actions)
        view = view.after(actions[first:])
    return tuple(actions)
