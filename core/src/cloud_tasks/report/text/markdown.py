"""The report as Markdown, for an issue or a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from cloud_tasks.report.data.report_data import ReportFacts
from cloud_tasks.report.data.status import headline
from cloud_tasks.report.tables.job_columns import COST_COLUMNS, SLOWEST_COLUMNS
from cloud_tasks.report.text.final import last_output
from cloud_tasks.report.text.summary import overview
from cloud_tasks.store import ElapsedStatistics, Failure
from cloud_tasks.tables import Column, escape_markdown, render_markdown_table

__all__ = ["render_markdown"]

R = TypeVar("R")

_LISTED = 20
"""Groups of failures in the table."""

_OVERVIEW: tuple[Column[tuple[str, str]], ...] = (
    Column(name="metric", title="Metric", value=lambda row: row[0]),
    Column(name="value", title="Value", value=lambda row: row[1], align_right=True),
)
_FAILURES: tuple[Column[Failure], ...] = (
    Column(name="count", title="Attempts", value=lambda failure: failure.count, align_right=True),
    Column(name="outcome", title="End", value=lambda failure: failure.outcome.value.replace("_", " ")),
    Column(name="summary", title="Reason", value=lambda failure: failure.summary),
    Column(name="last_line", title="Last output", value=last_output),
    Column(name="task_id", title="Example task", value=lambda failure: failure.task_id),
)


def _duration_column(name: str, title: str) -> Column[ElapsedStatistics]:
    return Column(name=name, title=title, value=lambda found: f"{getattr(found, name):.2f} s", align_right=True)


_DURATIONS = (
    _duration_column("minimum", "Minimum"),
    _duration_column("median", "Median"),
    _duration_column("mean", "Mean"),
    _duration_column("percentile_90", "90th percentile"),
    _duration_column("percentile_95", "95th percentile"),
    _duration_column("maximum", "Maximum"),
)


def render_markdown(facts: ReportFacts) -> str:
    """Return the report; sections have headings of the second level, below one title."""
    job = facts.statistics.summary.job
    elapsed = facts.statistics.elapsed
    blocks = [
        f"# Job {escape_markdown(job.job_id)}: {headline(facts.statistics.summary).lower()}",
        f"As of {facts.now:%Y-%m-%d %H:%M} UTC; job created {job.created_at:%Y-%m-%d %H:%M} UTC.",
        render_markdown_table(overview(facts.statistics, facts.elapsed), _OVERVIEW),
        *_section("Task durations", () if elapsed is None else (elapsed,), _DURATIONS),
        *_section("Failures", facts.statistics.failures[:_LISTED], _FAILURES),
        *_next_steps(facts),
        *_section("Cost", facts.statistics.costs, COST_COLUMNS),
        *_cost_breakdown(facts),
        *_section("Slowest tasks", facts.slowest, SLOWEST_COLUMNS),
    ]
    return "\n\n".join(blocks) + "\n"


def _section(title: str, rows: Sequence[R], columns: Sequence[Column[R]]) -> Iterator[str]:
    if rows:
        yield f"## {title}"
        yield render_markdown_table(rows, columns)


def _next_steps(facts: ReportFacts) -> Iterator[str]:
    if facts.next_steps:
        yield "\n".join(f"    {line}" for line in facts.next_steps)


def _cost_breakdown(facts: ReportFacts) -> Iterator[str]:
    shares, cost = facts.statistics.cost_breakdown, facts.statistics.cost
    if shares is not None and cost:
        names = {"work": "completed work", "lost": "interrupted attempts", "failed": "failed attempts", "idle": "idle"}
        parts = (f"{label} {getattr(shares, name).usd / cost.usd:.1%}" for name, label in names.items())
        yield f"Breakdown: {', '.join(parts)}"
