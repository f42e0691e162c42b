"""The summary that is shown again and again while a job runs."""

from __future__ import annotations

from collections.abc import Iterator

from cloud_tasks.model import Money, TaskStatus
from cloud_tasks.report.text.formatting import format_duration, indented
from cloud_tasks.store import ElapsedStatistics, JobSummary, Throughput

__all__ = ["render_elapsed", "render_summary", "status_counts"]

_IN_PROGRESS = (TaskStatus.QUEUED, TaskStatus.RUNNING)


def status_counts(summary: JobSummary) -> dict[str, int]:
    """How many tasks there are of each kind that has any, ``completed`` first; queued and running are one."""
    counts = {
        TaskStatus.COMPLETED.value: summary.counts.get(TaskStatus.COMPLETED, 0),
        "in_progress": sum(summary.counts.get(status, 0) for status in _IN_PROGRESS),
    }
    for status in TaskStatus:
        if status is not TaskStatus.COMPLETED and status not in _IN_PROGRESS:
            counts[status.value] = summary.counts.get(status, 0)
    return {name: count for name, count in counts.items() if count}


def render_elapsed(elapsed: ElapsedStatistics) -> str:
    """The five lines about how long tasks took."""
    return "\n".join(
        (
            f"Range:  {elapsed.minimum:.2f} to {elapsed.maximum:.2f} seconds",
            f"Mean:   {elapsed.mean:.2f} +/- {elapsed.deviation:.2f} seconds",
            f"Median: {elapsed.median:.2f} seconds",
            f"90th %: {elapsed.percentile_90:.2f} seconds",
            f"95th %: {elapsed.percentile_95:.2f} seconds",
        )
    )


def render_summary(
    summary: JobSummary,
    *,
    pace: Throughput | None = None,
    cost: Money | None = None,
    price_per_hour: Money | None = None,
) -> str:
    """Where a job stands, in a few lines.

    Args:
        cost: Spent so far.
        price_per_hour: Of what runs now; with ``cost`` and ``pace`` the final cost is projected.
    """
    return "\n".join(_lines(summary, pace, cost, price_per_hour))


def _lines(
    summary: JobSummary, pace: Throughput | None, cost: Money | None, price_per_hour: Money | None
) -> Iterator[str]:
    yield "Summary:"
    yield f"  Total tasks: {summary.total}"
    yield from (f"    {name}: {count}" for name, count in status_counts(summary).items())
    if summary.elapsed is not None:
        yield "  Elapsed time statistics:"
        yield from indented(render_elapsed(summary.elapsed).splitlines(), 4)
    if pace is not None:
        yield f"  Rate: {pace.tasks_per_hour:.1f} tasks/hour"
        if summary.remaining:
            left = format_duration(pace.remaining_time)
            yield f"  Remaining time: about {left} (until {pace.end:%Y-%m-%d %H:%M} UTC)"
    if cost is not None:
        now = "" if price_per_hour is None else f", {price_per_hour}/hour now"
        projected = ""
        if pace is not None and price_per_hour is not None and summary.remaining:
            projected = f", about {pace.final_cost(cost, price_per_hour)} in the end"
        yield f"  Cost: {cost} so far{now}{projected}"
