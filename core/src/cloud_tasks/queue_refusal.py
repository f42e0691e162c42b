"""Errors of a queue that no retry can fix: how long a worker, or a controller, waits before it ends because of them.

Invariants, each with a test:

1. Transient errors, and errors of another class than `ProviderError`, are waited for without end.
2. Permanent errors end the program after a time, since permissions and new queues take a while to become effective; a
   longer time if the queue has answered before.
3. Credentials that the queue has accepted before may be renewed: they are waited for without end.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from cloud_tasks.errors import CredentialsError, NotFoundError, ProviderError

__all__ = ["QueueRefusal"]

_REFUSED, _REFUSED_LATER = 60.0, 600.0
"""Seconds of permanent errors before and after the first answer of the queue."""
_MISSING = 600.0
"""Seconds for which the queue may be missing: some providers refuse to create a deleted queue again for a minute, and a
new queue may not be found for minutes."""


class QueueRefusal:
    """Permanent errors of one queue since its last answer.

    Args:
        name: ``task queue`` or ``event queue``.
        user: The program that uses the queue.
        has_answered: Whether the queue has answered before.
        clock: Time in seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        user: str = "this worker",
        has_answered: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._user = user
        self._clock = clock
        self._has_answered = has_answered
        self._error: Exception | None = None
        self._is_missing = False
        self._since: float | None = None
        """Time of the first permanent error since the last answer."""

    @property
    def is_refused(self) -> bool:
        """Whether the last permanent error, since the last answer, was another than a missing queue."""
        return self._since is not None and not self._is_missing

    @property
    def has_answered(self) -> bool:
        """Whether the queue has answered."""
        return self._has_answered

    @property
    def problem(self) -> str:
        """What the queue refuses, with the last permanent error; empty unless `is_refused`."""
        return self._text() if self.is_refused else ""

    def answered(self) -> None:
        """Note an answer."""
        self._has_answered, self._since = True, None

    def failed(self, error: Exception) -> str:
        """Note an error; return why the program has to end because of it, empty if it does not."""
        limit = self._limit(error)
        if limit is None:
            return ""
        now, self._is_missing, self._error = self._clock(), isinstance(error, NotFoundError), error
        if self._since is None:
            self._since = now
        if now - self._since < limit:
            return ""
        return self._text()

    def _text(self) -> str:
        problem = "does not exist" if self._is_missing else f"refuses {self._user}"
        return f"the {self._name} {problem}: {self._error}"

    def _limit(self, error: Exception) -> float | None:
        if isinstance(error, NotFoundError):
            return _MISSING
        if isinstance(error, CredentialsError):
            return None if self._has_answered else _REFUSED_LATER
        if not isinstance(error, ProviderError) or error.transient:
            return None
        return _REFUSED_LATER if self._has_answered else _REFUSED
