"""The pictures of a report as SVG: drawn here, so that a page needs no script, no library and no network.

Colours are CSS classes (``done``, ``failed``, ``machines``, ``money``) that the page defines, for light and for dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from html import escape

from cloud_tasks.report.text.formatting import format_duration
from cloud_tasks.store import InstanceRecord
from cloud_tasks.store.queries.timeline import Timeline

__all__ = ["draw_cost", "draw_histogram", "draw_instances", "draw_progress", "draw_throughput"]

_WIDTH, _HEIGHT = 760, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 12, 30
_INNER_WIDTH, _INNER_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_MOST_LANES = 60


def draw_progress(course: Timeline, total: int) -> str:
    """How many tasks had ended, over time."""
    done = failed = 0
    all_of_them, not_completed = [(0.0, 0.0)], [(0.0, 0.0)]
    for index, step in enumerate(course.steps, start=1):
        done, failed = done + step.completed + step.failed, failed + step.failed
        all_of_them.append((index / len(course.steps), float(done)))
        not_completed.append((index / len(course.steps), float(failed)))
    top = float(max(total, 1))
    parts = [_area(all_of_them, top, "done"), *([_area(not_completed, top, "failed")] if failed else [])]
    return _chart("Tasks that have ended, over time", top, parts, _time_labels(course))


def draw_throughput(course: Timeline) -> str:
    """How many tasks ended per minute, over time."""
    if not course.steps:
        return _chart("Tasks per minute", 1.0, [], [])
    minutes = max((course.end - course.begin).total_seconds() / 60 / len(course.steps), 1e-9)
    bars = [(step.completed / minutes, step.failed / minutes) for step in course.steps]
    top = _round_up(max(sum(pair) for pair in bars))
    parts = [
        _bar(index / len(bars), 1 / len(bars), base, base + height, top, kind)
        for index, (completed, failed) in enumerate(bars)
        for base, height, kind in ((0.0, completed, "done"), (completed, failed, "failed"))
        if height
    ]
    return _chart("Tasks per minute, over time", top, parts, _time_labels(course))


def draw_cost(course: Timeline) -> str:
    """What the instances had cost, over time."""
    if not course.steps:
        return _chart("Cost in US dollars", 1.0, [], [])
    hours = (course.end - course.begin).total_seconds() / 3600 / len(course.steps)
    spent, points = 0.0, [(0.0, 0.0)]
    for index, step in enumerate(course.steps, start=1):
        spent += step.price_per_hour * hours
        points.append((index / len(course.steps), spent))
    top = _round_up(spent)
    return _chart("Cost in US dollars, over time", top, [_area(points, top, "money")], _time_labels(course))


def draw_histogram(histogram: Sequence[tuple[float, float, int]]) -> str:
    """How many completed tasks took how long."""
    if not histogram:
        return _chart("How long tasks took", 1.0, [], [])
    top = _round_up(float(max(count for _, _, count in histogram)))
    parts = [
        _bar(index / len(histogram), 1 / len(histogram), 0.0, float(count), top, "done")
        for index, (_, _, count) in enumerate(histogram)
        if count
    ]
    low, high = histogram[0][0], histogram[-1][1]
    labels = [(part / 4, f"{low + (high - low) * part / 4:.3g} s") for part in range(5)]
    return _chart("How many tasks took how long", top, parts, labels)


def draw_instances(course: Timeline, instances: Iterable[InstanceRecord]) -> str:
    """A lane for each instance: from its launch to its end, marked where it was interrupted."""
    records = [record for record in instances if record.launched_at is not None]
    shown = records[:_MOST_LANES]
    span = max((course.end - course.begin).total_seconds(), 1e-9)

    def place(moment: datetime) -> float:
        share = (moment - course.begin).total_seconds() / span
        return _LEFT + _INNER_WIDTH * min(max(share, 0.0), 1.0)

    lane = 12
    height = _TOP + lane * max(len(shown), 1) + _BOTTOM
    parts = []
    for index, record in enumerate(shown):
        assert record.launched_at is not None
        begin, end = place(record.launched_at), place(record.ended_at or course.end)
        top = _TOP + index * lane
        told = f"{record.instance_id or '?'}: {record.instance_type}, {record.zone}, {record.purchase.value}, "
        told += f"{record.tasks_completed} tasks completed; {record.end_reason or 'alive'}"
        parts.append(
            f'<rect class="machines" x="{begin:.1f}" y="{top + 1}" width="{max(end - begin, 1):.1f}" '
            f'height="{lane - 3}">'
            f"<title>{escape(told)}</title></rect>"
        )
        if record.spot_terminated_at is not None:
            mark = place(record.spot_terminated_at)
            parts.append(f'<rect class="failed" x="{mark:.1f}" y="{top}" width="2" height="{lane - 1}"/>')
    title = f"Instances, from launch to end{'' if len(shown) == len(records) else f' (the first {len(shown)})'}"
    return _frame(title, parts, _time_labels(course), height, values=[])


# -- the pieces -------------------------------------------------------------------------------------------------------


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
    """The picture around its content: title for those who cannot see it, lines, labels below and at the left."""
    floor = height - _BOTTOM
    lines = []
    for share, text in values:
        y = floor - (floor - _TOP) * share
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text class="value" x="{_LEFT - 6}" y="{y + 4:.1f}">{escape(text)}</text>')
    for share, text in labels:
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        x = _LEFT + _INNER_WIDTH * share
        lines.append(f'<text x="{x:.1f}" y="{height - 10}" text-anchor="{anchor}">{escape(text)}</text>')
    content = "".join((*lines, *parts))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{content}</svg>"
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


def _time_labels(course: Timeline) -> list[tuple[float, str]]:
    """Five moments, as the time since the beginning."""
    span = course.end - course.begin
    if not span:
        return []
    return [(part / 4, _short(span * part / 4)) for part in range(5)]


def _short(span: timedelta) -> str:
    return format_duration(span) if span >= timedelta(seconds=10) or not span else f"{span.total_seconds():.1f}s"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _round_up(value: float) -> float:
    """The next number of few digits, so that the scale is filled and its quarters read well."""
    if value <= 0:
        return 1.0
    power = float(10 ** math.floor(math.log10(value)))
    return next(power * step for step in (1, 1.2, 1.6, 2, 2.4, 3, 4, 6, 8, 10) if power * step >= value)
