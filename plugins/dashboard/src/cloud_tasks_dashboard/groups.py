"""Groups of failed attempts with the same outcome and the same message, ignoring numbers in the message.

Invariant, with a test: there are at most `MAX_GROUPS` groups, even if every failure has a different message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

from cloud_tasks.model import AttemptOutcome

__all__ = ["MAX_GROUPS", "FailureGroup", "FailureGroups", "message_of", "same_group"]

MAX_GROUPS = 500
_MAX_SPECIFIC_GROUPS = 400
"""Number of groups by message; further failures are grouped by type, and finally by outcome only."""

_VARIABLE = re.compile(r"0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?")

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
    return _pattern(outcome, one) == _pattern(outcome, other)


def _pattern(outcome: AttemptOutcome, summary: str) -> str:
    """Return the message without numbers. Exit codes and signals are kept, since they distinguish groups."""
    return summary if outcome is AttemptOutcome.EXITED else _VARIABLE.sub("#", summary)


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
    """Number of the event of the latest attempt."""
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
        found = self._groups.get((outcome, _pattern(outcome, summary)))
        return found or self._groups.get(self._new_key(outcome, summary))

    def _new_key(self, outcome: AttemptOutcome, summary: str) -> tuple[AttemptOutcome, str]:
        """Return the key of a new group."""
        if len(self._groups) < _MAX_SPECIFIC_GROUPS:
            return (outcome, _pattern(outcome, summary))
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
