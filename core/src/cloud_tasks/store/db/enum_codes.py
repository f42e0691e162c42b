"""The codes that stand for enum values in the database. A code never changes its meaning."""

from __future__ import annotations

from typing import Any

from cloud_tasks.model import FINAL_STATUSES, AttemptOutcome, EventType, TaskStatus

__all__ = [
    "EVENT_OF_CODE",
    "EVENT_TO_CODE",
    "FINAL_CODES",
    "OUTCOME_OF_CODE",
    "OUTCOME_TO_CODE",
    "STATUS_OF_CODE",
    "STATUS_TO_CODE",
    "outcome_of",
    "status_of",
]

STATUS_TO_CODE = {
    TaskStatus.PENDING: 0,
    TaskStatus.QUEUED: 1,
    TaskStatus.RUNNING: 2,
    TaskStatus.COMPLETED: 3,
    TaskStatus.FAILED: 4,
    TaskStatus.TIMED_OUT: 5,
    TaskStatus.EXITED: 6,
    TaskStatus.DEAD: 7,
}
STATUS_OF_CODE = {code: status for status, code in STATUS_TO_CODE.items()}
FINAL_CODES = frozenset(STATUS_TO_CODE[status] for status in FINAL_STATUSES)

OUTCOME_TO_CODE = {
    AttemptOutcome.COMPLETED: 0,
    AttemptOutcome.RETRY_REQUESTED: 1,
    AttemptOutcome.EXCEPTION: 2,
    AttemptOutcome.TIMED_OUT: 3,
    AttemptOutcome.EXITED: 4,
    AttemptOutcome.LOST: 5,
}
OUTCOME_OF_CODE = {code: outcome for outcome, code in OUTCOME_TO_CODE.items()}


def status_of(code: Any) -> TaskStatus:
    """Return the status of a code; that of a code which this version does not know is pending."""
    return STATUS_OF_CODE.get(code, TaskStatus.PENDING)


def outcome_of(code: Any) -> AttemptOutcome | None:
    """Return the outcome of a code, None for None; that of a code which this version does not know is lost."""
    return None if code is None else OUTCOME_OF_CODE.get(code, AttemptOutcome.LOST)


EVENT_TO_CODE = {
    EventType.TASK_STARTED: 0,
    EventType.TASK_COMPLETED: 1,
    EventType.TASK_EXCEPTION: 2,
    EventType.TASK_TIMED_OUT: 3,
    EventType.TASK_EXITED: 4,
    EventType.TASK_RELEASED: 5,
    EventType.TASK_DEAD: 6,
    EventType.WORKER_STARTED: 7,
    EventType.WORKER_STOPPED: 8,
    EventType.SPOT_TERMINATION: 9,
    EventType.KEEP_ALIVE: 10,
    EventType.NON_FATAL_EXCEPTION: 11,
    EventType.FATAL_EXCEPTION: 12,
}
EVENT_OF_CODE = {code: event for event, code in EVENT_TO_CODE.items()}
