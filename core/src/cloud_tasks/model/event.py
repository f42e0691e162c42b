"""What workers report."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

__all__ = ["TASK_FINAL_EVENTS", "Event", "EventType"]


class EventType(enum.Enum):
    """The kinds of event; the values are those on the wire."""

    TASK_STARTED = "task_started"
    TASK_COMPLETED = "task_completed"
    TASK_EXCEPTION = "task_exception"
    TASK_TIMED_OUT = "task_timed_out"
    TASK_EXITED = "task_exited"
    TASK_RELEASED = "task_released"
    """The worker gave an unfinished task back (shutdown, termination notice): a loss, not a failure."""
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
"""Those that end an attempt; final for the task when their ``retry`` is false."""


@attrs.frozen(kw_only=True)
class Event:
    """One thing that happened on a worker.

    On the wire an event is one flat JSON object: these fields and those of ``details`` side by side. An event-queue
    message is a JSON list of events (a single object is accepted too).
    """

    event_id: str
    """Unique; a second event with the same id changes nothing."""
    event_type: EventType
    timestamp: datetime
    """UTC."""
    hostname: str = ""
    instance_id: str | None = None
    task_id: str | None = None
    attempt: int | None = None
    retry: bool | None = None
    """For events that end an attempt: whether the worker put the task back for another attempt."""
    elapsed_time: float | None = None
    """Seconds from the start of the attempt to its end."""
    details: Mapping[str, Any] = attrs.field(factory=dict)
    """The rest, by type: ``result``; ``exception``, ``exception_type``, ``stack_trace``; ``exit_code``, ``signal``,
    ``cause``; ``running_tasks``, ``load``, ``slots``; ``log_tail``, ``slot``, ``pid``."""
