"""Summary queries: the maintained counters of a job (summary), and its exact statistics (a scan)."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping
from datetime import datetime

from cloud_tasks.model import EventType, Money, TaskStatus
from cloud_tasks.store.db.enum_codes import EVENT_TO_CODE, FINAL_CODES, STATUS_TO_CODE
from cloud_tasks.store.db.quantile_sketch import percentiles, percentiles_of_sketch, value_of
from cloud_tasks.store.db.times import from_unix, from_unix_or_none
from cloud_tasks.store.queries.broken_workers import read_broken_workers
from cloud_tasks.store.queries.cost_breakdown import cost_breakdown
from cloud_tasks.store.queries.failure_groups import read_failures
from cloud_tasks.store.records import ElapsedStatistics, JobRecord, JobStatistics, JobSummary
from cloud_tasks.store.write.counters import (
    FINISHED_BEFORE,
    RECENT_ENDS,
    RECENT_SECONDS,
    RUN_ALIVE,
    RUN_ENDED,
    RUN_STARTED,
    read_counters,
)
from cloud_tasks.store.write.instances import costs, count_live

__all__ = ["read_counts", "read_elapsed_times", "read_statistics", "read_summary"]

_FAILURES_LISTED = 100
_COMPLETED = STATUS_TO_CODE[TaskStatus.COMPLETED]
_FAILED_CODES = ", ".join(str(code) for code in sorted(FINAL_CODES - {_COMPLETED}))
_STATUS_COUNTERS = tuple((status, f"status:{code}") for status, code in STATUS_TO_CODE.items())
_EVENT_COUNTERS = tuple((event_type, f"event:{EVENT_TO_CODE[event_type]}") for event_type in EventType)


def read_counts(connection: sqlite3.Connection) -> dict[TaskStatus, int]:
    """Return the number of tasks by status, zero included."""
    found = dict(connection.execute("SELECT name, value FROM counters WHERE name >= 'status:' AND name < 'status;'"))
    return {status: int(found.get(name, 0)) for status, name in _STATUS_COUNTERS}


def read_elapsed_times(connection: sqlite3.Connection) -> dict[float, int]:
    """Return numbers of completed tasks by elapsed time in seconds, from the quantile sketch."""
    return {value_of(bucket): count for bucket, count in connection.execute("SELECT bucket, count FROM elapsed_sketch")}


def read_summary(connection: sqlite3.Connection, job: JobRecord) -> JobSummary:
    """Return the summary, in constant time."""
    counters = read_counters(connection)

    def count(name: str) -> int:
        return int(counters.get(name, 0))

    return JobSummary(
        job=job,
        total=count("total"),
        counts={status: count(name) for status, name in _STATUS_COUNTERS},
        events={event_type: count(name) for event_type, name in _EVENT_COUNTERS},
        attempts=count("attempts"),
        losses=count("losses"),
        retries=count("retries"),
        duplicates=count("duplicates"),
        late=count("late"),
        unknown_task=count("unknown_task"),
        dead_letters=count("set_aside"),
        elapsed=_maintained_elapsed(connection, counters),
        first_start=from_unix_or_none(counters.get("first_start")),
        last_end=from_unix_or_none(counters.get("last_end")),
        run_started_at=from_unix_or_none(counters.get(RUN_STARTED)),
        run_ended_at=from_unix_or_none(counters.get(RUN_ENDED)),
        last_alive=_last_alive(connection, counters),
        recent_ends=_recent_ends(counters),
        finished_before=count(FINISHED_BEFORE),
        live_instances=count_live(connection),
    )


def _is_known(counters: Mapping[str, float]) -> bool:
    return all(math.isfinite(counters.get(f"elapsed:{name}", math.nan)) for name in ("mean", "m2", "min", "max"))


def _last_alive(connection: sqlite3.Connection, counters: Mapping[str, float]) -> datetime | None:
    (heard,) = connection.execute("SELECT max(last_heard) FROM hosts").fetchone()
    return from_unix_or_none(max((moment for moment in (heard, counters.get(RUN_ALIVE)) if moment), default=None))


def _recent_ends(counters: Mapping[str, float]) -> tuple[tuple[datetime, int], ...]:
    names = sorted(name for name in counters if name.startswith(RECENT_ENDS))
    return tuple(
        (from_unix(int(name.removeprefix(RECENT_ENDS)) * RECENT_SECONDS), int(counters[name])) for name in names
    )


def _maintained_elapsed(connection: sqlite3.Connection, counters: Mapping[str, float]) -> ElapsedStatistics | None:
    if not counters.get("elapsed:count") or not _is_known(counters):
        return None
    sketch: dict[int, int] = dict(connection.execute("SELECT bucket, count FROM elapsed_sketch"))
    low, high = counters["elapsed:min"], counters["elapsed:max"]
    median, percentile_90, percentile_95 = (
        min(max(value, low), high) for value in percentiles_of_sketch(sketch, (0.5, 0.9, 0.95))
    )
    return _elapsed(counters, median, percentile_90, percentile_95, exact=False)


def _exact_elapsed(connection: sqlite3.Connection, counters: Mapping[str, float]) -> ElapsedStatistics | None:
    total = int(counters.get("elapsed:count", 0))
    if not total or not _is_known(counters):
        return None

    # One sorted pass that ends at the highest percentile.
    ordered = connection.execute(
        "SELECT elapsed FROM tasks WHERE status = ? AND elapsed IS NOT NULL ORDER BY elapsed", (_COMPLETED,)
    )
    try:
        median, percentile_90, percentile_95 = percentiles((value for (value,) in ordered), (0.5, 0.9, 0.95), total)
    except KeyError:
        # Fewer rows than counted: some have a status that this version does not know.
        return _maintained_elapsed(connection, counters)
    return _elapsed(counters, median, percentile_90, percentile_95, exact=True)


def _elapsed(
    counters: Mapping[str, float], median: float, percentile_90: float, percentile_95: float, *, exact: bool
) -> ElapsedStatistics:
    count = int(counters["elapsed:count"])
    return ElapsedStatistics(
        count=count,
        minimum=counters["elapsed:min"],
        maximum=counters["elapsed:max"],
        mean=counters["elapsed:mean"],
        deviation=math.sqrt(max(counters["elapsed:m2"], 0.0) / count),
        median=median,
        percentile_90=percentile_90,
        percentile_95=percentile_95,
        exact=exact,
    )


def read_statistics(
    connection: sqlite3.Connection, job: JobRecord, now: datetime, *, with_failures: bool = True
) -> JobStatistics:
    """Return the statistics of the final report. Scans the tasks: for the end of a job, not for each interval."""
    failures, kinds = read_failures(connection, limit=_FAILURES_LISTED) if with_failures else ((), 0)
    terminated = connection.execute(
        "SELECT hostname, instance_id FROM hosts WHERE spot_terminated_at IS NOT NULL ORDER BY spot_terminated_at, host"
    )
    (launched,) = connection.execute("SELECT count(*) FROM instances WHERE launched_at IS NOT NULL").fetchone()
    lines = costs(connection, now)
    return JobStatistics(
        summary=read_summary(connection, job),
        elapsed=_exact_elapsed(connection, read_counters(connection)),
        failures=failures,
        failure_kinds=kinds,
        failed_task=_first_failed(connection) if with_failures else None,
        spot_terminations=tuple(hostname or instance_id for hostname, instance_id in terminated),
        cost=sum((line.cost for line in lines), Money.zero()),
        costs=lines,
        instances=launched,
        cost_breakdown=cost_breakdown(connection, now),
        broken_workers=read_broken_workers(connection),
    )


def _first_failed(connection: sqlite3.Connection) -> str | None:
    row = connection.execute(
        f"SELECT task_id FROM tasks WHERE status IN ({_FAILED_CODES}) ORDER BY seq LIMIT 1"
    ).fetchone()
    return None if row is None else str(row[0])
