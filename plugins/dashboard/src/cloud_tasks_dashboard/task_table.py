"""A page of the table of tasks, and one task with its attempts.

Invariants, each with a test:

1. A request takes a bounded time, whatever the size of the job: what can be found through an index is; anything else is
   looked for piece by piece until the page is full or `_BUDGET` is spent, and the answer says where to go on.
2. Going on from page to page shows each task that matches exactly once.
3. An answer is small, whatever the tasks hold: long texts are cut, and the cut is said.
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
from cloud_tasks.store import (
    EVENT_OF_CODE,
    OUTCOME_OF_CODE,
    OUTCOME_TO_CODE,
    STATUS_OF_CODE,
    STATUS_TO_CODE,
    read_counters,
)
from cloud_tasks_dashboard.groups import are_alike, words_of
from cloud_tasks_dashboard.reading import reading

__all__ = ["MOST_ROWS", "Page", "TaskFilter", "cut", "read_failure", "read_names", "read_page", "read_task"]

MOST_ROWS = 200
_PIECE = 20_000
_BUDGET = 0.7
_LONGEST = 20_000
"""Characters of a text."""
_MOST_ATTEMPTS = 50

_FAILED = "failed_any"
"""A filter besides the statuses: every way of ending but completion."""
_FILTERS: dict[str, tuple[int, ...]] = {status.value: (code,) for status, code in STATUS_TO_CODE.items()}
_FILTERS[_FAILED] = tuple(
    STATUS_TO_CODE[status] for status in (TaskStatus.FAILED, TaskStatus.TIMED_OUT, TaskStatus.EXITED, TaskStatus.DEAD)
)

# The last run of a task says where it was and why it ended.
_ROWS = """
SELECT t.seq, t.task_id, t.status, t.attempt, t.losses, t.elapsed, t.ended_at, h.hostname, h.instance_id, a.reason
FROM tasks AS t
LEFT JOIN attempts AS a ON a.task = t.seq AND a.run = (SELECT max(l.run) FROM attempts AS l WHERE l.task = t.seq)
LEFT JOIN hosts AS h ON h.host = a.host
"""


@attrs.frozen(kw_only=True)
class TaskFilter:
    """Which tasks are wanted; what is empty does not matter."""

    status: str = ""
    """A status, or ``failed_any``."""
    text: str = ""
    """Part of the task's id."""
    outcome: str = ""
    """How one of its attempts ended, not completing it."""
    reason: str = ""
    """The words of that end; those that are alike will do (`groups`). Only together with ``outcome``."""

    def codes(self) -> tuple[int, ...]:
        """The numbers of the statuses; none: any. Raises `InputError` for a status that does not exist."""
        if not self.status:
            return ()
        if self.status not in _FILTERS:
            raise InputError(f'there is no status "{self.status}"', hint=f"there are {', '.join(_FILTERS)}")
        return _FILTERS[self.status]


@attrs.frozen(kw_only=True)
class Page:
    """A piece of the table."""

    rows: Sequence[dict[str, Any]]
    after: int | None
    """Where to go on; None: this was the end."""
    looked_at: int
    """How far the search came, as a number of tasks from the beginning of the table."""
    total: int


def read_page(path: Path, wanted: TaskFilter, *, after: int = 0, rows: int = 50) -> Page:
    """Tasks in the order of the input.

    Args:
        after: The ``after`` of the page before; 0: from the beginning.
        rows: How many at most.

    Raises:
        InputError: The filter names what does not exist.
    """
    rows = min(max(rows, 1), MOST_ROWS)
    codes = wanted.codes()
    condition, values = _condition(wanted, codes)
    with reading(path) as connection:
        if wanted.outcome:
            connection.create_function("alike", 1, _like(wanted), deterministic=True)
        counters = read_counters(connection)
        total = int(counters.get("total", 0))
        (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM tasks").fetchone()
        if codes and not any(counters.get(f"status:{code}") for code in codes):
            return Page(rows=(), after=None, looked_at=total, total=total)
        found: list[dict[str, Any]] = []
        until = time.monotonic() + _BUDGET
        while after < last and len(found) < rows and time.monotonic() < until:
            piece = min(after + _PIECE, last)
            query = f"{_ROWS}WHERE t.seq > ? AND t.seq <= ? {condition}ORDER BY t.seq LIMIT ?"
            got = connection.execute(query, (after, piece, *values, rows - len(found))).fetchall()
            found += [_row(row) for row in got]
            after = got[-1][0] if len(found) == rows else piece
    return Page(rows=found, after=after if after < last else None, looked_at=min(after, total), total=total)


def _condition(wanted: TaskFilter, codes: Sequence[int]) -> tuple[str, list[Any]]:
    condition = ""
    values: list[Any] = []
    if codes:
        condition += f"AND t.status IN ({', '.join(map(str, codes))}) "
    if wanted.text:
        # SQLite's lower() knows the letters of ASCII only.
        condition += "AND (instr(lower(t.task_id), ?) OR instr(t.task_id, ?)) "
        values += [wanted.text.lower(), wanted.text]
    if wanted.outcome:
        condition += (
            "AND EXISTS (SELECT 1 FROM attempts AS r WHERE r.task = t.seq AND r.outcome = ? AND alike(r.reason)) "
        )
        values.append(OUTCOME_TO_CODE[_outcome(wanted)])
    return condition, values


def _outcome(wanted: TaskFilter) -> AttemptOutcome:
    try:
        return AttemptOutcome(wanted.outcome)
    except ValueError:
        raise InputError(f'attempts do not end "{wanted.outcome}"') from None


def _like(wanted: TaskFilter) -> Callable[[str | None], bool]:
    outcome = _outcome(wanted)
    return lambda reason: are_alike(outcome, words_of(outcome, reason or ""), wanted.reason)


def _row(row: tuple[Any, ...]) -> dict[str, Any]:
    _, task_id, status, attempt, losses, elapsed, ended_at, hostname, instance_id, reason = row
    return {
        "task_id": task_id,
        "status": STATUS_OF_CODE[status].value,
        "attempt": attempt,
        "losses": losses,
        "seconds": elapsed,
        "ended_at": ended_at,
        "host": hostname or instance_id or "",
        "reason": reason or "",
    }


def read_names(connection: sqlite3.Connection, tasks: Sequence[int]) -> dict[int, str]:
    """The ids of tasks by their numbers."""
    query = "SELECT seq, task_id FROM tasks WHERE seq IN (SELECT value FROM json_each(?))"
    return dict(connection.execute(query, (json.dumps(sorted(set(tasks))),)).fetchall())


_ATTEMPTS = """
SELECT a.attempt, a.outcome, a.started_at, a.ended_at, a.elapsed, h.hostname, h.instance_id, a.reason, e.details
FROM attempts AS a JOIN hosts AS h ON h.host = a.host LEFT JOIN events AS e ON e.id = a.ended_by
WHERE a.task = ? ORDER BY a.run DESC LIMIT ?
"""


def read_task(path: Path, task_id: str) -> dict[str, Any]:
    """One task with its latest attempts, the oldest of them first.

    Raises:
        NotFoundError: The job has no such task.
    """
    with reading(path, snapshot=True) as connection:
        row = connection.execute("SELECT seq, status, data FROM tasks WHERE task_id = ?", (task_id,)).fetchone()
        if row is None:
            raise NotFoundError(f'the job has no task "{task_id}"')
        seq, status, data = row
        found = connection.execute(_ATTEMPTS, (seq, _MOST_ATTEMPTS + 1)).fetchall()
    return {
        "task_id": task_id,
        "status": STATUS_OF_CODE[status].value,
        "data": cut(_pretty(json.loads(data))),
        "attempts": [_attempt(row) for row in reversed(found[:_MOST_ATTEMPTS])],
        "more_attempts": len(found) > _MOST_ATTEMPTS,
    }


def _attempt(row: tuple[Any, ...]) -> dict[str, Any]:
    attempt, outcome, started_at, ended_at, elapsed, hostname, instance_id, reason, details = row
    more: Mapping[str, Any] = json.loads(details) if details else {}
    return {
        "attempt": attempt,
        "outcome": TaskStatus.RUNNING.value if outcome is None else OUTCOME_OF_CODE[outcome].value,
        "started_at": started_at,
        "ended_at": ended_at,
        "seconds": elapsed,
        "host": hostname,
        "instance_id": instance_id,
        "reason": reason or "",
        "result": cut(_pretty(more["result"])) if "result" in more else None,
        **_texts(more),
    }


def read_failure(path: Path, event: int) -> dict[str, Any]:
    """What an event that ended an attempt told: its traceback, and what was printed last.

    Raises:
        NotFoundError: There is no such event.
    """
    columns = "e.type, t.task_id, e.attempt, e.details"
    query = f"SELECT {columns} FROM events AS e JOIN tasks AS t ON t.seq = e.task WHERE e.id = ?"
    with reading(path) as connection:
        row = connection.execute(query, (event,)).fetchone()
    if row is None:
        raise NotFoundError("there is no such failure any more")
    kind, task_id, attempt, details = row
    more = json.loads(details) if details else {}
    return {"event": EVENT_OF_CODE[kind].value, "task_id": task_id, "attempt": attempt, **_texts(more)}


def _texts(details: Mapping[str, Any]) -> dict[str, str]:
    trace, printed = (str(details.get(name) or "").strip() for name in ("stack_trace", "log_tail"))
    # A worker prints the traceback too; once is enough.
    return {"stack_trace": cut(trace), "log_tail": cut(printed.removesuffix(trace).rstrip(), end=True)}


def _pretty(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def cut(text: str, *, end: bool = False) -> str:
    """A text that is not too long to show.

    Args:
        end: Whether the end of it matters most.
    """
    left_out = len(text) - _LONGEST
    if left_out <= 0:
        return text
    note = f"({left_out:,} more characters are not shown; `cloud-tasks logs` shows them)"
    return f"{note}\n…{text[-_LONGEST:]}" if end else f"{text[:_LONGEST]}…\n{note}"
