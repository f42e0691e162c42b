"""The part of an instance's lifetime in which its worker takes tasks."""

from __future__ import annotations

from datetime import timedelta

from cloud_tasks.selection.instance_count import COMMITMENT

__all__ = ["drain_after"]

_LAST_REPORTS = timedelta(seconds=30)
"""Time after the last task for the worker's events and its exit."""


def drain_after(
    lifetime: timedelta, *, max_runtime: timedelta, is_given: bool, startup_timeout: timedelta | None
) -> timedelta:
    """Return the age at which a worker takes no more tasks, so that running ones finish before its instance ends.

    Args:
        max_runtime: Time limit for one attempt of a task.
        is_given: Whether the user set it. Then no task is cut short if the lifetime allows that; the default is much
            longer than most tasks take, and at least half of the lifetime is for tasks.
        startup_timeout: Time limit for the start of a worker; None: none.
    """
    rest = max_runtime + _LAST_REPORTS
    if is_given and lifetime >= (startup_timeout or COMMITMENT) + rest:
        return lifetime - rest
    return lifetime - min(rest, lifetime / 2)
