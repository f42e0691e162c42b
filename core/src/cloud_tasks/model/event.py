"""Events: what workers report."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

__all__ = ["TASK_FINAL_EVENTS", "Event", "EventType"]


class EventType(enum.Enum):
    """The type of an event; the values are those on the wire.

    Attributes:
        TASK_STARTED: An attempt started.
        TASK_COMPLETED: An attempt returned; with ``retry`` true, the task requested another attempt.
        TASK_EXCEPTION: An attempt raised an exception.
        TASK_TIMED_OUT: An attempt exceeded its time limit (``max_runtime``).
        TASK_EXITED: The process of an attempt exited before its function returned.
        TASK_RELEASED: The worker returned an unfinished task to the queue (shutdown, interruption notice): an
            interrupted attempt.
        TASK_DEAD: The attempts or interruptions of a task reached their limit.
        WORKER_STARTED: The supervisor of an instance started.
        WORKER_STOPPED: The supervisor stopped.
        SPOT_TERMINATION: A spot interruption notice arrived: the provider will reclaim the instance.
        KEEP_ALIVE: A heartbeat without other events.
        NON_FATAL_EXCEPTION: An error in the worker, which continues.
        FATAL_EXCEPTION: An error that stops the worker.
    """

    TASK_STARTED = "task_started"
    TASK_COMPLETED = "task_completed"
    TASK_EXCEPTION = "task_exception"
    TASK_TIMED_OUT = "task_timed_out"
    TASK_EXITED = "task_exited"
    TASK_RELEASED = "task_released"
    TASK_DEAD = "task_dead"
    WORKER_STARTED = "worker_started"
    WORKER_STOPPED = "worker_stopped"
    SPOT_TERMINATION = "spot_termination"
    KEEP_ALIVE = "keep_alive"
    NON_FATAL_EXCEPTION = "non_fatal_exception"
    FATAL_EXCEPTION = "fatal_exception"


TASK_FINAL_EVENTS = frozenset(
    {
        EventType.TASK_COMPLETED,
        EventType.TASK_EXCEPTION,
        EventType.TASK_TIMED_OUT,
        EventType.TASK_EXITED,
        EventType.TASK_DEAD,
    }
)
"""The types that end an attempt; with ``retry`` false, the task is finished."""


@attrs.frozen(kw_only=True)
class Event:
    """An event on a worker.

    On the wire an event is one flat JSON object of these fields and those of ``details``. A message of the event queue
    is a JSON list of events; a single object is accepted too.
    """

    event_id: str
    """Unique; a second event with the same id is a duplicate, and ignored."""
    event_type: EventType
    """Type of the event."""
    timestamp: datetime
    """Time of the event, UTC."""
    hostname: str = ""
    """Host name of the worker."""
    instance_id: str | None = None
    """The provider's id of its instance; None for a worker that was started by hand."""
    task_id: str | None = None
    """Task, for events whose type starts with ``task_``; else None."""
    attempt: int | None = None
    """Number of the attempt, from 1; None without a task, or from an older worker."""
    retry: bool | None = None
    """For events that end an attempt: whether the worker queued the task for another attempt; else None."""
    elapsed_time: float | None = None
    """Seconds from the start of the attempt to its end; None for other events."""
    details: Mapping[str, Any] = attrs.field(factory=dict)
    """Other fields, by type: ``result``; ``exception``, ``exception_type``, ``stack_trace``; ``exit_code``, ``signal``,
    ``cause``; ``running_tasks``, ``load``, ``slots``; ``log_tail``, ``slot``, ``pid``. JSON types only."""
