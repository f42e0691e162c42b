"""The report as one HTML page that needs nothing besides itself: no script, no network, pictures inside.

Invariants, each with a test:

1. Whatever a task's id, exception or output says is shown as text, never taken for markup.
2. The page names no resource outside of itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from cloud_tasks.report.data.report_data import ReportFacts
from cloud_tasks.report.html.charts import draw_cost, draw_histogram, draw_instances, draw_progress, draw_throughput
from cloud_tasks.report.text.final import render_final_report
from cloud_tasks.report.text.formatting import counted, format_duration
from cloud_tasks.report.text.summary import status_counts

__all__ = ["render_page"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --paper: #fff; --faint: #667; --line: #dde1e8; --box: #f5f7fa;
  --done: #2f7d5b; --failed: #c2452d; --machines: #3a6ea5; --money: #8a6d1a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --paper: #14181e; --faint: #98a2b0; --line: #2d3540;
  --box: #1c222a; --done: #4fae86; --failed: #e0735d; --machines: #6a9fd4; --money: #c9a84a; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 62rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p.when, figcaption { color: var(--faint); }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .75rem; }
dl div { background: var(--box); border-radius: 6px; padding: .6rem .8rem; }
dt { color: var(--faint); font-size: .85rem; } dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1rem; }
figure { margin: 0; } svg { width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--faint); } svg text.value { text-anchor: end; }
.grid { stroke: var(--line); } .done { fill: var(--done); } .failed { fill: var(--failed); }
.machines { fill: var(--machines); } .money { fill: var(--money); }
table { border-collapse: collapse; width: 100%; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: var(--box); padding: .8rem; overflow-x: auto; border-radius: 6px; font-size: 13px; }
"""


def render_page(facts: ReportFacts) -> str:
    """The whole page."""
    job = facts.statistics.summary.job
    title = f"{job.job_id}: {facts.headline.lower()}"
    sections = (
        _figures(facts),
        _pictures(facts),
        _failures(facts),
        _slowest(facts),
        _costs(facts),
        _text(facts),
    )
    body = "\n".join(line for section in sections for line in section)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(job.job_id)}</h1>\n"
        f'<p class="when">{escape(facts.headline.capitalize())}, as of {facts.now:%Y-%m-%d %H:%M} UTC; created '
        f"{job.created_at:%Y-%m-%d %H:%M} UTC with cloud-tasks {escape(job.tool_version or '?')}, tasks from "
        f"{escape(job.task_source or '?')}</p>\n{body}\n</body>\n</html>\n"
    )


def _figures(facts: ReportFacts) -> Iterator[str]:
    statistics = facts.statistics
    summary = statistics.summary
    hours = facts.elapsed.total_seconds() / 3600
    figures = [("Tasks", f"{summary.total:,}")]
    figures += [(name.replace("_", " ").capitalize(), f"{count:,}") for name, count in status_counts(summary).items()]
    figures.append(("Elapsed time", format_duration(facts.elapsed)))
    done = summary.finished_tasks - summary.finished_before
    if hours > 0 and done:
        figures.append(("Tasks per hour", f"{done / hours:,.1f}"))
    figures += [
        ("Cost", str(statistics.cost)),
        ("Instances", f"{statistics.instances:,}"),
        ("Retries, losses", f"{summary.retries:,}, {summary.losses:,}"),
        ("Spot terminations", counted(len(statistics.spot_terminations), "host")),
    ]
    yield "<dl>"
    yield from (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in figures)
    yield "</dl>"


def _pictures(facts: ReportFacts) -> Iterator[str]:
    if not facts.course.steps:
        return
    pictures = [
        ("Tasks that have ended", draw_progress(facts.course, facts.statistics.summary.total)),
        ("Tasks per minute", draw_throughput(facts.course)),
    ]
    if facts.histogram:
        pictures.append(("How long completed tasks took", draw_histogram(facts.histogram)))
    if facts.statistics.instances:
        pictures.append(("Cost in US dollars", draw_cost(facts.course)))
        pictures.append(("Instances; red: told that it would be taken", draw_instances(facts.course, facts.instances)))
    yield '<h2>Course</h2><div class="pictures">'
    yield from (f"<figure>{picture}<figcaption>{escape(text)}</figcaption></figure>" for text, picture in pictures)
    yield "</div>"


def _failures(facts: ReportFacts) -> Iterator[str]:
    if not facts.failures:
        return
    yield "<h2>Exceptions</h2>"
    for failure in facts.failures:
        yield (
            f"<details><summary>{escape(counted(failure.count, 'attempt'))}: {escape(failure.summary)}</summary>"
            f"<p>For example task {escape(failure.task_id)}:</p>"
        )
        yield f"<pre>{escape(failure.stack_trace or 'It came without a traceback.')}</pre>"
        if failure.log_tail:
            yield f"<p>What it printed last:</p><pre>{escape(failure.log_tail)}</pre>"
        yield "</details>"


def _slowest(facts: ReportFacts) -> Iterator[str]:
    rows = [(task.task_id, f"{task.elapsed_time or 0:.2f}", task.hostname) for task in facts.slowest]
    yield from _table("Slowest tasks", ("Task", "Seconds", "Host"), rows, numbers={1})


def _costs(facts: ReportFacts) -> Iterator[str]:
    rows = [
        (part.instance_type, part.purchase.value, str(part.instances), f"{part.hours:.2f}", part.cost.format(4))
        for part in facts.statistics.costs
    ]
    head = ("Instance type", "Purchase", "Instances", "Hours", "Cost")
    yield from _table("Cost", head, rows, numbers={2, 3, 4})


def _text(facts: ReportFacts) -> Iterator[str]:
    report = render_final_report(facts.statistics, facts.elapsed, headline=facts.headline)
    yield f"<h2>As text</h2><pre>{escape(report)}</pre>"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Iterable[int]) -> Iterator[str]:
    if not rows:
        return
    right = frozenset(numbers)

    def line(cells: Sequence[str], tag: str) -> str:
        parts = (
            f'<{tag} class="number">{escape(cell)}</{tag}>' if index in right else f"<{tag}>{escape(cell)}</{tag}>"
            for index, cell in enumerate(cells)
        )
        return f"<tr>{''.join(parts)}</tr>"

    yield f'<h2>{escape(title)}</h2><div class="wide"><table><thead>{line(head, "th")}</thead><tbody>'
    yield from (line(row, "td") for row in rows)
    yield "</tbody></table></div>"
