"""How a task's state moves: one pure function.

===================  ==========================  =====================================================================
event                when the task is            the task becomes
===================  ==========================  =====================================================================
started(n)           not final, n >= attempt     running, attempt n
completed(n)         not final, any n            completed: the first final word wins, whatever attempt it is about
failure(n), retry    not final, n >= attempt     queued, attempt n + 1 (its worker sent the message for it)
failure(n), final    not final, n >= attempt     failed, timed out, exited or dead
released(n)          not final, n >= attempt     queued, attempt n again, one more loss
any of them          not final, n < attempt      unchanged, except completed (above): late; the newer attempt decides
dead(n)              failed for good at n        unchanged: it repeats what is known
any other            final                       unchanged: late
===================  ==========================  =====================================================================

Invariants, each with a test:

1. A final status is never left, and its attempt and losses never change.
2. The attempt number of a task never decreases.
3. Every event that is not late changes the state, or repeats what is known.
"""

from __future__ import annotations

import attrs

from cloud_tasks.model import EventType, TaskStatus

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
    """What events decide about one task."""

    status: TaskStatus
    attempt: int
    """The attempt that runs, or that is next to run."""
    losses: int


def is_task_event(event_type: EventType) -> bool:
    """Whether an event of this type says something about a task's state."""
    return event_type in _TASK_EVENTS


def next_state(state: TaskState, event_type: EventType, attempt: int, retry: bool) -> TaskState | None:
    """The state after an event about attempt number ``attempt``; None when the event comes too late to change it.

    Raises:
        KeyError: The event is not about a task's state (`is_task_event`).
    """
    status = state.status
    if status is not TaskStatus.PENDING and status is not TaskStatus.QUEUED and status is not TaskStatus.RUNNING:
        # A worker says that a task is dead right after the failure that ended it: it repeats what is known.
        repeats = event_type is EventType.TASK_DEAD and attempt == state.attempt and status is not TaskStatus.COMPLETED
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
        return TaskState(TaskStatus.QUEUED, attempt + 1, state.losses)
    return TaskState(_FAILURES[event_type], attempt, state.losses)
