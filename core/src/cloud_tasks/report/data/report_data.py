"""Data of a report, read from the job database; every format is rendered from it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.model import AttemptOutcome, InstanceState
from cloud_tasks.report.data.status import status_dict
from cloud_tasks.store import (
    Activity,
    InstanceRecord,
    JobStatistics,
    Store,
    TaskRecord,
    Throughput,
    Timeline,
    read_activity,
    read_elapsed_histogram,
    read_timeline,
    run_time,
    slowest_tasks,
    throughput,
)

__all__ = ["ReportFacts", "gather_facts", "report_dict"]

_SLOWEST = 10


@attrs.frozen(kw_only=True)
class ReportFacts:
    """A job at one point in time."""

    statistics: JobStatistics
    now: datetime
    elapsed: timedelta
    """Duration of the latest run: until now while workers are running, else until its last task finished."""
    pace: Throughput | None
    activity: Activity
    next_steps: tuple[str, ...] = ()
    """Lines that name the next commands after failed tasks."""
    instances: Sequence[InstanceRecord]
    timeline: Timeline
    histogram: tuple[tuple[float, float, int], ...]
    """(from, to, count): completed tasks by duration in seconds."""
    slowest: tuple[TaskRecord, ...]


def gather_facts(path: Path, now: datetime) -> ReportFacts:
    """Read the data of a report. Safe while a controller is running."""
    with Store.open(path, read_only=True) as store:
        statistics = store.statistics(now)
        instances = store.instances()
    summary = statistics.summary
    activity = read_activity(path, summary, now)
    return ReportFacts(
        statistics=statistics,
        now=now,
        elapsed=run_time(summary, now),
        pace=throughput(summary, now, activity=activity),
        activity=activity,
        instances=instances,
        timeline=read_timeline(path, now),
        histogram=read_elapsed_histogram(path),
        slowest=slowest_tasks(path, limit=_SLOWEST),
    )


def report_dict(facts: ReportFacts) -> dict[str, Any]:
    """Return the report for `json.dumps`: times in ISO 8601, durations in seconds, amounts in US dollars as text."""
    statistics = facts.statistics
    shares, exceptions = statistics.cost_breakdown, statistics.failures_of(AttemptOutcome.EXCEPTION)
    return {
        **status_dict(
            statistics.summary,
            instances=facts.instances,
            pace=facts.pace,
            cost=statistics.cost,
            activity=facts.activity,
        ),
        "created_at": statistics.summary.job.created_at.isoformat(),
        "as_of": facts.now.isoformat(),
        "run_seconds": facts.elapsed.total_seconds(),
        "tool_version": statistics.summary.job.tool_version,
        "task_source": statistics.summary.job.task_source,
        "exceptions": [{"summary": found.summary, "count": found.count} for found in exceptions],
        "exception_kinds": len(exceptions),
        "broken_instances": [{"name": worker.name, "reason": worker.reason} for worker in statistics.broken_workers],
        "spot_terminations": list(statistics.spot_terminations),
        "instances_launched": statistics.instances,
        "costs": [
            {
                "instance_type": part.instance_type,
                "purchase": part.provisioning_model.value,
                "instances": part.instances,
                "hours": part.hours,
                "cost_usd": f"{part.cost.usd:f}",
            }
            for part in statistics.costs
        ],
        "cost_shares_usd": None
        if shares is None
        else {name: f"{getattr(shares, name).usd:f}" for name in ("work", "lost", "failed", "idle")},
        "failures": [
            {**attrs.asdict(failure), "outcome": failure.outcome.value, "last_line": failure.last_line}
            for failure in statistics.failures
        ],
        "failure_kinds": statistics.failure_kinds,
        "slowest_tasks": [
            {"task_id": task.task_id, "seconds": task.elapsed_time, "hostname": task.hostname} for task in facts.slowest
        ],
        "course": [
            {
                "begin": step.begin.isoformat(),
                "end": step.end.isoformat(),
                "completed": step.completed,
                "failed": step.failed,
                "instances": step.instances,
                "price_per_hour_usd": step.price_per_hour,
            }
            for step in facts.timeline.buckets
        ],
        "machines": [_instance(record) for record in facts.instances],
    }


def _instance(record: InstanceRecord) -> dict[str, Any]:
    def iso_time(moment: datetime | None) -> str | None:
        return None if moment is None else moment.isoformat()

    state = InstanceState.STARTING if record.state is None and record.ended_at is None else record.state
    return {
        "instance_id": record.instance_id,
        "instance_type": record.instance_type,
        "zone": record.zone,
        "purchase": record.provisioning_model.value,
        "state": None if state is None else state.value,
        "price_per_hour_usd": f"{record.price_per_hour.usd:f}",
        "launched_at": iso_time(record.launched_at),
        "started_at": iso_time(record.pending_until),
        "reason": record.reason,
        "ended_at": iso_time(record.ended_at),
        "end_reason": record.end_reason,
        "tasks_completed": record.tasks_completed,
        "spot_terminated_at": iso_time(record.spot_terminated_at),
    }
