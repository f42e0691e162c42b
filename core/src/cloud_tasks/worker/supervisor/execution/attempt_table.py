"""The table of unfinished attempts, each in one state.

Invariant, with a test: an attempt's state is the group of the table that holds it; only `move` changes it.
"""

from __future__ import annotations

from itertools import chain

from cloud_tasks.worker.consumers.attempt_types import AttemptState, RunningAttempt

__all__ = ["AttemptTable"]

# A member of an enumeration takes longer to look up than an attempt takes to move.
_FINISHED = AttemptState.FINISHED


class AttemptTable:
    """Unfinished attempts by state and number, in the order in which they reached the state."""

    def __init__(self) -> None:
        self.waiting: dict[int, RunningAttempt] = {}
        self.running: dict[int, RunningAttempt] = {}
        self.ending: dict[int, RunningAttempt] = {}
        self._groups = (self.waiting, self.running, self.ending)
        """Group of each state; the states are its indices."""

    def __len__(self) -> int:
        return len(self.waiting) + len(self.running) + len(self.ending)

    @property
    def started_count(self) -> int:
        """Number of attempts that have a process."""
        return len(self.running) + len(self.ending)

    def started(self) -> list[RunningAttempt]:
        """Return the attempts that have a process."""
        return [*self.running.values(), *self.ending.values()]

    def all(self) -> list[RunningAttempt]:
        """Return every unfinished attempt."""
        return list(chain(self.running.values(), self.ending.values(), self.waiting.values()))

    def get_started(self, number: int) -> RunningAttempt | None:
        """Return an attempt that has a process; None for no such attempt."""
        return self.running.get(number) or self.ending.get(number)

    def add(self, attempt: RunningAttempt) -> None:
        """Add a waiting attempt."""
        self.waiting[attempt.number] = attempt

    def move(self, attempt: RunningAttempt, state: AttemptState) -> None:
        """Change an attempt's state; FINISHED removes it from the table."""
        number, groups = attempt.number, self._groups
        del groups[attempt.state][number]
        attempt.state = state
        if state is not _FINISHED:
            groups[state][number] = attempt
