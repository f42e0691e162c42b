"""The rows of the tasks, their attempts and the job itself: reading them, and the changes that no event makes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator
from typing import Any

from cloud_tasks.convert import EncodedData
from cloud_tasks.model import Task, TaskMessage, TaskStatus
from cloud_tasks.store.db.batch_insert import chunks
from cloud_tasks.store.db.enum_codes import FINAL_CODES, OUTCOME_OF_CODE, STATUS_OF_CODE, STATUS_TO_CODE
from cloud_tasks.store.db.times import from_unix, from_unix_or_none, to_unix
from cloud_tasks.store.records import AttemptRecord, JobRecord, JobState
from cloud_tasks.store.write.attempt_history import lose_runs
from cloud_tasks.store.write.counters import FINISHED_BEFORE, RUN_STARTED, CounterUpdates
from cloud_tasks.store.write.workers import Workers

__all__ = [
    "begin_run",
    "iterate_messages",
    "lose_instance",
    "mark_queued",
    "read_attempts",
    "read_job",
    "read_pending",
    "read_task",
    "reopen",
    "reset_for_requeue",
    "withdraw",
    "write_job",
]

_PENDING = STATUS_TO_CODE[TaskStatus.PENDING]
_QUEUED = STATUS_TO_CODE[TaskStatus.QUEUED]
_RUNNING = STATUS_TO_CODE[TaskStatus.RUNNING]
_FINAL_COUNTERS = tuple(f"status:{code}" for code in sorted(FINAL_CODES))
_TEXTS = ("job_id", "queue_name", "run_id", "provider", "queue", "compute", "pricing", "task_source", "tool_version")


def write_job(connection: sqlite3.Connection, job: JobRecord) -> None:
    """Write the one row of the job, in place of the one before."""
    values: dict[str, Any] = {name: getattr(job, name) for name in _TEXTS}
    values["only"] = 1
    values["created_at"] = to_unix(job.created_at)
    values["config"] = json.dumps(dict(job.config))
    values["state"] = job.state.value
    values["finished_at"] = None if job.finished_at is None else to_unix(job.finished_at)
    connection.execute(
        f"INSERT OR REPLACE INTO job ({', '.join(values)}) VALUES ({', '.join(f':{name}' for name in values)})", values
    )


def read_job(connection: sqlite3.Connection) -> JobRecord | None:
    """The job of this database; None before it was written."""
    cursor = connection.execute("SELECT * FROM job")
    row = cursor.fetchone()
    if row is None:
        return None
    values = dict(zip((column[0] for column in cursor.description), row, strict=True))
    return JobRecord(
        **{name: values[name] for name in _TEXTS},
        created_at=from_unix(values["created_at"]),
        config=json.loads(values["config"]),
        state=JobState(values["state"]),
        finished_at=from_unix_or_none(values["finished_at"]),
    )


def read_pending(connection: sqlite3.Connection, first: int, limit: int) -> tuple[list[TaskMessage], int]:
    """Up to ``limit`` pending tasks from row ``first`` on, and the row of the first one found, to go on from."""
    rows = connection.execute(
        "SELECT seq, task_id, data, attempt, losses FROM tasks WHERE seq >= ? AND status = ? ORDER BY seq LIMIT ?",
        (first, _PENDING, limit),
    ).fetchall()
    if not rows:
        (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM tasks").fetchone()
        return [], last + 1
    return [_message(*row[1:]) for row in rows], rows[0][0]


def _message(task_id: str, data: str, attempt: int, losses: int) -> TaskMessage:
    return TaskMessage(task_id=task_id, data=EncodedData(data), attempt=attempt, losses=losses)


def mark_queued(connection: sqlite3.Connection, task_ids: Collection[str]) -> int:
    """Pending tasks of these ids are in the queue now; returns how many there were."""
    changed = sum(
        connection.execute(
            f"UPDATE tasks SET status = ? WHERE status = ? AND task_id IN ({places})", (_QUEUED, _PENDING, *ids)
        ).rowcount
        for places, ids in chunks(task_ids)
    )
    _move(connection, {_PENDING: changed}, _QUEUED)
    return changed


def _move(connection: sqlite3.Connection, counts: dict[int, int], to: int) -> None:
    deltas = CounterUpdates(connection)
    for status, count in counts.items():
        if status != to:
            deltas.add(f"status:{status}", -count)
            deltas.add(f"status:{to}", count)
    deltas.write()


def _codes(statuses: Collection[TaskStatus]) -> str:
    return ", ".join(str(STATUS_TO_CODE[status]) for status in statuses)


def iterate_messages(connection: sqlite3.Connection, statuses: Collection[TaskStatus]) -> Iterator[TaskMessage]:
    """The tasks of these statuses, in the order of the input."""
    rows = connection.execute(
        f"SELECT task_id, data, attempt, losses FROM tasks WHERE status IN ({_codes(statuses)}) ORDER BY seq"
    )
    return (_message(*row) for row in rows)


def reset_for_requeue(connection: sqlite3.Connection) -> int:
    """Every task that is queued or running becomes pending; runs become losses. Returns how many are pending then."""
    (latest,) = connection.execute("SELECT coalesce(max(last_heard), 0) FROM hosts").fetchone()
    hosts = Workers(connection)
    keys = [key for (key,) in connection.execute("SELECT host FROM hosts WHERE running > 0").fetchall()]
    for key in keys:
        lose_runs(connection, hosts.by_key(key), latest, "its task was sent again")
    hosts.write()
    running = connection.execute(
        "UPDATE tasks SET status = ?, losses = losses + 1 WHERE status = ?", (_PENDING, _RUNNING)
    ).rowcount
    queued = connection.execute("UPDATE tasks SET status = ? WHERE status = ?", (_PENDING, _QUEUED)).rowcount
    _move(connection, {_RUNNING: running, _QUEUED: queued}, _PENDING)
    _add(connection, "losses", running)
    connection.execute("DELETE FROM counters WHERE name = 'withdrawn'")
    (pending,) = connection.execute(
        "SELECT value FROM counters WHERE name = ?", (f"status:{_PENDING}",)
    ).fetchone() or (0,)
    return int(pending)


def _add(connection: sqlite3.Connection, name: str, count: int) -> None:
    deltas = CounterUpdates(connection)
    deltas.add(name, count)
    deltas.write()


def withdraw(connection: sqlite3.Connection) -> int:
    """Every task that is queued becomes pending; it is kept in mind that the queue may hold nothing any more."""
    queued = connection.execute("UPDATE tasks SET status = ? WHERE status = ?", (_PENDING, _QUEUED)).rowcount
    _move(connection, {_QUEUED: queued}, _PENDING)
    connection.execute("INSERT OR REPLACE INTO counters (name, value) VALUES ('withdrawn', 1)")
    return queued


def begin_run(connection: sqlite3.Connection, at: float) -> None:
    """Record that a run begins at this Unix time, and how many tasks have ended already."""
    connection.execute(
        "INSERT OR REPLACE INTO counters (name, value) VALUES (?, ?), (?, (SELECT coalesce(sum(value), 0) "
        f"FROM counters WHERE name IN ({', '.join(repr(name) for name in _FINAL_COUNTERS)})))",
        (RUN_STARTED, at, FINISHED_BEFORE),
    )


def lose_instance(connection: sqlite3.Connection, instance_id: str) -> int:
    """What ran on this instance is lost; its tasks are queued again, unless they run elsewhere too."""
    hosts = Workers(connection)
    keys = connection.execute("SELECT host FROM hosts WHERE instance_id = ?", (instance_id,)).fetchall()
    count = 0
    for (key,) in keys:
        host = hosts.by_key(key)
        for task, attempt in lose_runs(connection, host, host.last_heard, "its instance ended"):
            count += connection.execute(
                "UPDATE tasks SET status = ?, losses = losses + 1 "
                "WHERE seq = ? AND attempt = ? AND status = ? AND NOT EXISTS "
                "(SELECT 1 FROM attempts AS a WHERE a.task = seq AND a.attempt = tasks.attempt AND a.outcome IS NULL)",
                (_QUEUED, task, attempt, _RUNNING),
            ).rowcount
    hosts.write()
    _move(connection, {_RUNNING: count}, _QUEUED)
    _add(connection, "losses", count)
    return count


def reopen(connection: sqlite3.Connection, statuses: Collection[TaskStatus]) -> int:
    """Finished tasks of these statuses become pending, with no loss held against them: one that died of its losses
    would die again on arrival.

    All get one attempt number, the next of the task that had most: what a pass allows is counted from there
    (`earlier_attempts`).
    """
    codes = ", ".join(str(STATUS_TO_CODE[status]) for status in set(statuses))
    (most,) = connection.execute(f"SELECT max(attempt) FROM tasks WHERE status IN ({codes})").fetchone()
    if most is None:
        return 0
    connection.execute("INSERT OR REPLACE INTO counters (name, value) VALUES ('earlier_attempts', ?)", (most,))
    total = 0
    for status in set(statuses):
        code = STATUS_TO_CODE[status]
        assert code in FINAL_CODES
        count = connection.execute(
            "UPDATE tasks SET status = ?, attempt = ?, losses = 0, elapsed = NULL, ended_at = NULL WHERE status = ?",
            (_PENDING, most + 1, code),
        ).rowcount
        _move(connection, {code: count}, _PENDING)
        total += count
    _add(connection, "retries", total)
    return total


def read_task(connection: sqlite3.Connection, task_id: str) -> tuple[Task, TaskStatus] | None:
    row = connection.execute("SELECT data, status FROM tasks WHERE task_id = ?", (task_id,)).fetchone()
    return None if row is None else (Task(task_id=task_id, data=json.loads(row[0])), STATUS_OF_CODE[row[1]])


def read_attempts(connection: sqlite3.Connection, task_id: str) -> tuple[AttemptRecord, ...]:
    rows = connection.execute(
        "SELECT a.attempt, a.outcome, a.started_at, a.ended_at, a.elapsed, h.hostname, h.instance_id, a.reason "
        "FROM tasks AS t JOIN attempts AS a ON a.task = t.seq JOIN hosts AS h ON h.host = a.host "
        "WHERE t.task_id = ? ORDER BY a.run",
        (task_id,),
    )
    return tuple(
        AttemptRecord(
            attempt=attempt,
            outcome=None if outcome is None else OUTCOME_OF_CODE[outcome],
            started_at=from_unix_or_none(started_at),
            ended_at=from_unix_or_none(ended_at),
            elapsed_time=elapsed,
            hostname=hostname,
            instance_id=instance_id or None,
            reason=reason or "",
        )
        for attempt, outcome, started_at, ended_at, elapsed, hostname, instance_id, reason in rows
    )
