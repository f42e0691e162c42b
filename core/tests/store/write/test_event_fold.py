"""The fold of events into changes, without a database."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import attrs
import pytest
from store_facts import at, completed, event, failed, started

from cloud_tasks.model import AttemptOutcome, Event, EventType, TaskStatus
from cloud_tasks.store.db.enum_codes import OUTCOME_OF_CODE, STATUS_OF_CODE, STATUS_TO_CODE
from cloud_tasks.store.write.event_fold import Changes, TouchedRows, describe_exception, fold_events

SEQ = 7
WORKER = (3, "i1", "h1", at(0).timestamp(), None, 0, 0, 0, None)


def touched(status: TaskStatus = TaskStatus.QUEUED, attempt: int = 1, **fields: Any) -> TouchedRows:
    task = ("a", SEQ, STATUS_TO_CODE[status], attempt, 0, None, None)
    return TouchedRows(**{"tasks": [task], "workers": [WORKER], "last_worker": 3, "last_event": 100, **fields})


def task_states(changes: Changes) -> list[tuple[TaskStatus, int, int]]:
    return [(STATUS_OF_CODE[status], attempt, losses) for status, attempt, losses, *_ in changes.tasks]


def outcomes(changes: Changes) -> list[AttemptOutcome | None]:
    return [None if row[3] is None else OUTCOME_OF_CODE[row[3]] for row in changes.attempts]


def running_attempts(changes: Changes) -> int:
    return sum(row[5] for row in changes.workers)


def test_fold_leaves_its_arguments_unchanged_and_repeats_its_result() -> None:
    rows = touched(attempts=[(SEQ, 1, 1, None, at(0).timestamp(), None, None, 3, None, None)])
    events = [failed("a", retry=True), started("a", 2), completed("a", 2)]
    before = deepcopy((rows, events))
    first, second = fold_events(rows, events), fold_events(rows, events)
    assert (rows, events) == before
    ignored = attrs.filters.exclude(attrs.fields(Changes).counters)
    assert attrs.asdict(first, filter=ignored) == attrs.asdict(second, filter=ignored)


def test_fold_of_no_events_changes_no_task() -> None:
    changes = fold_events(touched(), [])
    assert (changes.events, changes.tasks, changes.attempts) == ([], [], [])


@pytest.mark.parametrize(
    ("events", "state", "history", "running"),
    [
        ([started("a")], (TaskStatus.RUNNING, 1, 0), [None], 1),
        ([started("a"), completed("a")], (TaskStatus.COMPLETED, 1, 0), [AttemptOutcome.COMPLETED], 0),
        # Start event lost.
        ([completed("a")], (TaskStatus.COMPLETED, 1, 0), [AttemptOutcome.COMPLETED], 0),
        # Start event after the end event.
        (
            [failed("a", retry=True, timestamp=at(9)), started("a", timestamp=at(5))],
            (TaskStatus.QUEUED, 2, 0),
            [AttemptOutcome.EXCEPTION],
            0,
        ),
        # End event lost, then restarted on the same worker.
        (
            [started("a", timestamp=at(0)), started("a", timestamp=at(5))],
            (TaskStatus.RUNNING, 1, 0),
            [AttemptOutcome.LOST, None],
            1,
        ),
        # Dead without an attempt: too many interruptions.
        ([event(EventType.TASK_DEAD, "a")], (TaskStatus.DEAD, 1, 0), [], 0),
        ([event(EventType.TASK_RELEASED, "a")], (TaskStatus.QUEUED, 1, 1), [AttemptOutcome.LOST], 0),
    ],
)
def test_fold_of_one_task(
    events: list[Event], state: tuple[TaskStatus, int, int], history: list[AttemptOutcome | None], running: int
) -> None:
    changes = fold_events(touched(), events)
    assert task_states(changes) == [state]
    assert outcomes(changes) == history
    assert running_attempts(changes) == running
    assert [row[0] for row in changes.events] == list(range(101, 101 + len(events)))


def test_end_event_of_an_attempt_taken_for_interrupted_corrects_its_outcome() -> None:
    lost = (SEQ, 1, 1, 5, at(0).timestamp(), at(3).timestamp(), None, 3, "task requeued", None)
    changes = fold_events(touched(attempts=[lost]), [completed("a", timestamp=at(9))])
    assert outcomes(changes) == [AttemptOutcome.COMPLETED]
    assert running_attempts(changes) == 0


def test_late_event_of_a_finished_task_is_recorded_and_counted() -> None:
    changes = fold_events(touched(TaskStatus.COMPLETED), [failed("a", hostname="h2")])
    assert (changes.late, changes.tasks, outcomes(changes)) == (1, [], [AttemptOutcome.EXCEPTION])


def test_unknown_worker_gets_the_next_key_and_unknown_task_is_counted() -> None:
    changes = fold_events(touched(), [started("b", hostname="h2")])
    assert changes.unknown_task == 1
    assert [row[:3] for row in changes.workers] == [WORKER[:3], (4, "i1", "h2")]
    assert [row[4:7] for row in changes.events] == [(4, None, "b")]


@pytest.mark.parametrize(
    ("details", "text"),
    [
        ({"exception": "bad", "exception_type": "ValueError"}, "ValueError: bad"),
        ({"exception": "ValueError: bad", "exception_type": "ValueError"}, "ValueError: bad"),
        ({"exception": "", "exception_type": "KeyError"}, "KeyError"),
        ({"exception": "Traceback (most recent call last):\n  File x\nZeroDivisionError: division by zero\n"},
         "ZeroDivisionError: division by zero"),
        ({"exception": "first\nsecond", "exception_type": "E"}, "E: first"),
        ({}, "unknown exception"),
        ({"exception": "x" * 1000, "exception_type": "E"}, "E: " + "x" * 297),
    ],
)  # fmt: skip
def test_describe_exception_returns_one_line(details: dict[str, str], text: str) -> None:
    assert describe_exception(details) == text
