"""How a job went over time, in as many steps as a picture has room for: for the report and the dashboard.

Each function opens the file for itself, read-only; the work is one pass over the rows, the answer is small.
"""

from __future__ import annotations

import json
import math
from contextlib import closing
from datetime import datetime
from pathlib import Path

import attrs

from cloud_tasks.model import EventType, TaskStatus
from cloud_tasks.store.db.connection import connect_reader
from cloud_tasks.store.db.enum_codes import EVENT_TO_CODE, FINAL_CODES, STATUS_TO_CODE
from cloud_tasks.store.db.times import from_unix, to_unix
from cloud_tasks.store.write.instances import read_instances

__all__ = ["Bucket", "Failure", "Timeline", "read_elapsed_histogram", "read_failures", "read_timeline"]

_COMPLETED = STATUS_TO_CODE[TaskStatus.COMPLETED]


@attrs.frozen(kw_only=True)
class Bucket:
    """A stretch of time."""

    begin: datetime
    end: datetime
    completed: int
    """Tasks that completed in it."""
    failed: int
    """Tasks that ended otherwise in it."""
    instances: float
    """Instances that were there, on average."""
    price_per_hour: float
    """US dollars that they cost per hour, on average."""


@attrs.frozen(kw_only=True)
class Timeline:
    """A job from its beginning to its end, or to now."""

    begin: datetime
    end: datetime
    steps: tuple[Bucket, ...]
    """Of equal length, without gaps; empty before anything has happened."""


@attrs.frozen(kw_only=True)
class Failure:
    """Attempts that ended with the same exception."""

    summary: str
    """``Type: message``."""
    count: int
    task_id: str
    """One of the tasks."""
    stack_trace: str
    log_tail: str
    """What that attempt printed last."""


def read_timeline(path: Path, now: datetime, *, steps: int = 100) -> Timeline:
    """The course of a job until it finished, or until ``now``.

    Args:
        steps: How many to divide it into, 1 or more.
    """
    with closing(connect_reader(path)) as connection:
        created, finished = connection.execute("SELECT created_at, finished_at FROM job").fetchone()
        (first,) = connection.execute("SELECT value FROM counters WHERE name = 'first_start'").fetchone() or (None,)
        (last,) = connection.execute("SELECT max(ended_at) FROM tasks").fetchone()
        machines = [record for record in read_instances(connection) if record.launched_at or record.ended_at is None]
        (heard,) = connection.execute("SELECT max(last_heard) FROM hosts").fetchone()
        begin = min(value for value in (created, first) if value is not None)
        # Where nothing is left that could do anything, the course ended with the last sign of life.
        latest = to_unix(now) if any(record.ended_at is None for record in machines) else heard
        ended = [to_unix(record.ended_at) for record in machines if record.ended_at is not None]
        end = max(value for value in (finished or latest, last, begin, *ended) if value is not None)
        width = (end - begin) / steps
        if width <= 0:
            return Timeline(begin=from_unix(begin), end=from_unix(end), steps=())
        codes = ", ".join(map(str, sorted(FINAL_CODES)))
        rows = connection.execute(
            "SELECT min(max(cast((ended_at - ?) / ? AS INTEGER), 0), ?), status = ?, count(*) FROM tasks "
            f"WHERE status IN ({codes}) AND ended_at IS NOT NULL GROUP BY 1, 2",
            (begin, width, steps - 1, _COMPLETED),
        ).fetchall()
    tasks = {(step, bool(completed)): count for step, completed, count in rows}
    alive, price = [0.0] * steps, [0.0] * steps
    for record in machines:
        since = to_unix(record.launched_at or record.intended_at) - begin
        until = (to_unix(record.ended_at) if record.ended_at else end) - begin
        hourly = float(record.price_per_hour.usd)
        for step in range(max(int(since / width), 0), min(math.ceil(until / width), steps)):
            share = max(min(until, (step + 1) * width) - max(since, step * width), 0.0) / width
            alive[step] += share
            price[step] += share * hourly
    return Timeline(
        begin=from_unix(begin),
        end=from_unix(end),
        steps=tuple(
            Bucket(
                begin=from_unix(begin + step * width),
                end=from_unix(begin + (step + 1) * width),
                completed=tasks.get((step, True), 0),
                failed=tasks.get((step, False), 0),
                instances=alive[step],
                price_per_hour=price[step],
            )
            for step in range(steps)
        ),
    )


def read_elapsed_histogram(path: Path, *, bars: int = 40) -> tuple[tuple[float, float, int], ...]:
    """How many completed tasks took how long: (from, to, count) in seconds, bars of equal width; empty without any."""
    with closing(connect_reader(path)) as connection:
        condition = "WHERE status = ? AND elapsed IS NOT NULL"
        low, high = connection.execute(
            f"SELECT min(elapsed), max(elapsed) FROM tasks {condition}", (_COMPLETED,)
        ).fetchone()
        if low is None:
            return ()
        if high <= low:
            (count,) = connection.execute(f"SELECT count(*) FROM tasks {condition}", (_COMPLETED,)).fetchone()
            return ((low, high, count),)
        width = (high - low) / bars
        rows = connection.execute(
            f"SELECT min(cast((elapsed - ?) / ? AS INTEGER), ?), count(*) FROM tasks {condition} GROUP BY 1",
            (low, width, bars - 1, _COMPLETED),
        )
        counts = dict(rows.fetchall())
    return tuple((low + bar * width, low + (bar + 1) * width, counts.get(bar, 0)) for bar in range(bars))


def read_failures(path: Path, *, limit: int = 20) -> tuple[Failure, ...]:
    """The exceptions of attempts, alike ones together, the most frequent first, each with one example."""
    with closing(connect_reader(path)) as connection:
        rows = connection.execute(
            "SELECT x.summary, x.count, t.task_id, e.details FROM "
            "(SELECT a.reason AS summary, count(*) AS count, min(a.ended_by) AS example FROM attempts AS a "
            "JOIN events AS f ON f.id = a.ended_by AND f.type = ? GROUP BY a.reason) AS x "
            "JOIN events AS e ON e.id = x.example JOIN tasks AS t ON t.seq = e.task "
            "ORDER BY x.count DESC, x.summary LIMIT ?",
            (EVENT_TO_CODE[EventType.TASK_EXCEPTION], limit),
        ).fetchall()
    return tuple(_failure(*row) for row in rows)


def _failure(summary: str, count: int, task_id: str, details: str | None) -> Failure:
    more = json.loads(details) if details else {}
    return Failure(
        summary=summary or "unknown exception",
        count=count,
        task_id=task_id,
        stack_trace=str(more.get("stack_trace") or ""),
        log_tail=str(more.get("log_tail") or ""),
    )
