"""Status of a job as plain data, for ``status --json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import attrs

from cloud_tasks.model import Money
from cloud_tasks.quantities import counted
from cloud_tasks.store import (
    Activity,
    CostBreakdown,
    InstanceRecord,
    JobSummary,
    Throughput,
    TypeCost,
    present_price,
    projected_cost,
)

__all__ = ["headline", "status_dict"]


def headline(summary: JobSummary) -> str:
    """Return the result of a job: complete only if every task completed."""
    if not summary.finished:
        left = "1 TASK REMAINS" if summary.remaining == 1 else f"{summary.remaining:,} TASKS REMAIN"
        return f"JOB NOT COMPLETE: {left}"
    if not summary.failed:
        return "JOB COMPLETE"
    return f"JOB FINISHED: {summary.failed:,} of {counted(summary.total, 'task')} failed"


def status_dict(
    summary: JobSummary,
    *,
    now: datetime | None = None,
    instances: Iterable[InstanceRecord] = (),
    pace: Throughput | None = None,
    cost: Money | None = None,
    shares: CostBreakdown | None = None,
    costs: Iterable[TypeCost] = (),
    activity: Activity | None = None,
) -> dict[str, Any]:
    """Return the status for `json.dumps`: times in ISO 8601 (UTC), durations in seconds, amounts in USD as text.

    Args:
        activity: Activity on the job; None in its controller.
    """
    running = [record for record in instances if record.ended_at is None]
    pending = [record for record in running if record.is_pending]
    price = present_price(running, now)
    expected = None if cost is None else projected_cost(summary, pace, accrued=cost, price_per_hour=price)
    return {
        "job_id": summary.job.job_id,
        "run_id": summary.job.run_id,
        "queue": summary.job.queue_name,
        "event_queue": summary.job.event_queue_name,
        "state": summary.job.state.value if activity is None else activity.state.value,
        "since": None if activity is None or activity.since is None else activity.since.isoformat(),
        "controller_pid": None if activity is None else activity.pid,
        "finished": summary.finished,
        "headline": headline(summary),
        "total": summary.total,
        "remaining": summary.remaining,
        "counts": {status.value: count for status, count in summary.counts.items()},
        "failures": summary.failed,
        "attempts": summary.attempts,
        "retries": summary.retries,
        "losses": summary.losses,
        "events": {kind.value: count for kind, count in summary.events.items() if count},
        "timing": _timing(summary, pace),
        "instances": len(running),
        "pending_instances": len(pending),
        "pending_reasons": dict(Counter(record.reason for record in pending).most_common()),
        "price_per_hour_usd": str(price.usd),
        "cost_usd": None if cost is None else str(cost.usd),
        "cost_shares_usd": None if shares is None else {name: str(share.usd) for name, share in _shares(shares)},
        "cost_by_type": [
            {
                "instance_type": line.instance_type,
                "purchase": line.provisioning_model.value,
                "instances": line.instances,
                "hours": line.hours,
                "cost_usd": str(line.cost.usd),
            }
            for line in costs
        ],
        "expected_cost_usd": None if expected is None else str(expected.usd),
    }


def _shares(shares: CostBreakdown) -> Iterable[tuple[str, Money]]:
    return attrs.asdict(shares, recurse=False).items()


def _timing(summary: JobSummary, pace: Throughput | None) -> dict[str, Any]:
    start, end = summary.first_start, summary.last_end
    return {
        "first_task_started": None if start is None else start.isoformat(),
        "last_task_ended": None if end is None else end.isoformat(),
        "elapsed_seconds": None if start is None or end is None else (end - start).total_seconds(),
        "task_seconds": None if summary.elapsed is None else attrs.asdict(summary.elapsed),
        "tasks_per_hour": None if pace is None else pace.tasks_per_hour,
        "remaining_seconds": None if pace is None else pace.remaining_time.total_seconds(),
        "expected_end": None if pace is None else pace.end.isoformat(),
    }
