"""Rules that bring records and listing into agreement.

Invariant, with a test: an instance that carries the job's label and is in no record of the job is terminated, unless
another controller launched it: then the run ends, with its own instances only.
"""

from __future__ import annotations

from cloud_tasks.controller.autoscaler.actions import Abort, Action, ForgetIntent, MarkEnded, Terminate
from cloud_tasks.controller.autoscaler.rules.fleet_view import GONE, FleetView
from cloud_tasks.controller.autoscaler.state import FleetInstance
from cloud_tasks.model import InstanceState

__all__ = ["abort_beside_other_run", "correct_records"]


def abort_beside_other_run(view: FleetView) -> list[Action]:
    """Abort a run whose job another controller runs, too: each would terminate the instances of the other."""
    others = view.observation.other_runs
    if not others:
        return []
    more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
    reason = f"another controller runs a job of this name: instance {others[0]}{more}; use another job_id"
    return [Abort(reason=reason, show_console=False)]


def correct_records(view: FleetView) -> list[Action]:
    """Settle intents, record ended instances, and terminate those that should not exist."""
    actions: list[Action] = []
    for instance in view.fleet:
        if instance.instance_id is None:
            if _is_refuted(view, instance):
                reason = "launch not answered, instance never listed"
                actions.append(ForgetIntent(client_token=instance.client_token, reason=reason))
        elif instance.state in GONE:
            if instance.recorded and (instance.state is not None or not view.may_be_unlisted(instance)):
                ended_at = instance.listed_end if instance.state is not None else None
                actions.append(
                    MarkEnded(instance_id=instance.instance_id, reason=_end_reason(instance), ended_at=ended_at)
                )
        elif reason := _undesired(instance):
            actions.append(Terminate(instance_id=instance.instance_id, reason=reason))
    return actions


def _end_reason(instance: FleetInstance) -> str:
    reason = "terminated by itself or by the provider"
    if instance.pending_since is not None:
        reason = "canceled while it was pending, or ended soon after its start"
        if instance.state is None and instance.listed_reason:
            return f"{reason} (it was pending for: {instance.listed_reason})"
    return f"{reason}: {instance.listed_reason}" if instance.listed_reason else reason


def _is_refuted(view: FleetView, intent: FleetInstance) -> bool:
    """Return whether the listing proves that a launch of unknown outcome did not take place."""
    policy = view.observation.policy
    is_certain = not policy.listing_lag and not intent.may_be_unlisted
    age = view.observation.now - intent.launched_at
    return intent.answered and (is_certain or age > policy.intent_timeout)


def _undesired(instance: FleetInstance) -> str:
    """Return why a listed instance should not exist; empty if it should."""
    if instance.given_up:
        return "its launch had been recorded as failed"
    if not instance.recorded:
        return "not in this job's records"
    if instance.state is InstanceState.STOPPED:
        return "stopped; its disks and addresses are removed"
    return ""
