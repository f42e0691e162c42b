"""Where attempts come from: what the supervisor asks of a queue or of a local source alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cloud_tasks.worker.consumers.attempt_types import PendingAttempt

__all__ = ["TaskConsumer"]


class TaskConsumer(Protocol):
    """Filled by a thread of its own, read by the supervisor without waiting."""

    def start(self) -> None: ...

    def want(self, idle_slots: int, *, mean_seconds: float | None) -> None:
        """Say what can be used now, so that enough is fetched and not more."""

    def get(self) -> PendingAttempt | None:
        """The next attempt, if one is at hand and due."""

    @property
    def due_at(self) -> float | None:
        """When (Unix time) something that is held back may be due."""

    @property
    def exhausted(self) -> bool:
        """Whether nothing will ever come again."""

    @property
    def failure(self) -> str:
        """Why it can bring no more; empty while it can."""

    @property
    def expected(self) -> int | None:
        """How many tasks there are in all, where that is known."""

    def again(self, work: PendingAttempt, delay: float) -> bool:
        """Keep an attempt for later; False: this feed keeps nothing, a message has to be sent."""

    def surplus(self, mean_seconds: float) -> Sequence[PendingAttempt]:
        """Hand over what is at hand and, while tasks take so long, would not have been fetched."""

    def lost(self, lease_ids: Sequence[str]) -> None:
        """These leases have ended."""

    def stop(self) -> Sequence[PendingAttempt]:
        """Fetch nothing more; returns what was fetched and not asked for."""

    def close(self) -> None:
        """End the thread."""
