"""Charts of a report as SVG, drawn without a library so that the page needs no script and no network.

Colors are CSS classes (``done``, ``failed``, ``instances``, ``cost``) that the page defines for light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime

from cloud_tasks.escape import html_text
from cloud_tasks.quantities import counted, format_duration
from cloud_tasks.store import InstanceRecord, Timeline

__all__ = ["draw_cost", "draw_histogram", "draw_instances", "draw_progress", "draw_throughput"]

_WIDTH, _HEIGHT = 760, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 12, 30
_INNER_WIDTH, _INNER_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_MAX_LANES = 60


def draw_progress(timeline: Timeline, total: int) -> str:
    """Return the number of finished tasks over time."""
    done = failed = 0
    finished, unsuccessful = [(0.0, 0.0)], [(0.0, 0.0)]
    for index, step in enumerate(timeline.buckets, start=1):
        done, failed = done + step.completed + step.failed, failed + step.failed
        finished.append((index / len(timeline.buckets), float(done)))
        unsuccessful.append((index / len(timeline.buckets), float(failed)))
    top = float(max(total, 1))
    parts = [_area(finished, top, "done"), *([_area(unsuccessful, top, "failed")] if failed else [])]
    return _chart("Finished tasks over time", top, parts, _time_labels(timeline))


def draw_throughput(timeline: Timeline) -> str:
    """Return the finished tasks per minute over time."""
    if not timeline.buckets:
        return _chart("Tasks per minute", 1.0, [], [])
    minutes = max((timeline.end - timeline.begin).total_seconds() / 60 / len(timeline.buckets), 1e-9)
    bars = [(step.completed / minutes, step.failed / minutes) for step in timeline.buckets]
    top = _round_up(max(sum(pair) for pair in bars))
    parts = [
        _bar(index / len(bars), 1 / len(bars), base, base + height, top, kind)
        for index, (completed, failed) in enumerate(bars)
        for base, height, kind in ((0.0, completed, "done"), (completed, failed, "failed"))
        if height
    ]
    return _chart("Tasks per minute over time", top, parts, _time_labels(timeline))


def draw_cost(timeline: Timeline) -> str:
    """Return the accrued cost of the instances over time."""
    if not timeline.buckets:
        return _chart("Cost in US dollars", 1.0, [], [])
    hours = (timeline.end - timeline.begin).total_seconds() / 3600 / len(timeline.buckets)
    spent, points = 0.0, [(0.0, 0.0)]
    for index, step in enumerate(timeline.buckets, start=1):
        spent += step.price_per_hour * hours
        points.append((index / len(timeline.buckets), spent))
    top = _round_up(spent)
    return _chart("Cost in US dollars over time", top, [_area(points, top, "cost")], _time_labels(timeline))


def draw_histogram(histogram: Sequence[tuple[float, float, int]]) -> str:
    """Return the distribution of the durations of completed tasks."""
    if not histogram:
        return _chart("Task durations", 1.0, [], [])
    top = _round_up(float(max(count for _, _, count in histogram)))
    parts = [
        _bar(index / len(histogram), 1 / len(histogram), 0.0, float(count), top, "done")
        for index, (_, _, count) in enumerate(histogram)
        if count
    ]
    low, high = histogram[0][0], histogram[-1][1]
    labels = [(part / 4, f"{low + (high - low) * part / 4:.3g} s") for part in range(5)]
    return _chart("Task durations", top, parts, labels)


def draw_instances(timeline: Timeline, instances: Iterable[InstanceRecord]) -> str:
    """Return a lane for each instance from launch to termination; spot interruption notices are marked."""
    records = [record for record in instances if record.launched_at is not None]
    shown = records[:_MAX_LANES]
    span = max((timeline.end - timeline.begin).total_seconds(), 1e-9)

    def place(moment: datetime) -> float:
        share = (moment - timeline.begin).total_seconds() / span
        return _LEFT + _INNER_WIDTH * min(max(share, 0.0), 1.0)

    lane = 12
    height = _TOP + lane * max(len(shown), 1) + _BOTTOM
    parts = []
    for index, record in enumerate(shown):
        assert record.launched_at is not None
        begin, end = place(record.pending_until or record.launched_at), place(record.ended_at or timeline.end)
        top = _TOP + index * lane
        label = f"{record.instance_id or record.client_token}: {record.instance_type}, {record.zone}, "
        label += f"{record.provisioning_model.value}, {counted(record.tasks_completed, 'task')} completed; "
        label += record.end_reason or "running"
        parts.append(
            f'<rect class="instances" x="{begin:.1f}" y="{top + 1}" width="{max(end - begin, 1):.1f}" '
            f'height="{lane - 3}">'
            f"<title>{html_text(label)}</title></rect>"
        )
        if record.spot_terminated_at is not None:
            mark = place(record.spot_terminated_at)
            parts.append(f'<rect class="failed" x="{mark:.1f}" y="{top}" width="2" height="{lane - 1}"/>')
    title = f"Instances from launch to termination{'' if len(shown) == len(records) else f' (the first {len(shown)})'}"
    return _frame(title, parts, _time_labels(timeline), height, values=[])


# -- parts -------------------------------------------------------------------------------------------------------


def _chart(title: str, top: float, parts: Sequence[str], labels: Sequence[tuple[float, str]]) -> str:
    values = [(part / 4, _number(top * part / 4)) for part in range(5)]
    return _frame(title, parts, labels, _HEIGHT, values=values)


def _frame(
    title: str,
    parts: Sequence[str],
    labels: Sequence[tuple[float, str]],
    height: int,
    *,
    values: Sequence[tuple[float, str]],
) -> str:
    """Return the chart around its content: title for screen readers, grid, labels below and at the left."""
    floor = height - _BOTTOM
    lines = []
    for share, text in values:
        y = floor - (floor - _TOP) * share
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text class="value" x="{_LEFT - 6}" y="{y + 4:.1f}">{html_text(text)}</text>')
    for share, text in labels:
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        x = _LEFT + _INNER_WIDTH * share
        lines.append(f'<text x="{x:.1f}" y="{height - 10}" text-anchor="{anchor}">{html_text(text)}</text>')
    content = "".join((*lines, *parts))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{html_text(title)}">'
        f"<title>{html_text(title)}</title>{content}</svg>"
    )


def _y(value: float, top: float) -> float:
    return _TOP + _INNER_HEIGHT * (1 - value / top)


def _area(points: Sequence[tuple[float, float]], top: float, kind: str) -> str:
    line = " ".join(f"{_LEFT + _INNER_WIDTH * share:.1f},{_y(value, top):.1f}" for share, value in points)
    right, floor = _LEFT + _INNER_WIDTH * points[-1][0], _y(0.0, top)
    return f'<polygon class="{kind}" points="{_LEFT:.1f},{floor:.1f} {line} {right:.1f},{floor:.1f}"/>'


def _bar(share: float, width: float, base: float, height: float, top: float, kind: str) -> str:
    x, wide = _LEFT + _INNER_WIDTH * share, max(_INNER_WIDTH * width - 1, 1)
    upper, lower = _y(height, top), _y(base, top)
    return f'<rect class="{kind}" x="{x:.1f}" y="{upper:.1f}" width="{wide:.1f}" height="{lower - upper:.1f}"/>'


def _time_labels(timeline: Timeline) -> list[tuple[float, str]]:
    """Return five moments, as the time since the start."""
    span = timeline.end - timeline.begin
    if not span:
        return []
    return [(part / 4, format_duration(span * part / 4, precise=True)) for part in range(5)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _round_up(value: float) -> float:
    """Return the next larger number of few digits, so that the chart fills the scale and its quarters read well."""
    if value <= 0:
        return 1.0
    power = float(10 ** math.floor(math.log10(value)))
    return next(power * step for step in (1, 1.2, 1.6, 2, 2.4, 3, 4, 6, 8, 10) if power * step >= value)
