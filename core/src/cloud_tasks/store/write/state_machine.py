"""The state machine of a task: one pure function.

===================  ==========================  =====================================================================
event                state of the task           next state
===================  ==========================  =====================================================================
started(n)           unfinished, n >= attempt    running, attempt n
completed(n)         unfinished, any n           completed: the first terminal state wins, whichever attempt reports it
failure(n), retry    unfinished, n >= attempt    queued, attempt n + 1 (its worker sent the message)
failure(n)           unfinished, n >= attempt    failed, timed out, exited or dead
released(n)          unfinished, n >= attempt    queued, attempt n again, one more interruption
any but completed    unfinished, n < attempt     unchanged, late: the newer attempt decides
dead(n)              failed at attempt n         dead: no retry is left; the same end, in two events
failure(n)           dead at attempt n           unchanged: the same end, in the other order
any other            terminal                    unchanged, late
===================  ==========================  =====================================================================

Invariants, each with a test:

1. A terminal state is never left, except from a failure to dead, at the same attempt; its attempt number and
   interruptions never change.
2. The attempt number of a task never decreases.
3. Every event that is not late changes the state or repeats a known one.
"""

from __future__ import annotations

import attrs

from cloud_tasks.model import MAX_ATTEMPT, EventType, TaskStatus

__all__ = ["TaskState", "is_task_event", "next_state"]

_FAILURES = {
    EventType.TASK_EXCEPTION: TaskStatus.FAILED,
    EventType.TASK_TIMED_OUT: TaskStatus.TIMED_OUT,
    EventType.TASK_EXITED: TaskStatus.EXITED,
    EventType.TASK_DEAD: TaskStatus.DEAD,
}

_TASK_EVENTS = frozenset({EventType.TASK_STARTED, EventType.TASK_COMPLETED, EventType.TASK_RELEASED, *_FAILURES})


@attrs.frozen
class TaskState:
    """The part of a task that events change."""

    status: TaskStatus
    attempt: int
    """Number of the running attempt, of the next one, or of the last one of a finished task."""
    losses: int
    """Interrupted attempts."""


def is_task_event(event_type: EventType) -> bool:
    """Return whether events of this type change the state of a task."""
    return event_type in _TASK_EVENTS


def next_state(state: TaskState, event_type: EventType, attempt: int, retry: bool) -> TaskState | None:
    """Return the state after an event of attempt ``attempt``, or None if the event is late.

    Raises:
        KeyError: Events of this type change no task (`is_task_event`).
    """
    status = state.status
    if status is not TaskStatus.PENDING and status is not TaskStatus.QUEUED and status is not TaskStatus.RUNNING:
        # A worker sends task_dead right after the last failure of a task.
        if attempt != state.attempt or status is TaskStatus.COMPLETED:
            return None
        if event_type is EventType.TASK_DEAD:
            return TaskState(TaskStatus.DEAD, attempt, state.losses)
        repeats = status is TaskStatus.DEAD and event_type in _FAILURES and not retry
        return state if repeats else None
    if event_type is EventType.TASK_COMPLETED and not retry:
        return TaskState(TaskStatus.COMPLETED, max(attempt, state.attempt), state.losses)
    if attempt < state.attempt:
        return None
    if event_type is EventType.TASK_STARTED:
        return TaskState(TaskStatus.RUNNING, attempt, state.losses)
    if event_type is EventType.TASK_RELEASED:
        return TaskState(TaskStatus.QUEUED, attempt, state.losses + 1)
    if retry and event_type is not EventType.TASK_DEAD:
        return TaskState(TaskStatus.QUEUED, min(attempt + 1, MAX_ATTEMPT), state.losses)
    return TaskState(_FAILURES[event_type], attempt, state.losses)
