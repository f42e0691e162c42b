"""Rules that end a run whose launches or instances achieve nothing.

Invariants, each with a test:

1. Launches that certainly fail end the run once no instance is left, instead of being repeated without end.
2. Instances that end, one after another, before any task finishes end the run, after fewer of them if their workers
   ended with an error, which the reason then quotes. Preempted ones do not count, nor does anything while the records
   are not current.
"""

from __future__ import annotations

from cloud_tasks.controller.autoscaler.actions import Abort, Action
from cloud_tasks.controller.autoscaler.rules.fleet_view import FleetView

__all__ = ["abort_failing_workers", "abort_unlaunchable", "abort_without_progress"]


def abort_unlaunchable(view: FleetView) -> list[Action]:
    """Abort a run whose launches certainly fail, once no instance is left that could finish tasks."""
    failures, policy = view.observation.launch_failures, view.observation.policy
    if failures is None or failures.rounds < policy.max_failed_launches or view.held:
        return []
    reason = f"no instance could be launched in {failures.rounds} attempts: {failures.message}"
    return [Abort(reason=reason, show_console=False, bad_input=failures.bad_input)]


def abort_failing_workers(view: FleetView) -> list[Action]:
    """Abort a run whose workers end with an error, one after another, before any task finishes."""
    seen = view.observation
    count = seen.failed_without_progress
    if count < seen.policy.max_failed_workers:
        return []
    reason = f"the workers of {count} instances in a row ended with an error before any task finished"
    return [Abort(reason=f"{reason}: {seen.worker_error}", show_console=False)]


def abort_without_progress(view: FleetView) -> list[Action]:
    """Abort a run whose last instances terminated before any task finished."""
    count = view.observation.ended_without_progress
    if not view.observation.records_current or count < view.observation.policy.max_instances_without_progress:
        return []
    return [Abort(reason=f"the last {count} instances terminated before any task finished")]
