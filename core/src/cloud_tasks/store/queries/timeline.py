"""The timeline of a job in buckets, and its histogram of elapsed times: data of charts.

Each function opens the file read-only and makes one pass over the rows.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import attrs

from cloud_tasks.model import TaskStatus
from cloud_tasks.store.booking import booked_since, booked_until, mean_price
from cloud_tasks.store.db.enum_codes import FINAL_CODES, STATUS_TO_CODE
from cloud_tasks.store.db.reading import open_reader
from cloud_tasks.store.db.times import from_unix, from_unix_or_none, to_unix
from cloud_tasks.store.records import InstanceRecord
from cloud_tasks.store.write.instances import read_instances

__all__ = ["Bucket", "Timeline", "read_elapsed_histogram", "read_timeline"]

_COMPLETED = STATUS_TO_CODE[TaskStatus.COMPLETED]


@attrs.frozen(kw_only=True)
class Bucket:
    """One interval of a timeline."""

    begin: datetime
    end: datetime
    completed: int
    """Tasks that completed in it."""
    failed: int
    """Tasks that reached another terminal state in it."""
    instances: float
    """Average number of instances."""
    price_per_hour: float
    """Average price of all instances, in US dollars per hour."""


@attrs.frozen(kw_only=True)
class Timeline:
    """The progress of a job from its start until its end, or until now. Times are UTC."""

    begin: datetime
    end: datetime
    buckets: tuple[Bucket, ...]
    """Buckets of equal length, without gaps; empty if the job has not started."""


def read_timeline(path: Path, now: datetime, *, buckets: int = 100) -> Timeline:
    """Return the timeline of a job until it finished, or until ``now`` (UTC).

    Args:
        buckets: Number of buckets, at least 1.
    """
    with open_reader(path) as connection:
        instances = [record for record in read_instances(connection) if record.launched_at or record.ended_at is None]
        begin, end = _span(connection, instances, now)
        width = (end - begin) / buckets
        if width <= 0:
            return Timeline(begin=from_unix(begin), end=from_unix(end), buckets=())
        codes = ", ".join(map(str, sorted(FINAL_CODES)))
        rows = connection.execute(
            "SELECT min(max(cast((ended_at - ?) / ? AS INTEGER), 0), ?), status = ?, count(*) FROM tasks "
            f"WHERE status IN ({codes}) AND ended_at IS NOT NULL GROUP BY 1, 2",
            (begin, width, buckets - 1, _COMPLETED),
        ).fetchall()
    tasks = {(number, bool(completed)): count for number, completed, count in rows}
    running, price = [0.0] * buckets, [0.0] * buckets
    for record in instances:
        booked_end = booked_until(record, now)
        since = to_unix(booked_since(record, booked_end)) - begin
        until = min(to_unix(booked_end), end) - begin
        hourly = mean_price(record, now)
        for number in range(max(int(since / width), 0), min(math.ceil(until / width), buckets)):
            share = max(min(until, (number + 1) * width) - max(since, number * width), 0.0) / width
            running[number] += share
            price[number] += share * hourly
    made = (
        Bucket(
            begin=from_unix(begin + number * width),
            end=from_unix(begin + (number + 1) * width),
            completed=tasks.get((number, True), 0),
            failed=tasks.get((number, False), 0),
            instances=running[number],
            price_per_hour=price[number],
        )
        for number in range(buckets)
    )
    return Timeline(begin=from_unix(begin), end=from_unix(end), buckets=tuple(made))


def _span(connection: sqlite3.Connection, instances: Sequence[InstanceRecord], now: datetime) -> tuple[float, float]:
    """Return start and end of the timeline in Unix seconds."""
    created, finished = connection.execute("SELECT created_at, finished_at FROM job").fetchone()
    (first,) = connection.execute("SELECT value FROM counters WHERE name = 'first_start'").fetchone() or (None,)
    (last,) = connection.execute("SELECT max(ended_at) FROM tasks").fetchone()
    (last_heartbeat,) = connection.execute("SELECT max(last_heard) FROM hosts").fetchone()
    begin = min(_known(created, first))
    # Without a running instance, the timeline ends with the last heartbeat.
    latest = None if any(record.ended_at is None for record in instances) else last_heartbeat
    ended = [to_unix(booked_until(record, now)) for record in instances]
    return begin, max(_known(finished or latest, last, begin, *ended))


def _known(*times: object) -> list[float]:
    """Return those of the Unix times that can be read; that of 1970 if none can."""
    return [found.timestamp() for found in map(from_unix_or_none, times) if found is not None] or [0.0]


def read_elapsed_histogram(path: Path, *, bars: int = 40) -> tuple[tuple[float, float, int], ...]:
    """Return a histogram of the elapsed times of completed tasks: (from, to, count), in seconds, of equal width."""
    with open_reader(path) as connection:
        condition = "WHERE status = ? AND elapsed BETWEEN 0 AND 1e10"
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
