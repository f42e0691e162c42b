"""Workers that failed what others completed, or that an error of their own ended, for the report."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator

from cloud_tasks.model import AttemptOutcome, EventType
from cloud_tasks.store.db.enum_codes import EVENT_TO_CODE, OUTCOME_TO_CODE
from cloud_tasks.store.records import BrokenWorker
from cloud_tasks.store.write.counters import read_counter

__all__ = ["read_broken_workers"]

_MIN_TASKS = 10
_FAILING, _WORKING = 0.9, 0.5
_LIMIT = 20
_FATAL = EVENT_TO_CODE[EventType.FATAL_EXCEPTION]
_REASONS = tuple(
    OUTCOME_TO_CODE[outcome] for outcome in (AttemptOutcome.EXCEPTION, AttemptOutcome.EXITED, AttemptOutcome.TIMED_OUT)
)


def read_broken_workers(connection: sqlite3.Connection) -> tuple[BrokenWorker, ...]:
    """Return the broken workers, each with the reason; at most 20."""
    found = {worker.name: worker for worker in (*_failing(connection), *_ended_by_an_error(connection))}
    return tuple(found.values())[:_LIMIT]


def _failing(connection: sqlite3.Connection) -> Iterator[BrokenWorker]:
    """Yield the workers on which nearly every task failed, while others completed most of theirs."""
    rows = connection.execute("SELECT host, instance_id, hostname, finished, completed FROM hosts").fetchall()
    failing = [row for row in rows if row[3] >= _MIN_TASKS and row[3] - row[4] > row[3] * _FAILING]
    others = [row for row in rows if row not in failing]
    finished, completed = sum(row[3] for row in others), sum(row[4] for row in others)
    if finished < _MIN_TASKS or finished - completed >= finished * _WORKING:
        return
    for host, instance_id, hostname, ended, succeeded in failing:
        reason = connection.execute(
            f"SELECT reason FROM attempts WHERE host = ? AND outcome IN ({', '.join(map(str, _REASONS))}) "
            "GROUP BY reason ORDER BY count(*) DESC LIMIT 1",
            (host,),
        ).fetchone()
        text = f"{ended - succeeded:,} of {ended:,} tasks failed, elsewhere {completed:,} of {finished:,} completed"
        cause = f"; most frequent reason: {reason[0]}" if reason and reason[0] else ""
        yield BrokenWorker(name=instance_id or hostname, reason=f"{text}{cause}")


def _ended_by_an_error(connection: sqlite3.Connection) -> Iterator[BrokenWorker]:
    """Yield the workers that reported a fatal error."""
    if not read_counter(connection, f"event:{_FATAL}"):
        return
    rows = connection.execute(
        "SELECT h.instance_id, h.hostname, e.details FROM events AS e JOIN hosts AS h USING (host) WHERE e.type = ? "
        "ORDER BY e.id LIMIT ?",
        (_FATAL, _LIMIT),
    )
    for instance_id, hostname, details in rows:
        text = str(json.loads(details or "{}").get("exception") or "unknown error")
        yield BrokenWorker(name=instance_id or hostname, reason=f"its worker ended: {' '.join(text.split())[:300]}")
