"""Groups of unsuccessful attempts by reason: the only grouping, for reports, statistics and the dashboard.

Attempts belong to one group if they ended alike and their reasons differ in nothing but numbers, words with digits,
paths, file names and quoted names. Exit codes, signals and the type of an exception always distinguish groups.

Invariants, each with a test:

1. There are at most `MAX_GROUPS` groups, even if every reason is different.
2. The groups do not depend on the order of the attempts, while there are fewer than `MAX_GROUPS`.
"""

from __future__ import annotations

import functools
import re
import sqlite3
from collections.abc import Sequence

import attrs

from cloud_tasks.model import AttemptOutcome
from cloud_tasks.store.db.enum_codes import OUTCOME_TO_CODE, outcome_of
from cloud_tasks.store.db.reading import decode_object
from cloud_tasks.store.records import Failure

__all__ = ["MAX_GROUPS", "FailureGroup", "FailureGroups", "message_of", "read_failures", "same_group"]

MAX_GROUPS = 500
_MAX_SPECIFIC_GROUPS = 400
"""Number of groups by message; further failures are grouped by type, and finally by outcome only."""

# Distinguishes two groups, whatever follows: an exit code, a signal, the type of an exception.
_KIND = re.compile(r"(?:exit code -?\d+|signal \w+|[A-Za-z_][\w.]*(?=: ))")
_VARIABLE = re.compile(
    r"""(?<!\w)'[^'\n]*'(?!\w) | "[^"\n]*" | `[^`\n]*`  # quoted names
    | [^\s'"`:;,()=<>\[\]{}]*[/\\][^\s'"`:;,()=<>\[\]{}]*  # paths
    | [\w-]+(?:\.[\w-]+)*\.[A-Za-z]\w{0,4}(?![\w.])  # file names
    | [-+]?(?:[\w.-]*\d[\w.%-]*)  # numbers, and words with digits
    """,
    re.VERBOSE,
)

_DEFAULT_MESSAGES = {
    AttemptOutcome.TIMED_OUT: "timed out",
    AttemptOutcome.EXITED: "process exited",
    AttemptOutcome.LOST: "interrupted with its worker",
    AttemptOutcome.EXCEPTION: "unknown exception",
    AttemptOutcome.RETRY_REQUESTED: "requested a retry",
}


def message_of(outcome: AttemptOutcome, reason: str) -> str:
    """Return the message of a failed attempt, or a default for its outcome."""
    return reason or _DEFAULT_MESSAGES.get(outcome, outcome.value)


def same_group(outcome: AttemptOutcome, one: str, other: str) -> bool:
    """Return whether two failed attempts with this outcome and these messages belong to one group."""
    return _pattern(one) == _pattern(other)


@functools.lru_cache(maxsize=4096)
def _pattern(summary: str) -> str:
    """Return the message without the parts that differ between attempts that failed alike."""
    kind = _KIND.match(summary)
    start = 0 if kind is None else kind.end()
    return summary[:start] + _VARIABLE.sub("#", summary[start:])


@attrs.define(kw_only=True)
class FailureGroup:
    """Failed attempts with the same outcome and message pattern."""

    number: int
    """Index of the group in order of creation; constant."""
    outcome: AttemptOutcome
    summary: str
    """Message of the latest attempt."""
    count: int = 0
    identical: bool = True
    """Whether all messages are equal."""
    first_at: float
    last_at: float
    """Unix seconds."""
    event: int
    """Number of the end event of the latest attempt; 0 without one."""
    task: int
    """Number of the task of the latest attempt."""


class FailureGroups:
    """All failures of a job, grouped."""

    def __init__(self) -> None:
        self._groups: dict[tuple[AttemptOutcome, str], FailureGroup] = {}

    def add(self, outcome: AttemptOutcome, reason: str, *, at: float, event: int, task: int) -> None:
        """Add a failed or interrupted attempt."""
        summary = message_of(outcome, reason)
        group = self._find(outcome, summary)
        if group is None:
            group = self._groups[self._new_key(outcome, summary)] = FailureGroup(
                number=len(self._groups),
                outcome=outcome,
                summary=summary,
                first_at=at,
                last_at=at,
                event=event,
                task=task,
            )
        group.count += 1
        group.identical = group.identical and group.summary == summary
        group.first_at = min(group.first_at, at)
        if at >= group.last_at:
            group.summary, group.last_at, group.event, group.task = summary, at, event, task

    def _find(self, outcome: AttemptOutcome, summary: str) -> FailureGroup | None:
        found = self._groups.get((outcome, _pattern(summary)))
        return found or self._groups.get(self._new_key(outcome, summary))

    def _new_key(self, outcome: AttemptOutcome, summary: str) -> tuple[AttemptOutcome, str]:
        """Return the key of a new group."""
        if len(self._groups) < _MAX_SPECIFIC_GROUPS:
            return (outcome, _pattern(summary))
        kind = (outcome, f"{summary.partition(':')[0]}: …")
        few = len(self._groups) < MAX_GROUPS - len(AttemptOutcome)
        return kind if few or kind in self._groups else (outcome, "…")

    def top(self, limit: int) -> Sequence[FailureGroup]:
        """Return the most frequent groups, interruptions last, since they are not failures of a task."""
        order = sorted(
            self._groups.values(),
            key=lambda group: (group.outcome is AttemptOutcome.LOST, -group.count, group.summary),
        )
        return order[:limit]

    def __len__(self) -> int:
        return len(self._groups)


_UNSUCCESSFUL = (
    "SELECT outcome, coalesce(reason, ''), coalesce(ended_at, 0), coalesce(ended_by, 0), task FROM attempts "
    f"WHERE outcome != {OUTCOME_TO_CODE[AttemptOutcome.COMPLETED]}"
)


def read_failures(connection: sqlite3.Connection, *, limit: int) -> tuple[tuple[Failure, ...], int]:
    """Return the most frequent groups, and the number of all groups. Scans the attempts."""
    groups = FailureGroups()
    for outcome, reason, ended_at, event, task in connection.execute(_UNSUCCESSFUL):
        groups.add(outcome_of(outcome) or AttemptOutcome.LOST, reason, at=ended_at, event=event, task=task)
    return tuple(_failure(connection, group) for group in groups.top(limit)), len(groups)


def _failure(connection: sqlite3.Connection, group: FailureGroup) -> Failure:
    (task_id,) = connection.execute("SELECT task_id FROM tasks WHERE seq = ?", (group.task,)).fetchone()
    (details,) = connection.execute("SELECT details FROM events WHERE id = ?", (group.event,)).fetchone() or (None,)
    fields = decode_object(details)
    return Failure(
        outcome=group.outcome,
        summary=group.summary,
        count=group.count,
        identical=group.identical,
        task_id=task_id,
        stack_trace=str(fields.get("stack_trace") or ""),
        log_tail=str(fields.get("log_tail") or ""),
    )
