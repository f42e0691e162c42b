"""The report as Markdown: for an issue, a notebook, a lab book."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cloud_tasks.report.data.report_data import ReportFacts
from cloud_tasks.report.text.formatting import counted, format_duration
from cloud_tasks.report.text.summary import status_counts

__all__ = ["render_markdown"]


def render_markdown(facts: ReportFacts) -> str:
    """The whole report; headings of the second level and below, so that it can stand in a larger text."""
    sections = (_overview(facts), _times(facts), _failures(facts), _cost(facts), _slowest(facts))
    blocks = ["\n".join(lines) for lines in sections]
    title = f"# Job {_escape(facts.statistics.summary.job.job_id)}: {facts.headline.lower()}"
    return "\n\n".join([title, *(block for block in blocks if block)]) + "\n"


def _overview(facts: ReportFacts) -> Iterator[str]:
    summary = facts.statistics.summary
    yield f"As of {facts.now:%Y-%m-%d %H:%M} UTC; the job was created {summary.job.created_at:%Y-%m-%d %H:%M} UTC."
    yield ""
    rows = [("Tasks", str(summary.total))]
    rows += [(f"{name.replace('_', ' ')}", str(count)) for name, count in status_counts(summary).items()]
    rows.append(("Elapsed time", format_duration(facts.elapsed)))
    hours = facts.elapsed.total_seconds() / 3600
    done = summary.finished_tasks - summary.finished_before
    if hours > 0 and done:
        rows.append(("Tasks per hour", f"{done / hours:.1f}"))
    rows.append(("Attempts", f"{summary.attempts} ({summary.retries} retries, {summary.losses} lost)"))
    rows.append(("Spot terminations", counted(len(facts.statistics.spot_terminations), "host")))
    rows.append(("Cost", f"{facts.statistics.cost} for {counted(facts.statistics.instances, 'instance')}"))
    yield from _table(("What", "How much"), rows)


def _times(facts: ReportFacts) -> Iterator[str]:
    elapsed = facts.statistics.elapsed
    if elapsed is None:
        return
    yield "## How long tasks took"
    yield ""
    head = ("Shortest", "Median", "Mean", "90 %", "95 %", "Longest")
    values = (
        elapsed.minimum,
        elapsed.median,
        elapsed.mean,
        elapsed.percentile_90,
        elapsed.percentile_95,
        elapsed.maximum,
    )
    yield from _table(head, [tuple(f"{value:.2f} s" for value in values)])


def _failures(facts: ReportFacts) -> Iterator[str]:
    if not facts.failures:
        return
    yield "## Exceptions"
    yield ""
    rows = [(str(failure.count), failure.summary, failure.task_id) for failure in facts.failures]
    yield from _table(("Attempts", "Exception", "For example"), rows)


def _cost(facts: ReportFacts) -> Iterator[str]:
    statistics = facts.statistics
    if not statistics.costs:
        return
    yield "## Cost"
    yield ""
    rows = [
        (part.instance_type, part.purchase.value, str(part.instances), f"{part.hours:.2f}", part.cost.format(4))
        for part in statistics.costs
    ]
    yield from _table(("Instance type", "Purchase", "Instances", "Hours", "Cost"), rows)
    if statistics.shares is not None and statistics.cost:
        yield ""
        names = {"work": "work", "lost": "lost with instances", "failed": "failed attempts", "idle": "idle"}
        yield "Of this: " + ", ".join(
            f"{label} {getattr(statistics.shares, name).usd / statistics.cost.usd:.1%}" for name, label in names.items()
        )


def _slowest(facts: ReportFacts) -> Iterator[str]:
    if not facts.slowest:
        return
    yield "## Slowest tasks"
    yield ""
    rows = [(task.task_id, f"{task.elapsed_time or 0:.2f}", task.hostname) for task in facts.slowest]
    yield from _table(("Task", "Seconds", "Host"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join(' --- ' for _ in head)}|"
    for row in rows:
        yield f"| {' | '.join(_escape(cell) for cell in row)} |"


def _escape(text: str) -> str:
    """Text that Markdown leaves as it is, on one line."""
    shown = " ".join(text.split())
    return "".join(f"\\{letter}" if letter in "\\|*_`<>[]" else letter for letter in shown)
