"""Failures that are alike, together: the same kind of end and the same words, whatever the numbers in them.

Invariant, with a test: a job in which every failure has words of its own costs no more than `MOST_GROUPS` groups.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

from cloud_tasks.model import AttemptOutcome

__all__ = ["MOST_GROUPS", "FailureGroup", "FailureGroups", "are_alike", "words_of"]

MOST_GROUPS = 500
_WITH_OWN_WORDS = 400
"""Past these, what is new is told apart by its type alone; past all but a few, by how it ended alone."""

_VARIABLE = re.compile(r"0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?")

_PLAIN_WORDS = {
    AttemptOutcome.TIMED_OUT: "ran out of time",
    AttemptOutcome.EXITED: "its process ended",
    AttemptOutcome.LOST: "lost with its worker",
    AttemptOutcome.EXCEPTION: "unknown exception",
    AttemptOutcome.RETRY_REQUESTED: "asked to be run again",
}


def words_of(outcome: AttemptOutcome, reason: str) -> str:
    """What is said of an attempt that ended so."""
    return reason or _PLAIN_WORDS.get(outcome, outcome.value)


def are_alike(outcome: AttemptOutcome, one: str, other: str) -> bool:
    """Whether two attempts that ended so, with these words, are of one group."""
    return _pattern(outcome, one) == _pattern(outcome, other)


def _pattern(outcome: AttemptOutcome, summary: str) -> str:
    """What failures that are alike have in common. Exit codes and signals tell them apart, other numbers do not."""
    return summary if outcome is AttemptOutcome.EXITED else _VARIABLE.sub("#", summary)


@attrs.define(kw_only=True)
class FailureGroup:
    """Attempts that ended alike."""

    number: int
    """As which of the groups it came up; it stays."""
    outcome: AttemptOutcome
    summary: str
    """The words of the latest of them."""
    count: int = 0
    alike: bool = True
    """Whether all of them said exactly the same."""
    first_at: float
    last_at: float
    """Unix seconds."""
    event: int
    """The number of the event that told of the latest."""
    task: int
    """The number of its task."""


class FailureGroups:
    """All failures of a job so far."""

    def __init__(self) -> None:
        self._groups: dict[tuple[AttemptOutcome, str], FailureGroup] = {}

    def add(self, outcome: AttemptOutcome, reason: str, *, at: float, event: int, task: int) -> None:
        """One more attempt that did not complete its task."""
        summary = words_of(outcome, reason)
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
        group.alike = group.alike and group.summary == summary
        group.first_at = min(group.first_at, at)
        if at >= group.last_at:
            group.summary, group.last_at, group.event, group.task = summary, at, event, task

    def _find(self, outcome: AttemptOutcome, summary: str) -> FailureGroup | None:
        found = self._groups.get((outcome, _pattern(outcome, summary)))
        return found or self._groups.get(self._new_key(outcome, summary))

    def _new_key(self, outcome: AttemptOutcome, summary: str) -> tuple[AttemptOutcome, str]:
        """What a failure is filed under that is like none before."""
        if len(self._groups) < _WITH_OWN_WORDS:
            return (outcome, _pattern(outcome, summary))
        kind = (outcome, f"{summary.partition(':')[0]}: …")
        few = len(self._groups) < MOST_GROUPS - len(AttemptOutcome)
        return kind if few or kind in self._groups else (outcome, "…")

    def top(self, limit: int) -> Sequence[FailureGroup]:
        """The most frequent, losses last: they are nobody's mistake."""
        order = sorted(
            self._groups.values(),
            key=lambda group: (group.outcome is AttemptOutcome.LOST, -group.count, group.summary),
        )
        return order[:limit]

    def __len__(self) -> int:
        return len(self._groups)
