"""The report as one self-contained HTML page with inline charts: no scripts, no external resources.

Invariants, each with a test:

1. Task ids, exceptions and output are escaped, never interpreted as markup.
2. The page refers to no external resource.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from cloud_tasks.escape import html_text
from cloud_tasks.model import AttemptOutcome
from cloud_tasks.quantities import counted, without_traceback
from cloud_tasks.report.data.report_data import ReportFacts
from cloud_tasks.report.data.status import headline
from cloud_tasks.report.html.charts import draw_cost, draw_histogram, draw_instances, draw_progress, draw_throughput
from cloud_tasks.report.tables.job_columns import COST_COLUMNS, SLOWEST_COLUMNS
from cloud_tasks.report.text.final import render_final_report
from cloud_tasks.report.text.summary import overview
from cloud_tasks.tables import Column

__all__ = ["render_page"]

R = TypeVar("R")

_LISTED = 20
"""Groups of failures on the page."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --paper: #fff; --faint: #667; --line: #dde1e8; --box: #f5f7fa;
  --done: #2f7d5b; --failed: #c2452d; --instances: #3a6ea5; --cost: #8a6d1a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --paper: #14181e; --faint: #98a2b0; --line: #2d3540;
  --box: #1c222a; --done: #4fae86; --failed: #e0735d; --instances: #6a9fd4; --cost: #c9a84a; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 62rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p.when, figcaption { color: var(--faint); }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .75rem; }
dl div { background: var(--box); border-radius: 6px; padding: .6rem .8rem; }
dt { color: var(--faint); font-size: .85rem; } dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1rem; }
figure { margin: 0; } svg { width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--faint); } svg text.value { text-anchor: end; }
.grid { stroke: var(--line); } .done { fill: var(--done); } .failed { fill: var(--failed); }
.instances { fill: var(--instances); } .cost { fill: var(--cost); }
table { border-collapse: collapse; width: 100%; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: var(--box); padding: .8rem; overflow-x: auto; border-radius: 6px; font-size: 13px; }
"""


def render_page(facts: ReportFacts) -> str:
    """Return the whole page."""
    job = facts.statistics.summary.job
    title = f"{job.job_id}: {headline(facts.statistics.summary).lower()}"
    sections = (
        _overview(facts),
        _charts(facts),
        _failures(facts),
        _table("Slowest tasks", facts.slowest, SLOWEST_COLUMNS),
        _table("Cost", facts.statistics.costs, COST_COLUMNS),
        _text(facts),
    )
    body = "\n".join(line for section in sections for line in section)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="generator" content="cloud-tasks">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{html_text(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{html_text(job.job_id)}</h1>\n"
        f'<p class="when">{html_text(_subtitle(facts))}</p>\n{body}\n</body>\n</html>\n'
    )


def _subtitle(facts: ReportFacts) -> str:
    job = facts.statistics.summary.job
    version = f" with cloud-tasks {job.tool_version}" if job.tool_version else ""
    source = f", tasks from {job.task_source}" if job.task_source else ""
    return (
        f"{headline(facts.statistics.summary).capitalize()}, as of {facts.now:%Y-%m-%d %H:%M} UTC; "
        f"created {job.created_at:%Y-%m-%d %H:%M} UTC{version}{source}"
    )


def _overview(facts: ReportFacts) -> Iterator[str]:
    yield "<dl>"
    yield from (
        f"<div><dt>{html_text(name)}</dt><dd>{html_text(value)}</dd></div>"
        for name, value in overview(facts.statistics, facts.elapsed)
    )
    yield "</dl>"


def _charts(facts: ReportFacts) -> Iterator[str]:
    timeline = facts.timeline
    if not timeline.buckets:
        return
    charts = [
        ("Finished tasks; red: failed", draw_progress(timeline, facts.statistics.summary.total)),
        ("Tasks per minute; red: failed", draw_throughput(timeline)),
    ]
    if facts.histogram:
        charts.append(("Durations of completed tasks", draw_histogram(facts.histogram)))
    if facts.statistics.instances:
        charts.append(("Cost in US dollars", draw_cost(timeline)))
        charts.append(("Instances; red: spot interruption notice", draw_instances(timeline, facts.instances)))
    yield '<h2>Progress</h2><div class="charts">'
    yield from (f"<figure>{chart}<figcaption>{html_text(text)}</figcaption></figure>" for text, chart in charts)
    yield "</div>"


def _failures(facts: ReportFacts) -> Iterator[str]:
    if not facts.statistics.failures:
        return
    yield "<h2>Failures</h2>"
    for failure in facts.statistics.failures[:_LISTED]:
        yield (
            f"<details><summary>{html_text(counted(failure.count, 'attempt'))}: {html_text(failure.summary)}</summary>"
            f"<p>Example: task {html_text(failure.task_id)}</p>"
        )
        if failure.stack_trace or failure.outcome is AttemptOutcome.EXCEPTION:
            yield f"<pre>{html_text(failure.stack_trace or 'No traceback was reported.')}</pre>"
        if output := without_traceback(failure.log_tail or "", failure.stack_trace or ""):
            yield f"<p>Last output:</p><pre>{html_text(output)}</pre>"
        yield "</details>"
    if facts.next_steps:
        yield f"<pre>{html_text(chr(10).join(facts.next_steps))}</pre>"


def _text(facts: ReportFacts) -> Iterator[str]:
    report = render_final_report(facts.statistics, facts.elapsed, next_steps=facts.next_steps)
    yield f"<h2>As text</h2><pre>{html_text(report)}</pre>"


def _table(title: str, rows: Sequence[R], columns: Sequence[Column[R]]) -> Iterator[str]:
    if not rows:
        return

    def line(cells: Sequence[str], tag: str) -> str:
        parts = (
            f'<{tag} class="number">{html_text(cell)}</{tag}>'
            if column.align_right
            else f"<{tag}>{html_text(cell)}</{tag}>"
            for cell, column in zip(cells, columns, strict=True)
        )
        return f"<tr>{''.join(parts)}</tr>"

    head = line([column.title for column in columns], "th")
    yield f'<h2>{html_text(title)}</h2><div class="wide"><table><thead>{head}</thead><tbody>'
    yield from (line([column.text(row) for column in columns], "td") for row in rows)
    yield "</tbody></table></div>"
