"""Rule about instances that fail what others complete.

Invariants, each with a test:

1. An instance is judged by at least ten ends of its own, nearly all of them failures, and at least ten of others, most
   of them successes. A job whose tasks fail everywhere therefore loses no instance.
2. An instance is judged once, and no more than a few instances of a run are.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from cloud_tasks.controller.autoscaler.actions import Action, Discard
from cloud_tasks.controller.autoscaler.rules.fleet_view import FleetView
from cloud_tasks.controller.autoscaler.state import InstanceEnds

__all__ = ["discard_failing", "failing_instances"]

_MIN_ENDS = 10
"""Ends from which on an instance, and the others, are judged."""
_FAILING, _WORKING = 0.9, 0.5
"""Shares of failures: above the first an instance fails, below the second the others work."""
_BUSY = timedelta(seconds=60)
"""Time without an end after which an instance that runs tasks is not judged: its present tasks last longer than the
failed ones, and may succeed."""


def failing_instances(ends: Mapping[str, InstanceEnds]) -> dict[str, str]:
    """Return the instances that fail what others complete, each with the reason in one line."""
    failing = {name: own for name, own in ends.items() if own.ends >= _MIN_ENDS and own.failures > own.ends * _FAILING}
    others = [own for name, own in ends.items() if name not in failing]
    count, failures = sum(own.ends for own in others), sum(own.failures for own in others)
    if count < _MIN_ENDS or failures >= count * _WORKING:
        return {}
    elsewhere = f"elsewhere {count - failures} of {count} completed"
    return {
        name: f"{own.failures} of its last {own.ends} attempts failed, {elsewhere}; most frequent reason: {own.reason}"
        for name, own in failing.items()
    }


def discard_failing(view: FleetView) -> list[Action]:
    """Terminate the instances that fail what others complete; their failed tasks run again."""
    seen = view.observation
    allowed = seen.policy.max_discarded_instances - len(seen.discarded)
    alive = {instance.instance_id: instance for instance in view.alive}
    actions: list[Action] = []
    for instance_id, reason in failing_instances(seen.attempt_ends).items():
        if instance_id in seen.discarded:
            continue
        instance, last_end = alive.get(instance_id), seen.attempt_ends[instance_id].last_end
        if instance is not None and instance.running_tasks and seen.now - last_end > _BUSY:
            continue
        actions.append(Discard(instance_id=instance_id, reason=reason, is_alive=instance is not None))
    return actions[: max(0, allowed)]
