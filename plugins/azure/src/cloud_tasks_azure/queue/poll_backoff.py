"""Pauses between polls of an empty queue."""

from __future__ import annotations

import random
import threading

__all__ = ["PollBackoff"]

_FIRST_PAUSE = 0.05


class PollBackoff:
    """Exponential backoff between polls of an empty queue, in seconds. Thread-safe.

    Args:
        maximum: Maximum pause.
    """

    def __init__(self, maximum: float) -> None:
        self._maximum = maximum
        self._lock = threading.Lock()
        self._next = min(_FIRST_PAUSE, maximum)

    def next_pause(self) -> float:
        """Return the next pause, which grows with each call; randomized, so that consumers do not poll in step."""
        with self._lock:
            pause = self._next
            self._next = min(self._maximum, pause * 2)
        return pause * random.uniform(0.8, 1.0)

    def reset(self) -> None:
        """Return to the first pause after a message arrived."""
        with self._lock:
            self._next = min(_FIRST_PAUSE, self._maximum)
