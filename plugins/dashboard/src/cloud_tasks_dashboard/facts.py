"""Data of a job for the page, as JSON values: times in Unix seconds, durations in seconds, amounts in US dollars.

Invariant, with a test: the data contains neither the job's configuration nor this process's environment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from cloud_tasks.model import TaskStatus
from cloud_tasks.report import render_activity
from cloud_tasks.store import (
    Activity,
    InstanceRecord,
    JobSummary,
    booked_since,
    mean_price,
    present_price,
    projected_cost,
    read_activity,
    throughput,
)
from cloud_tasks_dashboard.database import open_reader
from cloud_tasks_dashboard.task_table import read_names, truncate
from cloud_tasks_dashboard.watch import MAX_BARS, Snapshot, Watch

__all__ = ["job_facts", "timeline_facts"]

_HISTOGRAM_BARS = 30
_GROUPS = 60
_LANES = 80
_MONEY_STEPS = 200


def job_facts(watch: Watch, now: datetime) -> dict[str, Any]:
    """Return all data except timeline and task table. Raise `StoreError` if the database cannot be read.

    Args:
        now: Time by the clock of this machine; the data are by that of the job.
    """
    with watch.lock:
        snapshot = watch.update()
        now += snapshot.clock_ahead
        summary = snapshot.summary
        activity = read_activity(watch.path, summary, now)
        begin, end = _span(snapshot, now)
        groups = watch.failures.top(_GROUPS)
        slowest = watch.slowest
        with open_reader(watch.path) as connection:
            names = read_names(connection, [*(group.task for group in groups), *(slow.task for slow in slowest)])
        host_names = _host_names(snapshot)
        return {
            "now": now.timestamp(),
            "job": _job(summary, activity),
            "behind": None if watch.behind is None else {"read": watch.behind[0], "of": watch.behind[1]},
            "begin": begin,
            "end": end,
            "total": summary.total,
            "counts": {status.value: summary.counts[status] for status in TaskStatus},
            "finished": summary.finished_tasks,
            "failed": summary.finished_tasks - summary.counts[TaskStatus.COMPLETED],
            "attempts": summary.attempts,
            "retries": summary.retries,
            "losses": summary.losses,
            "elapsed": _elapsed(summary),
            "histogram": _histogram(snapshot.elapsed_times),
            "throughput": _throughput(snapshot, now, activity),
            "instances": _fleet(snapshot.instances),
            "cost": _cost(snapshot, now, activity),
            "money": _money(snapshot.instances, begin, end),
            "buckets": {
                "width": watch.buckets.width,
                "counts": [[at, *counts] for at, counts in watch.buckets.counts()],
            },
            "failures": [
                {
                    "number": group.number,
                    "outcome": group.outcome.value,
                    "summary": truncate(group.summary),
                    "count": group.count,
                    "identical": group.identical,
                    "first_at": group.first_at,
                    "last_at": group.last_at,
                    "event": group.event,
                    "task_id": names.get(group.task, "?"),
                }
                for group in groups
            ],
            "failure_groups": len(watch.failures),
            "slowest": [
                {
                    "task_id": names.get(slow.task, "?"),
                    "seconds": slow.seconds,
                    "attempt": slow.attempt,
                    "host": host_names.get(slow.host, "?"),
                    "ended_at": slow.end,
                }
                for slow in slowest
            ],
        }


def _job(summary: JobSummary, activity: Activity) -> dict[str, Any]:
    job = summary.job
    return {
        "job_id": job.job_id,
        "provider": job.provider,
        "task_source": job.task_source,
        "state": activity.state.value,
        "since": None if activity.since is None else activity.since.timestamp(),
        "pid": activity.pid,
        "activity": render_activity(activity, summary).partition(": ")[2],
        "created_at": job.created_at.timestamp(),
        "finished_at": None if job.finished_at is None else job.finished_at.timestamp(),
        "tool_version": job.tool_version,
    }


def _host_names(snapshot: Snapshot) -> dict[int, str]:
    return {host: hostname or instance_id or "?" for host, instance_id, hostname in snapshot.hosts}


def _span(snapshot: Snapshot, now: datetime) -> tuple[float, float]:
    """Return the time range of the charts, which includes the present only while instances exist."""
    job = snapshot.summary.job
    begins = [job.created_at.timestamp(), *(bar.begin for bar in snapshot.running)]
    if snapshot.summary.first_start is not None:
        begins.append(snapshot.summary.first_start.timestamp())
    ends = [*begins]
    if snapshot.summary.last_end is not None:
        ends.append(snapshot.summary.last_end.timestamp())
    if snapshot.last_event_at is not None:
        ends.append(snapshot.last_event_at)
    ends += [record.ended_at.timestamp() for record in snapshot.instances if record.ended_at is not None]
    if job.finished_at is None and any(record.ended_at is None for record in snapshot.instances):
        ends.append(now.timestamp())
    return min(begins), max(ends)


def _elapsed(summary: JobSummary) -> dict[str, float] | None:
    if summary.elapsed is None:
        return None
    names = ("mean", "median", "percentile_90", "percentile_95", "minimum", "maximum")
    return {name: getattr(summary.elapsed, name) for name in names}


def _histogram(times: Sequence[tuple[float, int]]) -> Sequence[Sequence[float]]:
    """Return (from, to, count) of bars of equal width up to the 99.9th percentile; the last bar includes the rest."""
    if not times:
        return ()
    total, seen, high = sum(count for _, count in times), 0, times[-1][0]
    for seconds, count in times:
        seen += count
        if seen >= 0.999 * total:
            high = seconds
            break
    low = times[0][0]
    if high <= low:
        return ((low, low, total),)
    width = (high - low) / _HISTOGRAM_BARS
    counts = [0] * _HISTOGRAM_BARS
    for seconds, count in times:
        counts[min(int((seconds - low) / width), _HISTOGRAM_BARS - 1)] += count
    return [(low + bar * width, low + (bar + 1) * width, count) for bar, count in enumerate(counts)]


def _throughput(snapshot: Snapshot, now: datetime, activity: Activity) -> dict[str, float] | None:
    found = throughput(snapshot.summary, now, activity=activity)
    if found is None:
        return None
    left = {} if snapshot.summary.finished else {"remaining_seconds": found.remaining_time.total_seconds()}
    return {"tasks_per_hour": found.tasks_per_hour, **left}


def _fleet(records: Sequence[InstanceRecord]) -> dict[str, Any]:
    alive = [record for record in records if record.ended_at is None]
    kinds: dict[tuple[str, str, str], int] = {}
    for record in alive:
        kind = (record.instance_type, record.provisioning_model.value, record.shown_state)
        kinds[kind] = kinds.get(kind, 0) + 1
    return {
        "alive": len(alive),
        "launched": sum(record.launched_at is not None for record in records),
        "preempted": sum(record.spot_terminated_at is not None for record in records),
        "kinds": [
            {"instance_type": name, "purchase": provisioning_model, "state": state, "count": count}
            for (name, provisioning_model, state), count in sorted(kinds.items())
        ],
    }


def _cost(snapshot: Snapshot, now: datetime, activity: Activity) -> dict[str, float | None]:
    alive = [record for record in snapshot.instances if record.ended_at is None]
    hourly = present_price(alive, now)
    so_far = snapshot.cost(now)
    rate = throughput(snapshot.summary, now, activity=activity)
    projected = projected_cost(snapshot.summary, rate, accrued=so_far, price_per_hour=hourly)
    return {
        "so_far": float(so_far.usd),
        "per_hour": float(hourly.usd),
        "projected": None if projected is None or not alive else float(projected.usd),
    }


def _money(records: Iterable[InstanceRecord], begin: float, end: float) -> Sequence[Sequence[float]]:
    """Return (time, accrued cost, instances, price per hour) at equidistant times from begin to end."""
    changes: list[tuple[float, int, float]] = []
    for record in records:
        if record.is_pending or (record.launched_at is None and record.ended_at is not None):
            continue
        price = mean_price(record, datetime.fromtimestamp(end, UTC))
        changes.append((booked_since(record, datetime.fromtimestamp(end, UTC)).timestamp(), 1, price))
        if record.ended_at is not None:
            changes.append((record.ended_at.timestamp(), -1, -price))
    if not changes or end <= begin:
        return ()
    changes.sort()
    points: list[tuple[float, float, int, float]] = []
    cost, alive, hourly, moment, place = 0.0, 0, 0.0, min(begin, changes[0][0]), 0
    for step in range(_MONEY_STEPS + 1):
        until = begin + (end - begin) * step / _MONEY_STEPS
        while place < len(changes) and changes[place][0] <= until:
            at, more, price = changes[place]
            cost += max(at - moment, 0.0) * hourly / 3600
            moment, alive, hourly, place = max(at, moment), alive + more, max(hourly + price, 0.0), place + 1
        cost += max(until - moment, 0.0) * hourly / 3600
        moment = max(until, moment)
        points.append((until, cost, alive, hourly))
    return points


def timeline_facts(watch: Watch, now: datetime) -> dict[str, Any]:
    """Return the lifetime of each instance and the attempts on it.

    If more attempts have finished than are kept individually, a lane has the instance's utilization instead.
    """
    with watch.lock:
        snapshot = watch.update()
        now += snapshot.clock_ahead
        begin, end = _span(snapshot, now)
        each = watch.ended <= MAX_BARS
        lanes, of_host, hidden = _lanes(snapshot)
        bars = [*(watch.bars if each else ()), *snapshot.running]
        shown = [bar for bar in bars if bar.host in of_host]
        with open_reader(watch.path) as connection:
            names = read_names(connection, [bar.task for bar in shown])
        if not each:
            for host, lane in of_host.items():
                slots = lanes[lane]["slots"] if lanes[lane]["begin"] is not None else None
                lanes[lane]["busy"] += [[at, round(share, 3)] for at, share in watch.buckets.utilization(host, slots)]
        return {
            "now": now.timestamp(),
            "begin": begin,
            "end": end,
            "width": watch.buckets.width,
            "lanes": lanes,
            "hidden_lanes": hidden,
            "each": each,
            "bars": [
                [of_host[bar.host], bar.begin, bar.end, bar.kind, names.get(bar.task, "?"), bar.attempt]
                for bar in shown
            ],
        }


def _lanes(snapshot: Snapshot) -> tuple[list[dict[str, Any]], dict[int, int], int]:
    """Return the lanes, the lane of each host, and the number of omitted lanes, the earliest terminated."""
    launched = [record for record in snapshot.instances if record.launched_at is not None]
    kept = sorted(launched, key=lambda record: record.ended_at or datetime.max.replace(tzinfo=UTC))[-_LANES:]
    shown = {record.client_token for record in kept}
    lanes: list[dict[str, Any]] = []
    by_instance: dict[str, int] = {}
    for record in launched:
        if record.client_token in shown:
            by_instance[record.instance_id or ""] = len(lanes)
            lanes.append(_lane(record))
    of_host: dict[int, int] = {}
    known = {record.instance_id for record in snapshot.instances}
    hidden = len(launched) - len(lanes)
    for host, instance_id, hostname in snapshot.hosts:
        if instance_id in by_instance:
            of_host[host] = by_instance[instance_id]
        elif not instance_id or instance_id not in known:
            # A worker that was started manually.
            if len(lanes) >= _LANES:
                hidden += 1
                continue
            of_host[host] = len(lanes)
            lanes.append({**_NO_INSTANCE, "name": hostname or instance_id or "?", "busy": []})
    return lanes, of_host, hidden


_NO_INSTANCE = {
    "type": "worker started manually",
    "zone": "",
    "purchase": "",
    "slots": 1,
    "begin": None,
    "end": None,
    "end_reason": "",
    "preempted_at": None,
    "completed": None,
    "running": None,
}


def _lane(record: InstanceRecord) -> dict[str, Any]:
    return {
        "name": record.instance_id or "?",
        "type": record.instance_type,
        "zone": record.zone,
        "purchase": record.provisioning_model.value,
        "slots": max(record.slots, 1),
        "begin": None if record.launched_at is None else (record.pending_until or record.launched_at).timestamp(),
        "end": None if record.ended_at is None else record.ended_at.timestamp(),
        "end_reason": record.end_reason,
        "preempted_at": None if record.spot_terminated_at is None else record.spot_terminated_at.timestamp(),
        "completed": record.tasks_completed,
        "running": record.running_tasks if record.ended_at is None else 0,
        "busy": [],
    }
