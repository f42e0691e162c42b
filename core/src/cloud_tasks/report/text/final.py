"""Final report of a job as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from cloud_tasks.escape import terminal_line
from cloud_tasks.model import AttemptOutcome, Money, TaskStatus
from cloud_tasks.quantities import counted, format_cost, format_duration, indented
from cloud_tasks.report.data.status import headline
from cloud_tasks.report.text.summary import render_elapsed, status_counts
from cloud_tasks.store import CostBreakdown, Failure, JobStatistics

__all__ = ["last_output", "render_final_report"]

_RULE = "=" * 60
_LINE_LENGTH = 200
"""Characters of a line of output."""


def render_final_report(statistics: JobStatistics, elapsed: timedelta, *, next_steps: Sequence[str] = ()) -> str:
    """Return the report.

    Args:
        elapsed: Duration of the latest run.
        next_steps: Lines that name the next commands.
    """
    sections = (
        _tasks(statistics),
        _speed(statistics, elapsed),
        _times(statistics),
        _attempts(statistics),
        _failures(statistics),
        _broken_workers(statistics),
        iter(next_steps),
        _cost(statistics),
        iter([f"Spot terminations: {counted(len(statistics.spot_terminations), 'host')}"]),
    )
    blocks = ["\n".join(lines) for lines in sections]
    body = "\n\n".join(block for block in blocks if block)
    return f"{_RULE}\n=== {headline(statistics.summary)} ===\n{_RULE}\n\n{body}\n\n{_RULE}"


def _tasks(statistics: JobStatistics) -> Iterator[str]:
    summary = statistics.summary
    yield f"Total tasks: {summary.total}"
    yield f"  Completed: {summary.counts.get(TaskStatus.COMPLETED, 0)}"
    for name, count in status_counts(summary).items():
        if name != TaskStatus.COMPLETED.value:
            yield f"  {name.capitalize()}: {count}"


def _speed(statistics: JobStatistics, elapsed: timedelta) -> Iterator[str]:
    summary = statistics.summary
    done = summary.finished_tasks - summary.finished_before
    note = f" (this run, {counted(done, 'task')})" if summary.finished_before else ""
    yield f"Elapsed time: {format_duration(elapsed)}{note}"
    hours = elapsed.total_seconds() / 3600
    if hours > 0 and done:
        yield f"Tasks/hour: {done / hours:.1f}"


def _times(statistics: JobStatistics) -> Iterator[str]:
    if statistics.elapsed is not None:
        yield "Task elapsed time statistics:"
        yield from indented(render_elapsed(statistics.elapsed).splitlines())


def _attempts(statistics: JobStatistics) -> Iterator[str]:
    summary = statistics.summary
    if summary.retries or summary.losses:
        yield f"Attempts: {summary.attempts}"
        yield f"  Retried: {summary.retries}"
        yield f"  Interrupted with their instance: {summary.losses}"
    ignored = {
        "duplicate": summary.duplicates,
        "late": summary.late,
        "of unknown tasks": summary.unknown_task,
        "malformed": summary.dead_letters,
    }
    parts = ", ".join(f"{count} {kind}" for kind, count in ignored.items() if count)
    if parts:
        yield f"Events ignored: {parts}"


_FAILURE_SECTIONS: Mapping[str, tuple[AttemptOutcome, ...]] = {
    "Exceptions summary": (AttemptOutcome.EXCEPTION,),
    "Other failures": (AttemptOutcome.EXITED, AttemptOutcome.TIMED_OUT),
    "Requested retries": (AttemptOutcome.RETRY_REQUESTED,),
    "Interrupted attempts": (AttemptOutcome.LOST,),
}


def _failures(statistics: JobStatistics) -> Iterator[str]:
    """Yield the grouped reasons of unsuccessful attempts, with the last line of output where it adds something."""
    for title, outcomes in _FAILURE_SECTIONS.items():
        failures = statistics.failures_of(*outcomes)
        if not failures:
            continue
        yield f"{title}:"
        for failure in failures:
            similar = "" if failure.identical else " (and similar)"
            yield f"  {failure.count:>5}: {terminal_line(failure.summary)}{similar}"
            if printed := last_output(failure):
                yield f"         last output: {terminal_line(printed)}"
    more = statistics.failure_kinds - len(statistics.failures)
    if more > 0:
        yield f"         and {counted(more, 'other kind')}"


def last_output(failure: Failure) -> str:
    """Return the last line that the example printed, unless the reason contains it; nothing for an exception."""
    printed = failure.last_line[:_LINE_LENGTH]
    return "" if failure.outcome is AttemptOutcome.EXCEPTION or printed in failure.summary else printed


def _broken_workers(statistics: JobStatistics) -> Iterator[str]:
    if statistics.broken_workers:
        yield "Broken instances:"
        for worker in statistics.broken_workers:
            yield f"  {terminal_line(worker.name)}: {terminal_line(worker.reason)}"


def _cost(statistics: JobStatistics) -> Iterator[str]:
    if not statistics.instances:
        return
    yield f"Cost: {format_cost(statistics.cost)} for {counted(statistics.instances, 'instance')}"
    for part in statistics.costs:
        kind = f"{part.instance_type} ({part.provisioning_model.value})"
        duration = format_duration(timedelta(hours=part.hours))
        yield f"  {kind}: {counted(part.instances, 'instance')}, {duration}, {format_cost(part.cost)}"
    completed = statistics.summary.counts.get(TaskStatus.COMPLETED, 0)
    if completed and statistics.cost:
        yield f"  Per completed task: {format_cost(statistics.cost / completed, unit=Money(1))}"
    if statistics.cost_breakdown is not None and statistics.cost:
        yield from _wasted(statistics.cost_breakdown, statistics.cost)


def _wasted(shares: CostBreakdown, cost: Money) -> Iterator[str]:
    """Yield the cost that contributed to no completed task; zero amounts are left out."""
    parts = (
        ("Interrupted attempts", shares.lost),
        ("Failed attempts", shares.failed),
        ("Idle, starting and stopping", shares.idle),
    )
    for name, amount in parts:
        if amount:
            yield f"  {name}: {format_cost(amount)} ({amount.usd / cost.usd:.1%})"
