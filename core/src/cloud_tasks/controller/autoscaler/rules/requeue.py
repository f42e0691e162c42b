"""Rule about tasks that are missing from the queue.

For example, a worker reported a retry and died before it sent the message of the next attempt, and the message of the
former attempt was acked as that of a finished task.
"""

from __future__ import annotations

from datetime import datetime

from cloud_tasks.controller.autoscaler.actions import Action, Requeue
from cloud_tasks.controller.autoscaler.rules.fleet_view import FleetView
from cloud_tasks.quantities import format_span

__all__ = ["requeue_missing"]


def requeue_missing(view: FleetView) -> list[Action]:
    """Re-enqueue unfinished tasks that the queue no longer holds (reported empty, or all workers idle)."""
    seen = view.observation
    if seen.draining or not seen.all_loaded:
        return []
    since = seen.queue_empty_since
    if since is not None and seen.now - since >= seen.policy.requeue_after_empty:
        return [Requeue(reason=f"the queue has been empty for {format_span(seen.now - since)}")]
    idle_since = _all_idle_since(view)
    if seen.queue_visible or idle_since is None:
        return []
    # Workers with a short idle limit come and go: the idle time of earlier ones counts too.
    span = seen.now - idle_since + seen.idle_before
    if span < seen.policy.requeue_after_idle:
        return []
    return [Requeue(reason=f"no worker has received a task for {format_span(span)}")]


def _all_idle_since(view: FleetView) -> datetime | None:
    """Return since when no worker has had a task although one could have taken it; None while that is not so."""
    seen = view.observation
    workers = [i for i in view.alive if i.last_heartbeat is not None]
    if not workers or seen.events_read_since is None or any(i.running_tasks for i in view.alive):
        return None
    busy = [i.last_busy for i in view.fleet if i.last_busy is not None]
    earliest = min(i.last_busy or i.launched_at for i in workers)
    return max(earliest, seen.events_read_since, seen.requeued_at or earliest, *busy)
