"""Rules about missing heartbeats.

Invariants, each with a test:

1. Missing heartbeats are judged only over time in which the event queue was read.
2. Some instances without heartbeat: they are replaced. All of them: the event queue is suspected first. None ever sent
   one: the startup script or the program is broken, and the run is aborted with the last output of an instance.
3. No heartbeat is expected from a pending instance, however long it waits: it is not replaced, nor evidence of a broken
   startup script, also if it ends before it is seen to start. If nothing runs because of it, the reason is logged.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from cloud_tasks.controller.autoscaler.actions import Abort, Action, Terminate, Warn
from cloud_tasks.controller.autoscaler.rules.fleet_view import FleetView
from cloud_tasks.controller.autoscaler.state import FleetInstance
from cloud_tasks.quantities import counted, format_span

__all__ = ["abort_without_heartbeat", "replace_unresponsive", "warn_of_pending"]

_CHANNEL_TIMEOUTS = 3
"""Number of heartbeat time-outs after which instances are replaced even if none of them sends heartbeats."""
_PENDING = timedelta(seconds=60)
"""Time for which an instance is pending before that is logged."""


def _without_heartbeat_for(view: FleetView, instance: FleetInstance) -> timedelta | None:
    """Return the time without heartbeat while the event queue was read; None while it is not read."""
    seen = view.observation
    if seen.events_read_since is None:
        return None
    since = max(instance.last_heartbeat or instance.launched_at, seen.events_read_since)
    return seen.now - since


def _is_unresponsive(view: FleetView, instance: FleetInstance) -> bool:
    policy = view.observation.policy
    timeout = policy.startup_timeout if instance.last_heartbeat is None else policy.keepalive_timeout
    missing_for = _without_heartbeat_for(view, instance)
    return timeout is not None and missing_for is not None and missing_for > timeout


def abort_without_heartbeat(view: FleetView) -> list[Action]:
    """Abort a run none of whose instances ever sent a heartbeat. A single failed start is not conclusive."""
    seen = view.observation
    if seen.any_heartbeat or not seen.records_current:
        return []
    # Spot instances that have just ended were most likely preempted; `failed_instances` counts them later if not. Those
    # of an earlier run may have been terminated by its controller.
    ended = [i for i in view.ended if not i.is_spot and not i.from_earlier_run and i.pending_since is None]
    failed_now = [*(i for i in view.alive if _is_unresponsive(view, i)), *ended]
    before = seen.failed_instances.failed_starts
    failed = before + len(failed_now)
    instances = before + len(view.alive) + len(ended)
    if failed < max(2, min(seen.policy.max_failed_starts, instances)):
        return []
    exited = before + len(ended)
    parts = [f"{counted(exited, 'instance')} exited before the worker started"] if exited else []
    if failed > exited:
        parts.append(f"{counted(failed - exited, 'instance')} sent no heartbeat in time")
    return [Abort(reason=" and ".join(parts), console_of=failed_now[0].instance_id if failed_now else None)]


def replace_unresponsive(view: FleetView) -> list[Action]:
    """Terminate instances without heartbeat, unless all are: then the event queue is suspected first."""
    unresponsive = [i for i in view.alive if _is_unresponsive(view, i)]
    timeout = view.observation.policy.keepalive_timeout
    if unresponsive and len(unresponsive) == len(view.alive) and view.observation.any_heartbeat and timeout is not None:
        shortest = min(_without_heartbeat_for(view, i) or timedelta(0) for i in unresponsive)
        if shortest <= timeout * _CHANNEL_TIMEOUTS:
            message = (
                f"No heartbeat from any instance ({len(unresponsive)} running); the event queue is suspected, "
                "so no instance is terminated yet"
            )
            return [Warn(key="no-heartbeats", message=message)]
    return [
        Terminate(
            instance_id=i.instance_id,
            reason=f"no heartbeat for {format_span(_without_heartbeat_for(view, i) or timedelta(0))}",
            has_failed_start=i.last_heartbeat is None,
        )
        for i in unresponsive
        if i.instance_id is not None
    ]


def warn_of_pending(view: FleetView) -> list[Action]:
    """Log that every instance is pending, and why."""
    seen = view.observation
    waiting = [i for i in view.pending if i.pending_since is not None and seen.now - i.pending_since >= _PENDING]
    if not waiting or view.alive:
        return []
    reasons = ", ".join(
        reason for reason, _ in Counter(i.listed_reason for i in waiting if i.listed_reason).most_common(3)
    )
    why = f" ({reasons})" if reasons else ""
    verb = "is" if len(waiting) == 1 else "are"
    message = f"{counted(len(waiting), 'instance')} {verb} pending{why}; no instance runs until the provider starts one"
    return [Warn(key=f"pending-{reasons}", message=message)]
