"""Periodic summary and overview of a job."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from cloud_tasks.model import Money, TaskStatus
from cloud_tasks.quantities import counted, format_cost, format_duration, indented
from cloud_tasks.store import Activity, ActivityState, ElapsedStatistics, JobStatistics, JobSummary, Throughput

__all__ = ["overview", "render_activity", "render_elapsed", "render_summary", "status_counts"]

_FIRST = (TaskStatus.COMPLETED, TaskStatus.RUNNING, TaskStatus.QUEUED)
_IN_PROGRESS = (TaskStatus.RUNNING.value, TaskStatus.QUEUED.value)


def status_counts(summary: JobSummary) -> dict[str, int]:
    """Return the non-zero task counts by status: completed, running, queued, then the others."""
    return {
        status.value: count for status in dict.fromkeys((*_FIRST, *TaskStatus)) if (count := summary.counts.get(status))
    }


def _merged(counts: dict[str, int]) -> dict[str, int]:
    """Return the counts with running and queued tasks as one number, ``in_progress``."""
    merged: dict[str, int] = {}
    for name, count in counts.items():
        name = "in_progress" if name in _IN_PROGRESS else name
        merged[name] = merged.get(name, 0) + count
    return merged


def render_elapsed(elapsed: ElapsedStatistics) -> str:
    """Return the statistics of task durations, five lines."""
    return "\n".join(
        (
            f"Range:  {elapsed.minimum:.2f} to {elapsed.maximum:.2f} seconds",
            f"Mean:   {elapsed.mean:.2f} +/- {elapsed.deviation:.2f} seconds",
            f"Median: {elapsed.median:.2f} seconds",
            f"90th %: {elapsed.percentile_90:.2f} seconds",
            f"95th %: {elapsed.percentile_95:.2f} seconds",
        )
    )


def render_activity(activity: Activity, summary: JobSummary, *, resume: str = "cloud-tasks run --continue") -> str:
    """Return the state of a job in one line: the process that maintains it, since when, and the remedy without one.

    Args:
        resume: Command that resumes the job.
    """
    since = f" since {activity.since:%Y-%m-%d %H:%M:%S} UTC" if activity.since is not None else ""
    process = f" (PID {activity.pid})" if activity.pid else ""
    left = summary.live_instances or 0
    match activity.state:
        case ActivityState.FINISHED:
            failed = f"; {summary.failed:,} of {counted(summary.total, 'task')} failed" if summary.failed else ""
            text = f"{'finished' if failed else 'complete'}{since.replace(' since', ' at')}{failed}"
        case ActivityState.RUNNING:
            text = f"running{since}{process}"
        case ActivityState.LOADING if activity.pid is not None:
            text = f"loading{since}{process}"
        case ActivityState.LOADING:
            text = f"setup interrupted; resume it with `{resume}`"
        case ActivityState.STOPPED:
            text = f"stopped{since}; resume it with `{resume}`"
        case ActivityState.NO_CONTROLLER if summary.live_instances is None:
            text = f"no controller{since}; collect events with `cloud-tasks monitor`, or resume it with `{resume}`"
        case ActivityState.NO_CONTROLLER:
            running = f", {counted(left, 'instance')} may be running" if left else ""
            text = f"no controller{since}{running}; resume it with `{resume}`"
    return f"Job {summary.job.job_id}: {text}"


def render_summary(
    summary: JobSummary,
    *,
    pace: Throughput | None = None,
    cost: Money | None = None,
    price_per_hour: Money | None = None,
    separates_queued: bool = True,
) -> str:
    """Return the progress of a job, a few lines.

    Args:
        separates_queued: Whether queued and running tasks are counted apart. The log of a run has one number for
            both, ``in_progress``, since at intervals of minutes their difference says nothing.
        cost: Accrued cost.
        price_per_hour: Price of the running instances; with ``cost`` and ``pace`` the total cost is projected.
    """
    counts = status_counts(summary)
    counts = counts if separates_queued else _merged(counts)
    return "\n".join(_lines(summary, counts, pace, cost, price_per_hour))


def _lines(
    summary: JobSummary,
    counts: dict[str, int],
    pace: Throughput | None,
    cost: Money | None,
    price_per_hour: Money | None,
) -> Iterator[str]:
    yield "Summary:"
    yield f"  Total tasks: {summary.total}"
    yield from (f"    {name}: {count}" for name, count in counts.items())
    if summary.elapsed is not None:
        yield "  Elapsed time statistics:"
        yield from indented(render_elapsed(summary.elapsed).splitlines(), 4)
    if pace is not None:
        yield f"  Rate: {pace.tasks_per_hour:.1f} tasks/hour"
        if summary.remaining:
            left = format_duration(pace.remaining_time)
            yield f"  Remaining time: about {left} (until {pace.end:%Y-%m-%d %H:%M} UTC)"
    if cost is not None:
        now = "" if price_per_hour is None else f", {format_cost(price_per_hour)}/hour now"
        projected = ""
        if pace is not None and price_per_hour is not None and summary.remaining:
            projected = f", projected total {format_cost(pace.final_cost(cost, price_per_hour))}"
        yield f"  Cost: {format_cost(cost)} so far{now}{projected}"


def overview(statistics: JobStatistics, elapsed: timedelta) -> list[tuple[str, str]]:
    """Return the key figures of a job as (name, value), for the formatted reports.

    Args:
        elapsed: Duration of the latest run.
    """
    summary = statistics.summary
    figures = [("Tasks", f"{summary.total:,}")]
    figures += [(name.replace("_", " ").capitalize(), f"{count:,}") for name, count in status_counts(summary).items()]
    figures.append(("Elapsed time", format_duration(elapsed)))
    finished, hours = summary.finished_tasks - summary.finished_before, elapsed.total_seconds() / 3600
    if hours > 0 and finished:
        figures.append(("Tasks per hour", f"{finished / hours:,.1f}"))
    return [
        *figures,
        ("Attempts", f"{summary.attempts:,}"),
        ("Retries", f"{summary.retries:,}"),
        ("Interrupted attempts", f"{summary.losses:,}"),
        ("Spot terminations", counted(len(statistics.spot_terminations), "host")),
        ("Instances", f"{statistics.instances:,}"),
        ("Cost", format_cost(statistics.cost)),
    ]
