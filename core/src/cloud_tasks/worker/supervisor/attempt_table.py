"""The table of attempts that were handed to a launcher, each in one state.

Invariant: an attempt's state is the group of the table that it is in; `move` is the one place that changes it.
"""

from __future__ import annotations

from itertools import chain

from cloud_tasks.worker.consumers.attempt_types import AttemptState, RunningAttempt

__all__ = ["AttemptTable"]


_ENDED = AttemptState.ENDED


class AttemptTable:
    """Attempts by state and number, in the order in which they reached the state."""

    def __init__(self) -> None:
        self.waiting: dict[int, RunningAttempt] = {}
        self.running: dict[int, RunningAttempt] = {}
        self.ending: dict[int, RunningAttempt] = {}
        self._groups = {
            AttemptState.WAITING: self.waiting,
            AttemptState.RUNNING: self.running,
            AttemptState.ENDING: self.ending,
        }

    def __len__(self) -> int:
        return len(self.waiting) + len(self.running) + len(self.ending)

    @property
    def begun_count(self) -> int:
        """Number of attempts that have begun and not ended."""
        return len(self.running) + len(self.ending)

    def begun(self) -> list[RunningAttempt]:
        """Return the attempts that have begun and not ended."""
        return [*self.running.values(), *self.ending.values()]

    def all(self) -> list[RunningAttempt]:
        """Return the attempts that have not ended."""
        return list(chain(self.running.values(), self.ending.values(), self.waiting.values()))

    def get_begun(self, number: int) -> RunningAttempt | None:
        """Return an attempt that has begun and not ended; None for no such attempt."""
        return self.running.get(number) or self.ending.get(number)

    def add(self, attempt: RunningAttempt) -> None:
        """Add an attempt, waiting."""
        self.waiting[attempt.number] = attempt

    def move(self, attempt: RunningAttempt, state: AttemptState) -> None:
        """Change an attempt's state; ENDED removes it."""
        number = attempt.number
        del self._groups[attempt.state][number]
        attempt.state = state
        if state is not _ENDED:
            self._groups[state][number] = attempt
