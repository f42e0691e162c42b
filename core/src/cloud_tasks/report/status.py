"""A job's state as plain data, for ``status --format json`` and other programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from cloud_tasks.model import Money
from cloud_tasks.report.pace import Pace
from cloud_tasks.report.summary import status_counts
from cloud_tasks.store import InstanceRecord, JobSummary

__all__ = ["status_dict"]


def status_dict(
    summary: JobSummary,
    *,
    instances: Iterable[InstanceRecord] = (),
    pace: Pace | None = None,
    cost: Money | None = None,
) -> dict[str, Any]:
    """What `json.dumps` takes: times in ISO 8601 (UTC), spans in seconds, amounts in US dollars as decimal text."""
    alive = [record for record in instances if record.ended_at is None]
    price = sum((record.price_per_hour for record in alive), Money.zero())
    return {
        "job_id": summary.job.job_id,
        "run_id": summary.job.run_id,
        "state": summary.job.state.value,
        "total": summary.total,
        "finished": summary.finished_tasks,
        "remaining": summary.remaining,
        "statuses": {status.value: count for status, count in summary.counts.items()},
        "summary": status_counts(summary),
        "attempts": summary.attempts,
        "retries": summary.retries,
        "losses": summary.losses,
        "events": {kind.value: count for kind, count in summary.events.items() if count},
        "elapsed": None if summary.elapsed is None else attrs.asdict(summary.elapsed),
        "instances": len(alive),
        "price_per_hour": str(price.usd),
        "cost": None if cost is None else str(cost.usd),
        "tasks_per_hour": None if pace is None else pace.tasks_per_hour,
        "remaining_seconds": None if pace is None else pace.remaining_time.total_seconds(),
        "expected_end": None if pace is None else pace.end.isoformat(),
        "expected_cost": None if pace is None or cost is None else str(pace.final_cost(cost, price).usd),
    }
