"""Tasks, their statuses, and the envelope in which a task travels through a queue."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["FINAL_STATUSES", "AttemptOutcome", "Task", "TaskMessage", "TaskStatus"]


class TaskStatus(enum.Enum):
    """Where a task stands. A final status is never overwritten by a later event."""

    PENDING = "pending"
    """In the database, not (known to be) in the queue."""
    QUEUED = "queued"
    """In the queue, waiting for a worker or for its back-off to end."""
    RUNNING = "running"
    """A worker said that it started an attempt which has not ended."""
    COMPLETED = "completed"
    FAILED = "failed"
    """Raised an exception, exceeded its memory or gave an unusable result, and will not be retried."""
    TIMED_OUT = "timed_out"
    EXITED = "exited"
    """Its process ended before its function returned."""
    DEAD = "dead"
    """Its retries or losses ran out."""


FINAL_STATUSES = frozenset(
    {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.TIMED_OUT, TaskStatus.EXITED, TaskStatus.DEAD}
)


class AttemptOutcome(enum.Enum):
    """How one attempt of a task ended."""

    COMPLETED = "completed"
    RETRY_REQUESTED = "retry_requested"
    EXCEPTION = "exception"
    TIMED_OUT = "timed_out"
    EXITED = "exited"
    LOST = "lost"
    """Preempted, instance lost or worker crashed: not the task's fault, counted apart."""


@attrs.frozen(kw_only=True)
class Task:
    """One independent piece of work, as its author wrote it."""

    task_id: str
    data: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class TaskMessage:
    """A task on its way through the task queue: JSON ``{"task_id", "data", "attempt", "losses", "not_before"}``.

    Only ``task_id`` (or ``id``) and ``data`` are required on the wire.
    """

    task_id: str
    data: Mapping[str, Any]
    attempt: int = 1
    """1 for the first attempt; a retry is a new message with the next number, sent before the old one is acked."""
    losses: int = 0
    """How often an attempt was lost through no fault of the task, as far as the sender knew."""
    not_before: float = 0.0
    """Unix time before which the attempt must not start, for back-off on queues without a delay."""
