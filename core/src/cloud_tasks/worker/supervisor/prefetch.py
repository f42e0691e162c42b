"""How many short tasks are sent ahead of those that run, so that neither side of a socket waits for the other."""

from __future__ import annotations

__all__ = ["prefetch_count"]

_SECONDS = 0.01
_MOST = 64
_SHORTEST = 1e-5


def prefetch_count(mean_seconds: float | None) -> int:
    """As many as one slot does in a hundredth of a second; none of unknown length.

    Args:
        mean_seconds: What a task takes.
    """
    return 0 if mean_seconds is None else min(_MOST, int(_SECONDS / max(mean_seconds, _SHORTEST)))
