"""Rule about idle and pending instances that the remaining tasks cannot fill.

Invariant, with a test: an instance is terminated only if it is idle or pending, and the others have slots for all
remaining tasks. Pending ones are terminated first, the last requested before the others.
"""

from __future__ import annotations

from cloud_tasks.controller.autoscaler.actions import Action, Terminate
from cloud_tasks.controller.autoscaler.rules.fleet_view import FleetView
from cloud_tasks.controller.autoscaler.rules.lifetimes import is_draining
from cloud_tasks.controller.autoscaler.state import FleetInstance, Observation

__all__ = ["is_idle", "terminate_surplus"]


def terminate_surplus(view: FleetView) -> list[Action]:
    """Terminate idle instances, the most expensive per slot first, after the termination delay."""
    seen = view.observation
    if seen.draining or seen.surplus_since is None or seen.now - seen.surplus_since < seen.policy.termination_delay:
        return []
    actions: list[Action] = []
    # Draining instances end themselves.
    candidates = [i for i in view.alive if not is_draining(seen, i)]
    candidates.sort(key=lambda i: (i.price_per_hour / max(i.slots, 1)).usd, reverse=True)
    pending = sorted(view.pending, key=lambda i: i.pending_since or i.launched_at, reverse=True)
    capacity = sum(i.slots for i in (*pending, *candidates))
    for instance in (*pending, *candidates):
        if instance.instance_id is None or capacity - instance.slots < seen.remaining:
            continue
        if instance in pending or is_idle(seen, instance):
            capacity -= instance.slots
            actions.append(Terminate(instance_id=instance.instance_id, reason="no tasks left for this instance"))
    return actions


def is_idle(seen: Observation, instance: FleetInstance) -> bool:
    """Return whether the worker has had no task for the termination delay."""
    if instance.running_tasks or instance.last_heartbeat is None:
        return False
    idle_since = instance.last_busy or instance.launched_at
    return seen.now - idle_since >= seen.policy.termination_delay
