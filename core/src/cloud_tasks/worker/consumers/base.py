"""Interface of consumers: the source of attempts, a queue or a local file alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cloud_tasks.worker.consumers.attempt_types import PendingAttempt

__all__ = ["TaskConsumer"]


class TaskConsumer(Protocol):
    """A source of attempts, filled by a thread of its own and read by the supervisor without waiting."""

    def start(self) -> None:
        """Start the thread."""

    def request(self, idle_slots: int, *, mean_seconds: float | None) -> None:
        """Request as many tasks as can be used.

        Args:
            idle_slots: Number of attempts that can be submitted now.
            mean_seconds: Expected duration of a task; None if it is unknown.
        """

    def get(self) -> PendingAttempt | None:
        """Return the next attempt that is due; None for none."""

    @property
    def due_at(self) -> float | None:
        """Time at which a held attempt is due (`time.monotonic`); None for no such attempt."""

    @property
    def exhausted(self) -> bool:
        """Whether no attempt is left and none will follow."""

    @property
    def failure(self) -> str:
        """Reason for which there are no more tasks; empty for none."""

    @property
    def is_refused(self) -> bool:
        """Whether the queue refuses this worker at the moment, which is then not idle."""

    @property
    def expected(self) -> int | None:
        """Total number of tasks; None if it is unknown."""

    def requeue(self, work: PendingAttempt, delay: float) -> bool:
        """Keep an attempt for ``delay`` seconds; return False if that needs a message to the queue instead."""

    def take_surplus(self, mean_seconds: float) -> Sequence[PendingAttempt]:
        """Remove and return the attempts that would not be fetched now that tasks take ``mean_seconds``."""

    def mark_leases_lost(self, lease_ids: Sequence[str]) -> None:
        """Mark the attempts of expired leases, which other workers may run."""

    def stop(self) -> Sequence[PendingAttempt]:
        """Fetch nothing more; return the attempts that were fetched and not taken."""

    def close(self) -> None:
        """End the thread."""
