"""Instances that ended before any task finished: how many in a row, which of them were preempted, and why. Pure.

Invariants, each with a test:

1. A spot instance that ends before its worker started was most likely preempted: while it boots it cannot report a
   notice. It failed to start only if it was there for the startup time-out, or if its console says that it ended
   itself.
2. An on-demand instance is never preempted, whatever its worker reports.
3. A task that finishes starts the counts again.
4. An instance whose startup script said that its program cannot start is neither preempted nor an error of a worker.
5. An instance that ended while it was pending, as far as listings show, counts apart: it is neither preempted nor a
   failed start.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import attrs

from cloud_tasks.model import ProvisioningModel
from cloud_tasks.plugin import OWN_END
from cloud_tasks.store import InstanceRecord

__all__ = ["FailedInstances", "failed_instances"]


@attrs.frozen(kw_only=True)
class FailedInstances:
    """Numbers of instances of a run that ended."""

    failed_starts: int = 0
    """Instances that ended without a heartbeat, not by preemption."""
    without_progress: int = 0
    """Instances that were launched and ended since a task last finished, not by preemption."""
    preempted: int = 0
    """Preempted instances among those that were launched and ended since then."""
    canceled: int = 0
    """Instances that were requested and ended since then, and that no listing showed to start."""
    cannot_start: frozenset[str] = frozenset()
    """Instances whose program cannot start, some of which may not have ended yet; none if it has started somewhere."""
    with_error: int = 0
    """Those of `without_progress` whose worker ended with an error."""
    last_end: datetime | None = None
    """The latest end of an instance without progress or preempted; None for none."""
    reason: str = ""
    """Why the latest of `without_progress` ended; empty if unknown."""
    cancel_reason: str = ""
    """Why the latest of `canceled` ended."""


def failed_instances(
    records: Sequence[InstanceRecord],
    *,
    last_progress: datetime | None,
    consoles: Mapping[str, str],
    timed_out: Collection[str],
    worker_errors: Collection[str],
    stop_reasons: Mapping[str, str],
    start_failures: Collection[str] = (),
) -> FailedInstances:
    """Count the instances of a run that ended.

    Args:
        records: The launches of the run.
        last_progress: Time at which a task last finished; None for never.
        consoles: Last output by instance, as far as it was saved.
        timed_out: Instances that sent no heartbeat within the startup time-out.
        worker_errors: Instances whose worker ended with an error.
        stop_reasons: Reason of the last stop of a worker, by instance.
        start_failures: Instances whose startup script said that their program cannot start.
    """
    all_ended = [record for record in records if record.ended_at is not None and record.launched_at is not None]
    ended = [record for record in all_ended if not _ended_pending(record)]
    preempted = {
        record.client_token for record in ended if _is_preempted(record, consoles, {*timed_out, *start_failures})
    }
    late = [record for record in ended if last_progress is None or record.intended_at > last_progress]
    own = [record for record in late if record.client_token not in preempted]
    canceled = [r for r in all_ended if _ended_pending(r) and (last_progress is None or r.intended_at > last_progress)]
    works = last_progress is not None or any(
        record.last_heartbeat is not None and record.instance_id not in start_failures for record in records
    )
    last, last_canceled = _latest(own), _latest(canceled)
    return FailedInstances(
        failed_starts=sum(r.last_heartbeat is None and r.client_token not in preempted for r in ended),
        without_progress=len(own),
        preempted=len(late) - len(own),
        canceled=len(canceled),
        cannot_start=frozenset() if works else frozenset(start_failures) & {r.instance_id or "" for r in records},
        with_error=sum(record.instance_id in worker_errors for record in own),
        last_end=max((r.ended_at for r in (*late, *canceled) if r.ended_at is not None), default=None),
        reason="" if last is None else stop_reasons.get(last.instance_id or "") or last.end_reason,
        cancel_reason="" if last_canceled is None else last_canceled.end_reason,
    )


def _latest(records: Sequence[InstanceRecord]) -> InstanceRecord | None:
    return max(records, key=lambda record: record.ended_at or record.intended_at, default=None)


def _ended_pending(record: InstanceRecord) -> bool:
    return record.pending_until is not None and record.started_at is None


def _is_preempted(record: InstanceRecord, consoles: Mapping[str, str], timed_out: Collection[str]) -> bool:
    if record.provisioning_model is not ProvisioningModel.SPOT:
        return False
    if record.last_heartbeat is not None:
        return record.spot_terminated_at is not None
    instance_id = record.instance_id or ""
    return instance_id not in timed_out and OWN_END not in consoles.get(instance_id, "")
