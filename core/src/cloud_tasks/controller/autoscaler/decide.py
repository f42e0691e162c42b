"""The decision: which actions an observation calls for. Pure: no clock, no lock, no call.

The rules are applied in stages, in order. The rules of one stage see the same instances; those that a stage terminates
or records as ended are not among the living ones of the next. `Abort` and `Drain` end the decision.

Invariants, each with a test; the others are those of the rules:

1. A failed listing means "unknown": no instance is launched, terminated or recorded as ended because of it.
2. Limits on cost and lifetime, and the replacement of instances that send no heartbeat, follow from the records and the
   clock: they hold without a listing, too.
3. The same observation gives the same actions.
"""

from __future__ import annotations

from collections.abc import Sequence

from cloud_tasks.controller.autoscaler.actions import Abort, Action, Drain, Finish, Warn
from cloud_tasks.controller.autoscaler.rules.budget import abort_drained, abort_over_budget, drain, terminate_drained
from cloud_tasks.controller.autoscaler.rules.comparison import discard_failing
from cloud_tasks.controller.autoscaler.rules.corrections import abort_beside_other_run, correct_records
from cloud_tasks.controller.autoscaler.rules.fleet_view import FleetView, Rule
from cloud_tasks.controller.autoscaler.rules.heartbeats import (
    abort_without_heartbeat,
    replace_unresponsive,
    warn_of_pending,
)
from cloud_tasks.controller.autoscaler.rules.launches import launch_missing
from cloud_tasks.controller.autoscaler.rules.lifetimes import terminate_expired, terminate_unaffordable
from cloud_tasks.controller.autoscaler.rules.progress import (
    abort_failed_starts,
    abort_failing_workers,
    abort_refused,
    abort_unlaunchable,
    abort_without_progress,
)
from cloud_tasks.controller.autoscaler.rules.requeue import requeue_missing
from cloud_tasks.controller.autoscaler.rules.surplus import terminate_surplus
from cloud_tasks.controller.autoscaler.state import Observation

__all__ = ["decide"]

_STAGES: tuple[tuple[Rule, ...], ...] = (
    (abort_beside_other_run,),
    (correct_records, terminate_expired, terminate_unaffordable),
    (
        abort_over_budget,
        abort_drained,
        abort_unlaunchable,
        abort_refused,
        abort_failed_starts,
        abort_without_heartbeat,
        abort_failing_workers,
        abort_without_progress,
    ),
    (discard_failing, replace_unresponsive),
    (warn_of_pending, terminate_drained, terminate_surplus, drain, requeue_missing, launch_missing),
)

_WITHOUT_LISTING: tuple[tuple[Rule, ...], ...] = (
    (terminate_expired,),
    (
        abort_over_budget,
        abort_drained,
        abort_refused,
        abort_failed_starts,
        abort_without_heartbeat,
        abort_failing_workers,
        abort_without_progress,
    ),
    (discard_failing, replace_unresponsive),
    (terminate_drained, drain),
)
"""The rules whose evidence is in the records and the events."""


def decide(observation: Observation) -> tuple[Action, ...]:
    """Return the actions that an observation calls for; the caller carries out all of them, in order."""
    if observation.remaining == 0 and observation.all_loaded:
        # The failed tasks of a discarded instance run again.
        fleet = observation.recorded if observation.fleet is None else observation.fleet
        return (*discard_failing(FleetView(observation, fleet)),) or (Finish(),)
    if observation.fleet is None:
        message = "Without a listing, no instance is launched; limits hold by the job's records"
        return (
            *_apply(_WITHOUT_LISTING, FleetView(observation, observation.recorded)),
            Warn(key="listing", message=message),
        )
    return _apply(_STAGES, FleetView(observation, observation.fleet))


def _apply(stages: Sequence[Sequence[Rule]], view: FleetView) -> tuple[Action, ...]:
    actions: list[Action] = []
    for stage in stages:
        first = len(actions)
        for rule in stage:
            found = rule(view)
            actions += found
            if any(isinstance(action, (Abort, Drain)) for action in found):
                return tuple(actions)
        view = view.after(actions[first:])
    return tuple(actions)
