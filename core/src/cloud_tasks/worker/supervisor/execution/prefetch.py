"""Number of short tasks sent to task processes in advance, so that neither end of a socket waits for the other."""

from __future__ import annotations

__all__ = ["prefetch_count"]

_MAX_COUNT = 64
_MIN_TASK_SECONDS = 1e-5


def prefetch_count(mean_seconds: float | None, *, seconds: float) -> int:
    """Return how many tasks to prefetch per slot, at most 64.

    Args:
        mean_seconds: Duration of a task; None: unknown, nothing is prefetched.
        seconds: Duration of all of them.
    """
    return 0 if mean_seconds is None else min(_MAX_COUNT, int(seconds / max(mean_seconds, _MIN_TASK_SECONDS)))
