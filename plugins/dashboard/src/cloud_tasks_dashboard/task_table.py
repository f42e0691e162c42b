"""Pages of the task table, and single tasks with their attempts.

Invariants, each with a test:

1. A request takes a bounded time for jobs of any size: without a suitable index the table is scanned in chunks until
   the page is full or `_TIME_LIMIT` is over, and the response has the position to continue from.
2. Consecutive pages show each matching task exactly once.
3. Responses are small: long texts are truncated, with a note.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.errors import InputError, NotFoundError
from cloud_tasks.model import AttemptOutcome, TaskStatus
from cloud_tasks.quantities import describe_result
from cloud_tasks.store import (
    EVENT_OF_CODE,
    OUTCOME_TO_CODE,
    STATUS_TO_CODE,
    decode_object,
    message_of,
    outcome_of,
    read_counters,
    same_group,
    status_of,
)
from cloud_tasks_dashboard.database import open_reader

__all__ = ["MAX_ROWS", "Page", "TaskFilter", "read_failure", "read_names", "read_page", "read_task", "truncate"]

MAX_ROWS = 200
_CHUNK = 20_000
_TIME_LIMIT = 0.7
"""Seconds of scanning per request."""
_MAX_TEXT = 20_000
"""Maximum length of a text in characters."""
_MAX_ATTEMPTS = 50

_FAILED = "failed_any"
"""Additional filter: every terminal status except completed."""
_FILTERS: dict[str, tuple[int, ...]] = {status.value: (code,) for status, code in STATUS_TO_CODE.items()}
_FILTERS[_FAILED] = tuple(
    STATUS_TO_CODE[status] for status in (TaskStatus.FAILED, TaskStatus.TIMED_OUT, TaskStatus.EXITED, TaskStatus.DEAD)
)

# Host and reason are those of a task's last run.
_ROWS = """
SELECT t.seq, t.task_id, t.status, t.attempt, t.losses, t.elapsed, t.ended_at, h.hostname, h.instance_id, a.reason
FROM tasks AS t
LEFT JOIN attempts AS a ON a.task = t.seq AND a.run = (SELECT max(l.run) FROM attempts AS l WHERE l.task = t.seq)
LEFT JOIN hosts AS h ON h.host = a.host
"""


@attrs.frozen(kw_only=True)
class TaskFilter:
    """Conditions on tasks; empty fields match all."""

    status: str = ""
    """A status, or ``failed_any``."""
    text: str = ""
    """Part of the task's id."""
    outcome: str = ""
    """Outcome of one of its failed or interrupted attempts."""
    reason: str = ""
    """Message of that attempt, compared as in `groups`. Requires ``outcome``."""

    def codes(self) -> tuple[int, ...]:
        """Return the codes of the statuses; empty for any. Raise `InputError` for an unknown status."""
        if not self.status:
            return ()
        if self.status not in _FILTERS:
            raise InputError(f'unknown status "{self.status}"', hint=f"use one of {', '.join(_FILTERS)}")
        return _FILTERS[self.status]


@attrs.frozen(kw_only=True)
class Page:
    """A page of the table."""

    rows: Sequence[dict[str, Any]]
    after: int | None
    """Position to continue from; None at the end."""
    scanned: int
    """Number of tasks scanned since the start of the table."""
    total: int


def read_page(path: Path, task_filter: TaskFilter, *, after: int = 0, rows: int = 50) -> Page:
    """Return a page of tasks in input order.

    Args:
        after: The ``after`` of the previous page; 0 for the first page.
        rows: Maximum number of rows.

    Raises:
        InputError: Unknown status or outcome.
    """
    rows = min(max(rows, 1), MAX_ROWS)
    codes = task_filter.codes()
    condition, values = _condition(task_filter, codes)
    with open_reader(path) as connection:
        if task_filter.outcome:
            connection.create_function("same_group", 1, _matcher(task_filter), deterministic=True)
        counters = read_counters(connection)
        total = int(counters.get("total", 0))
        (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM tasks").fetchone()
        if codes and not any(counters.get(f"status:{code}") for code in codes):
            return Page(rows=(), after=None, scanned=total, total=total)
        found: list[dict[str, Any]] = []
        until = time.monotonic() + _TIME_LIMIT
        while after < last and len(found) < rows and time.monotonic() < until:
            chunk = min(after + _CHUNK, last)
            query = f"{_ROWS}WHERE t.seq > ? AND t.seq <= ? {condition}ORDER BY t.seq LIMIT ?"
            got = connection.execute(query, (after, chunk, *values, rows - len(found))).fetchall()
            found += [_row(row) for row in got]
            after = got[-1][0] if len(found) == rows else chunk
    return Page(rows=found, after=after if after < last else None, scanned=min(after, total), total=total)


def _condition(task_filter: TaskFilter, codes: Sequence[int]) -> tuple[str, list[Any]]:
    condition = ""
    values: list[Any] = []
    if codes:
        condition += f"AND t.status IN ({', '.join(map(str, codes))}) "
    if task_filter.text:
        # SQLite's lower() converts ASCII letters only.
        condition += "AND (instr(lower(t.task_id), ?) OR instr(t.task_id, ?)) "
        values += [task_filter.text.lower(), task_filter.text]
    if task_filter.outcome:
        condition += (
            "AND EXISTS (SELECT 1 FROM attempts AS r WHERE r.task = t.seq AND r.outcome = ? AND same_group(r.reason)) "
        )
        values.append(OUTCOME_TO_CODE[_outcome(task_filter)])
    return condition, values


def _outcome(task_filter: TaskFilter) -> AttemptOutcome:
    try:
        return AttemptOutcome(task_filter.outcome)
    except ValueError:
        raise InputError(f'unknown outcome "{task_filter.outcome}"') from None


def _matcher(task_filter: TaskFilter) -> Callable[[str | None], bool]:
    outcome = _outcome(task_filter)
    return lambda reason: same_group(outcome, message_of(outcome, reason or ""), task_filter.reason)


def _row(row: tuple[Any, ...]) -> dict[str, Any]:
    _, task_id, status, attempt, losses, elapsed, ended_at, hostname, instance_id, reason = row
    return {
        "task_id": task_id,
        "status": status_of(status).value,
        "attempt": attempt,
        "losses": losses,
        "seconds": elapsed,
        "ended_at": ended_at,
        "host": hostname or instance_id or "",
        "reason": reason or "",
    }


def read_names(connection: sqlite3.Connection, tasks: Sequence[int]) -> dict[int, str]:
    """Return the ids of tasks by number."""
    query = "SELECT seq, task_id FROM tasks WHERE seq IN (SELECT value FROM json_each(?))"
    return dict(connection.execute(query, (json.dumps(sorted(set(tasks))),)).fetchall())


_ATTEMPTS = """
SELECT a.attempt, a.outcome, a.started_at, a.ended_at, a.elapsed, h.hostname, h.instance_id, a.reason, e.details
FROM attempts AS a JOIN hosts AS h ON h.host = a.host LEFT JOIN events AS e ON e.id = a.ended_by
WHERE a.task = ? ORDER BY a.run DESC LIMIT ?
"""


def read_task(path: Path, task_id: str) -> dict[str, Any]:
    """Return a task with its latest attempts, in chronological order.

    Raises:
        NotFoundError: The job has no such task.
    """
    with open_reader(path, snapshot=True) as connection:
        row = connection.execute("SELECT seq, status, data FROM tasks WHERE task_id = ?", (task_id,)).fetchone()
        if row is None:
            raise NotFoundError(f'the job has no task "{task_id}"')
        seq, status, data = row
        found = connection.execute(_ATTEMPTS, (seq, _MAX_ATTEMPTS + 1)).fetchall()
    return {
        "task_id": task_id,
        "status": status_of(status).value,
        "data": truncate(_format(decode_object(data))),
        "attempts": [_attempt(row) for row in reversed(found[:_MAX_ATTEMPTS])],
        "more_attempts": len(found) > _MAX_ATTEMPTS,
    }


def _attempt(row: tuple[Any, ...]) -> dict[str, Any]:
    attempt, outcome, started_at, ended_at, elapsed, hostname, instance_id, reason, details = row
    more = decode_object(details)
    return {
        "attempt": attempt,
        "outcome": (outcome_of(outcome) or TaskStatus.RUNNING).value,
        "started_at": started_at,
        "ended_at": ended_at,
        "seconds": elapsed,
        "host": hostname,
        "instance_id": instance_id,
        "reason": reason or "",
        "result": truncate(describe_result(more) or _format(more["result"])) if "result" in more else None,
        **_texts(more),
    }


def read_failure(path: Path, event: int) -> dict[str, Any]:
    """Return traceback and last output from the event of a failed attempt.

    Raises:
        NotFoundError: The event does not exist.
    """
    columns = "e.type, t.task_id, e.attempt, e.details"
    query = f"SELECT {columns} FROM events AS e JOIN tasks AS t ON t.seq = e.task WHERE e.id = ?"
    with open_reader(path) as connection:
        row = connection.execute(query, (event,)).fetchone()
    if row is None:
        raise NotFoundError("this failure no longer exists")
    kind, task_id, attempt, details = row
    more = decode_object(details)
    return {
        "event": EVENT_OF_CODE[kind].value if kind in EVENT_OF_CODE else "unknown",
        "task_id": task_id,
        "attempt": attempt,
        **_texts(more),
    }


def _texts(details: Mapping[str, Any]) -> dict[str, str]:
    trace, printed = (str(details.get(name) or "").strip() for name in ("stack_trace", "log_tail"))
    # The output ends with the traceback as well, which is shown once.
    return {"stack_trace": truncate(trace), "log_tail": truncate(printed.removesuffix(trace).rstrip(), end=True)}


def _format(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def truncate(text: str, *, end: bool = False) -> str:
    """Return the text, truncated to the maximum length with a note.

    Args:
        end: Keep the end instead of the start.
    """
    omitted = len(text) - _MAX_TEXT
    if omitted <= 0:
        return text
    note = f"({omitted:,} more characters omitted; `cloud-tasks logs` shows them)"
    return f"{note}\n…{text[-_MAX_TEXT:]}" if end else f"{text[:_MAX_TEXT]}…\n{note}"
