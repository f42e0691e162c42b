"""Tasks, their statuses, and the message in which a task is queued."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["FINAL_STATUSES", "MAX_ATTEMPT", "AttemptOutcome", "Task", "TaskMessage", "TaskStatus"]

MAX_ATTEMPT = 1_000_000
"""The highest number of an attempt, and of interruptions of a task. A higher one in a message is an error."""


class TaskStatus(enum.Enum):
    """The status of a task. A terminal state is never overwritten by a later event.

    Attributes:
        PENDING: In the database, not in the queue as far as known.
        QUEUED: In the queue, waiting for a worker or for the end of its backoff.
        RUNNING: An attempt started on a worker and has not ended.
        COMPLETED: Terminal: an attempt returned without requesting a retry.
        FAILED: Terminal: raised an exception, exceeded its memory limit or returned an invalid result.
        TIMED_OUT: Terminal: exceeded its time limit (``max_runtime``).
        EXITED: Terminal: its process exited before its function returned.
        DEAD: Terminal: its attempts or interruptions reached their limit.
    """

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    EXITED = "exited"
    DEAD = "dead"


FINAL_STATUSES = frozenset(
    {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.TIMED_OUT, TaskStatus.EXITED, TaskStatus.DEAD}
)
"""The terminal states."""


class AttemptOutcome(enum.Enum):
    """The outcome of an attempt.

    Attributes:
        COMPLETED: Returned without requesting a retry.
        RETRY_REQUESTED: Returned, or raised `Retry`, to request another attempt.
        EXCEPTION: Raised an exception.
        TIMED_OUT: Exceeded its time limit.
        EXITED: Its process exited before its function returned.
        LOST: Interrupted: preempted, instance failed or worker crashed; counted separately from failures.
    """

    COMPLETED = "completed"
    RETRY_REQUESTED = "retry_requested"
    EXCEPTION = "exception"
    TIMED_OUT = "timed_out"
    EXITED = "exited"
    LOST = "lost"


@attrs.frozen(kw_only=True)
class Task:
    """An independent piece of work, as the user wrote it."""

    task_id: str
    """Unique within the job; not empty."""
    data: Mapping[str, Any] = attrs.field(factory=dict)
    """Argument of the task's function; JSON types only."""


@attrs.frozen(kw_only=True)
class TaskMessage:
    """A message of the task queue: JSON ``{"task_id", "data", "attempt", "losses", "not_before", "delay"}``.

    On the wire, ``task_id`` (or ``id``) and ``data`` are required.
    """

    task_id: str
    """As in `Task`."""
    data: Mapping[str, Any]
    """As in `Task`; from a job database, an `EncodedData` that is decoded when it is read."""
    attempt: int = 1
    """Number of the attempt, from 1; a retry is a new message with the next number."""
    losses: int = 0
    """Interrupted attempts of the task, as far as known to the sender."""
    not_before: float = 0.0
    """Unix seconds before which the attempt must not start (backoff, for queues without a delay); 0 for at once."""
    delay: float | None = None
    """Seconds that the attempt waits at most, whatever the clocks of sender and receiver show; None for no limit."""
