"""Rules that end a run whose launches or instances achieve nothing.

Invariants, each with a test:

1. Launches that certainly fail end the run once no instance is left, instead of being repeated without end.
2. Instances that end, one after another, before any task finishes end the run, after fewer of them if their workers
   ended with an error, which the reason then quotes. Preempted ones are counted apart, and more of them. Nothing counts
   while the records are not current. Pending ones that the provider cancels cost nothing: they end a run only if
   nothing else runs or waits.
3. Instances whose program cannot start end a run in which no task has finished, if they are at least two, and as many as
   those that may still start. A worker that runs proves that the program can.
4. Refusals that only a person can end, for every offer, end a run that has no instance left, after a time. They need
   not last at one time: slow calls may refuse one offer after another, each for a minute.
"""

from __future__ import annotations

from cloud_tasks.controller.autoscaler.actions import Abort, Action
from cloud_tasks.controller.autoscaler.rules.fleet_view import FleetView
from cloud_tasks.quantities import format_span

__all__ = [
    "abort_failed_starts",
    "abort_failing_workers",
    "abort_refused",
    "abort_unlaunchable",
    "abort_without_progress",
]


def abort_unlaunchable(view: FleetView) -> list[Action]:
    """Abort a run whose launches certainly fail, once no instance is left that could finish tasks."""
    failures, policy = view.observation.launch_failures, view.observation.policy
    if failures is None or failures.rounds < policy.max_failed_launches or view.held:
        return []
    reason = f"no instance could be launched in {failures.rounds} attempts: {failures.message}"
    return [Abort(reason=reason, show_console=False, bad_input=failures.bad_input)]


def abort_failed_starts(view: FleetView) -> list[Action]:
    """Abort a run whose program starts nowhere: what every instance lacks, a new one lacks, too."""
    seen = view.observation
    failed = seen.failed_instances.cannot_start
    others = [instance for instance in view.alive if instance.instance_id not in failed]
    if len(failed) < max(2, len(others)) or any(instance.last_heartbeat is not None for instance in others):
        return []
    return [Abort(reason=f"{len(failed)} instances could not start: {seen.start_failure}", show_console=False)]


def abort_failing_workers(view: FleetView) -> list[Action]:
    """Abort a run whose workers end with an error, one after another, before any task finishes."""
    seen = view.observation
    count = seen.failed_instances.with_error
    if count < seen.policy.max_failed_workers:
        return []
    reason = f"the workers of {count} instances in a row ended with an error before any task finished"
    return [Abort(reason=f"{reason}: {seen.worker_error}", show_console=False)]


def abort_without_progress(view: FleetView) -> list[Action]:
    """Abort a run whose last instances terminated, or were preempted, before any task finished."""
    seen = view.observation
    if not seen.records_current:
        return []
    failed, policy = seen.failed_instances, seen.policy
    if failed.without_progress >= policy.max_instances_without_progress:
        why = f": {failed.reason}" if failed.reason else ""
        reason = f"the last {failed.without_progress} instances terminated before any task finished{why}"
        return [Abort(reason=reason)]
    if failed.preempted >= policy.max_preempted_without_progress:
        reason = f"the last {failed.preempted} spot instances were preempted before any task finished"
        return [Abort(reason=f"{reason}; use on-demand instances, or other types or zones", show_console=False)]
    if failed.canceled >= policy.max_instances_without_progress and not view.alive and not view.pending:
        reason = f"the last {failed.canceled} instances were canceled while they were pending"
        return [Abort(reason=f"{reason}: {failed.cancel_reason}", show_console=False)]
    return []


def abort_refused(view: FleetView) -> list[Action]:
    """Abort a run that cannot launch: every offer is refused, and waiting does not help."""
    seen = view.observation
    limit, since = seen.policy.give_up_after, seen.refused_since
    if limit is None or since is None or view.held or not seen.offers or seen.now - since < limit:
        return []
    if seen.credentials_problem:
        reason = f"the provider has refused the credentials for {format_span(seen.now - since)} (give_up_after)"
        return [Abort(reason=f"{reason}: {seen.credentials_problem}", show_console=False)]
    if not seen.blocks or not all(seen.needs_action(ranked.offer) for ranked in seen.offers):
        return []
    reason = f"every launch has been refused for {format_span(seen.now - since)} (give_up_after)"
    last = next(block for block in reversed(seen.refusals) if block.needs_action)
    return [Abort(reason=f"{reason}: {last.message}", show_console=False)]
