"""The rows of the job and its tasks: reading them, and the changes that no event makes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from cloud_tasks.convert import EncodedData
from cloud_tasks.model import MAX_ATTEMPT, AttemptOutcome, Task, TaskMessage, TaskStatus
from cloud_tasks.sanitize import finite_seconds
from cloud_tasks.store.db.batch_insert import chunks
from cloud_tasks.store.db.enum_codes import (
    FINAL_CODES,
    OUTCOME_TO_CODE,
    STATUS_TO_CODE,
    outcome_of,
    status_of,
)
from cloud_tasks.store.db.reading import decode_object, whole
from cloud_tasks.store.db.times import from_unix, from_unix_or_none, to_unix
from cloud_tasks.store.records import AttemptRecord, JobRecord, JobState
from cloud_tasks.store.write.counters import (
    CLOCK_OFFSET,
    EARLIER_RUN,
    FINISHED_BEFORE,
    RECENT_ENDS,
    RUN_ALIVE,
    RUN_ENDED,
    RUN_STARTED,
    add_to_counters,
    read_counter,
    read_counters,
    recount,
)

__all__ = [
    "attempt_record",
    "begin_run",
    "iterate_messages",
    "lose_instance",
    "mark_queued",
    "read_attempts",
    "read_clock",
    "read_earlier_runs",
    "read_job",
    "read_pending",
    "read_task",
    "record_alive",
    "reopen",
    "reopen_failed",
    "reset_for_requeue",
    "withdraw",
    "write_clock",
    "write_earlier_runs",
    "write_job",
]

_PENDING = STATUS_TO_CODE[TaskStatus.PENDING]
_QUEUED = STATUS_TO_CODE[TaskStatus.QUEUED]
_RUNNING = STATUS_TO_CODE[TaskStatus.RUNNING]
_FAILED = (TaskStatus.FAILED, TaskStatus.TIMED_OUT, TaskStatus.EXITED)
_LOST = OUTCOME_TO_CODE[AttemptOutcome.LOST]
_FINAL_COUNTERS = tuple(f"status:{code}" for code in sorted(FINAL_CODES))
_TEXTS = ("job_id", "queue_name", "run_id", "provider", "queue", "compute", "pricing", "task_source", "tool_version")
_EVENT_QUEUE = "event_queue_name"


def write_job(connection: sqlite3.Connection, job: JobRecord) -> None:
    """Insert or overwrite the row of the job; there is one."""
    values: dict[str, Any] = {name: getattr(job, name) for name in _TEXTS}
    values["only"] = 1
    values["created_at"] = to_unix(job.created_at)
    values["config"] = json.dumps(dict(job.config))
    values["place"] = json.dumps(dict(job.place))
    values[_EVENT_QUEUE] = job.event_queue_name
    values["former_queues"] = json.dumps(job.former_queues)
    values["state"] = job.state.value
    values["finished_at"] = None if job.finished_at is None else to_unix(job.finished_at)
    connection.execute(
        f"INSERT OR REPLACE INTO job ({', '.join(values)}) VALUES ({', '.join(f':{name}' for name in values)})", values
    )


def read_job(connection: sqlite3.Connection) -> JobRecord | None:
    """Return the job of this database; None if it has not been written yet."""
    cursor = connection.execute("SELECT * FROM job")
    row = cursor.fetchone()
    if row is None:
        return None
    values = dict(zip((column[0] for column in cursor.description), row, strict=True))
    texts = {name: str(values[name]) for name in _TEXTS}
    if values.get(_EVENT_QUEUE):
        texts[_EVENT_QUEUE] = str(values[_EVENT_QUEUE])
    return JobRecord(
        **texts,
        former_queues=_decode_names(values.get("former_queues")),
        created_at=from_unix(values["created_at"]),
        config=decode_object(values["config"]),
        place={key: str(value) for key, value in decode_object(values.get("place") or "{}").items()},
        state=next((state for state in JobState if state.value == values["state"]), JobState.RUNNING),
        finished_at=from_unix_or_none(values["finished_at"]),
    )


def _decode_names(text: Any) -> tuple[str, ...]:
    """Return a list of names; empty if the value is not a JSON list."""
    try:
        names = json.loads(text or "[]")
    except (TypeError, ValueError):
        return ()
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()


def read_pending(connection: sqlite3.Connection, first: int, limit: int) -> tuple[list[TaskMessage], int]:
    """Return up to ``limit`` pending tasks from row ``first`` on, and the row to continue from."""
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
    """Change pending tasks of these ids to queued; return how many there were."""
    changed = sum(
        connection.execute(
            f"UPDATE tasks SET status = ? WHERE status = ? AND task_id IN ({places})", (_QUEUED, _PENDING, *ids)
        ).rowcount
        for places, ids in chunks(task_ids)
    )
    _count_moves(connection, {_PENDING: changed}, _QUEUED)
    return changed


def _count_moves(connection: sqlite3.Connection, moved: dict[int, int], to: int) -> None:
    """Move so many tasks from each of these status counters to another."""
    amounts = {f"status:{status}": -count for status, count in moved.items()}
    add_to_counters(connection, {**amounts, f"status:{to}": sum(moved.values())})


def _codes(statuses: Collection[TaskStatus]) -> str:
    return ", ".join(str(STATUS_TO_CODE[status]) for status in statuses)


def iterate_messages(connection: sqlite3.Connection, statuses: Collection[TaskStatus]) -> Iterator[TaskMessage]:
    """Yield the tasks of these statuses as messages, in input order."""
    rows = connection.execute(
        f"SELECT task_id, data, attempt, losses FROM tasks WHERE status IN ({_codes(statuses)}) ORDER BY seq"
    )
    return (_message(*row) for row in rows)


def reset_for_requeue(connection: sqlite3.Connection) -> int:
    """Change every queued or running task to pending; running attempts end as interrupted. Return the pending tasks.

    The tasks are counted again: another program may have deleted some, for which a run would wait without end.
    """
    (latest,) = connection.execute("SELECT coalesce(max(last_heard), 0) FROM hosts").fetchone()
    connection.execute(
        "UPDATE attempts SET outcome = ?, ended_at = ?, reason = ? WHERE outcome IS NULL",
        (_LOST, latest, "task requeued"),
    )
    connection.execute("UPDATE hosts SET running = 0 WHERE running != 0")
    running = connection.execute(
        "UPDATE tasks SET status = ?, losses = losses + 1 WHERE status = ?", (_PENDING, _RUNNING)
    ).rowcount
    connection.execute("UPDATE tasks SET status = ? WHERE status = ?", (_PENDING, _QUEUED))
    recount(connection)
    add_to_counters(connection, {"losses": running})
    connection.execute("DELETE FROM counters WHERE name = 'withdrawn'")
    return int(read_counter(connection, f"status:{_PENDING}"))


def withdraw(connection: sqlite3.Connection) -> int:
    """Change every queued task to pending; record that messages of running tasks may be missing. Return how many."""
    queued = connection.execute("UPDATE tasks SET status = ? WHERE status = ?", (_PENDING, _QUEUED)).rowcount
    _count_moves(connection, {_QUEUED: queued}, _PENDING)
    connection.execute("INSERT OR REPLACE INTO counters (name, value) VALUES ('withdrawn', 1)")
    return queued


def begin_run(connection: sqlite3.Connection, at: float) -> None:
    """Record that a run starts at this Unix time, and how many tasks have finished before."""
    connection.execute(
        "INSERT OR REPLACE INTO counters (name, value) VALUES (?, ?), (?, (SELECT coalesce(sum(value), 0) "
        f"FROM counters WHERE name IN ({', '.join(repr(name) for name in _FINAL_COUNTERS)})))",
        (RUN_STARTED, at, FINISHED_BEFORE),
    )
    # Intervals of an earlier run say nothing about this one.
    connection.execute(
        "DELETE FROM counters WHERE name = ? OR (name > ? AND name < ?)", (RUN_ENDED, RECENT_ENDS, f"{RECENT_ENDS}a")
    )
    record_alive(connection, at)


def record_alive(connection: sqlite3.Connection, at: float, *, is_end: bool = False) -> None:
    """Record that a controller was at work at this Unix time, or with ``is_end`` that its run ended then."""
    names = (RUN_ALIVE, RUN_ENDED) if is_end else (RUN_ALIVE,)
    connection.executemany(
        "INSERT OR REPLACE INTO counters (name, value) VALUES (?, ?)", [(name, at) for name in names]
    )


def write_clock(connection: sqlite3.Connection, boot: str, offset: float, at: float) -> None:
    """Record the offset of the job's clock on a boot of the machine, in place of others, and the time that it shows."""
    record_alive(connection, at)
    connection.execute("DELETE FROM counters WHERE name >= ? AND name < ?", (CLOCK_OFFSET, f"{CLOCK_OFFSET}\x7f"))
    connection.execute("INSERT INTO counters (name, value) VALUES (?, ?)", (f"{CLOCK_OFFSET}{boot}", offset))


def read_clock(connection: sqlite3.Connection, boot: str) -> tuple[float | None, float | None]:
    """Return the recorded offset on this boot, and the Unix time at which a controller was last at work."""
    known = read_counters(connection)
    return known.get(f"{CLOCK_OFFSET}{boot}") if boot else None, known.get(RUN_ALIVE)


def write_earlier_runs(connection: sqlite3.Connection, run_ids: Iterable[str]) -> None:
    """Record the runs whose database this one replaces."""
    connection.executemany(
        "INSERT OR REPLACE INTO counters (name, value) VALUES (?, 1)",
        [(f"{EARLIER_RUN}{run_id}",) for run_id in run_ids],
    )


def read_earlier_runs(connection: sqlite3.Connection) -> frozenset[str]:
    """Return the runs whose database this one replaced."""
    rows = connection.execute(
        "SELECT name FROM counters WHERE name > ? AND name < ?", (EARLIER_RUN, f"{EARLIER_RUN}\x7f")
    )
    return frozenset(str(name).removeprefix(EARLIER_RUN) for (name,) in rows)


def lose_instance(connection: sqlite3.Connection, instance_id: str) -> int:
    """End the running attempts of an instance as interrupted; queue their tasks again unless they run elsewhere too.

    Return how many tasks are queued again.
    """
    workers = connection.execute("SELECT host, last_heard FROM hosts WHERE instance_id = ?", (instance_id,)).fetchall()
    count = 0
    for key, last_heartbeat in workers:
        lost = connection.execute(
            "SELECT task, attempt FROM attempts WHERE host = ? AND outcome IS NULL", (key,)
        ).fetchall()
        connection.execute(
            "UPDATE attempts SET outcome = ?, ended_at = ?, reason = ? WHERE host = ? AND outcome IS NULL",
            (_LOST, last_heartbeat, "instance terminated", key),
        )
        connection.execute("UPDATE hosts SET running = running - ? WHERE host = ?", (len(lost), key))
        for task, attempt in lost:
            count += connection.execute(
                "UPDATE tasks SET status = ?, losses = losses + 1 "
                "WHERE seq = ? AND attempt = ? AND status = ? AND NOT EXISTS "
                "(SELECT 1 FROM attempts AS a WHERE a.task = seq AND a.attempt = tasks.attempt AND a.outcome IS NULL)",
                (_QUEUED, task, attempt, _RUNNING),
            ).rowcount
    _count_moves(connection, {_RUNNING: count}, _QUEUED)
    add_to_counters(connection, {"losses": count})
    return count


def reopen(connection: sqlite3.Connection, statuses: Collection[TaskStatus]) -> int:
    """Change finished tasks of these statuses to pending, with no interruptions counted. Return how many.

    All of them get one attempt number, the highest of them plus one; `earlier_attempts` records where the attempts of
    the new pass count from. Interruptions start from zero: a task that died of them would die again at once.
    """
    codes = {STATUS_TO_CODE[status] for status in statuses}
    assert codes <= FINAL_CODES
    (highest,) = connection.execute(f"SELECT max(attempt) FROM tasks WHERE status IN ({_codes(statuses)})").fetchone()
    if highest is None:
        return 0
    connection.execute("INSERT OR REPLACE INTO counters (name, value) VALUES ('earlier_attempts', ?)", (highest,))
    reopened = {
        code: connection.execute(
            "UPDATE tasks SET status = ?, attempt = ?, losses = 0, elapsed = NULL, ended_at = NULL WHERE status = ?",
            (_PENDING, min(highest + 1, MAX_ATTEMPT), code),
        ).rowcount
        for code in codes
    }
    total = sum(reopened.values())
    _count_moves(connection, reopened, _PENDING)
    add_to_counters(connection, {"retries": total})
    return total


def reopen_failed(connection: sqlite3.Connection, instance_id: str) -> int:
    """Change tasks that failed in this run on this instance, and on no other, to pending. Return how many."""
    failed = ", ".join(str(STATUS_TO_CODE[status]) for status in _FAILED)
    rows = connection.execute(
        f"SELECT t.seq, t.status FROM tasks AS t WHERE t.status IN ({failed}) AND t.ended_at >= ?2 "
        "AND EXISTS (SELECT 1 FROM attempts AS a JOIN hosts AS h USING (host) WHERE a.task = t.seq "
        "AND h.instance_id = ?1 AND a.outcome != ?3) "
        "AND NOT EXISTS (SELECT 1 FROM attempts AS a JOIN hosts AS h USING (host) WHERE a.task = t.seq "
        "AND h.instance_id != ?1 AND a.outcome != ?3)",
        (instance_id, read_counter(connection, RUN_STARTED, 0.0), _LOST),
    ).fetchall()
    connection.executemany(
        "UPDATE tasks SET status = ?, attempt = attempt + 1, elapsed = NULL, ended_at = NULL WHERE seq = ?",
        [(_PENDING, seq) for seq, _ in rows],
    )
    moved: dict[int, int] = {}
    for _, status in rows:
        moved[status] = moved.get(status, 0) + 1
    _count_moves(connection, moved, _PENDING)
    add_to_counters(connection, {"retries": len(rows)})
    return len(rows)


def read_task(connection: sqlite3.Connection, task_id: str) -> tuple[Task, TaskStatus] | None:
    """Return a task and its status; None if the job has no such task."""
    row = connection.execute("SELECT data, status FROM tasks WHERE task_id = ?", (task_id,)).fetchone()
    return None if row is None else (Task(task_id=task_id, data=decode_object(row[0])), status_of(row[1]))


def read_attempts(connection: sqlite3.Connection, task_id: str) -> tuple[AttemptRecord, ...]:
    """Return the attempts of a task, the oldest first; none for an unknown task."""
    rows = connection.execute(
        "SELECT a.attempt, a.outcome, a.started_at, a.ended_at, a.elapsed, h.hostname, h.instance_id, a.reason "
        "FROM tasks AS t JOIN attempts AS a ON a.task = t.seq JOIN hosts AS h ON h.host = a.host "
        "WHERE t.task_id = ? ORDER BY a.run",
        (task_id,),
    )
    return tuple(map(attempt_record, rows))


def attempt_record(columns: Sequence[Any]) -> AttemptRecord:
    """Return an attempt, given its columns in the order of `read_attempts`."""
    attempt, outcome, started_at, ended_at, elapsed, hostname, instance_id, reason = columns
    return AttemptRecord(
        attempt=whole(attempt),
        outcome=outcome_of(outcome),
        started_at=from_unix_or_none(started_at),
        ended_at=from_unix_or_none(ended_at),
        elapsed_time=finite_seconds(elapsed),
        hostname=hostname,
        instance_id=instance_id or None,
        reason=reason or "",
    )
