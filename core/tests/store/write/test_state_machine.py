"""The state machine of a task."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.model import FINAL_STATUSES, EventType, TaskStatus
from cloud_tasks.store.write.state_machine import TaskState, is_task_event, next_state

TASK_EVENTS = [event_type for event_type in EventType if is_task_event(event_type)]
OPEN = [TaskStatus.PENDING, TaskStatus.QUEUED, TaskStatus.RUNNING]
E = EventType
S = TaskStatus

states = st.builds(TaskState, st.sampled_from(TaskStatus), st.integers(1, 5), st.integers(0, 5))


@pytest.mark.parametrize("status", OPEN)
@pytest.mark.parametrize(
    ("event_type", "attempt", "retry", "after"),
    [
        (E.TASK_STARTED, 2, False, TaskState(S.RUNNING, 2, 1)),
        (E.TASK_STARTED, 3, False, TaskState(S.RUNNING, 3, 1)),
        (E.TASK_STARTED, 1, False, None),
        (E.TASK_COMPLETED, 2, False, TaskState(S.COMPLETED, 2, 1)),
        (E.TASK_COMPLETED, 1, False, TaskState(S.COMPLETED, 2, 1)),
        (E.TASK_COMPLETED, 2, True, TaskState(S.QUEUED, 3, 1)),
        (E.TASK_COMPLETED, 1, True, None),
        (E.TASK_EXCEPTION, 2, True, TaskState(S.QUEUED, 3, 1)),
        (E.TASK_EXCEPTION, 2, False, TaskState(S.FAILED, 2, 1)),
        (E.TASK_EXCEPTION, 1, False, None),
        (E.TASK_TIMED_OUT, 2, False, TaskState(S.TIMED_OUT, 2, 1)),
        (E.TASK_TIMED_OUT, 2, True, TaskState(S.QUEUED, 3, 1)),
        (E.TASK_EXITED, 2, False, TaskState(S.EXITED, 2, 1)),
        (E.TASK_EXITED, 4, True, TaskState(S.QUEUED, 5, 1)),
        (E.TASK_RELEASED, 2, False, TaskState(S.QUEUED, 2, 2)),
        (E.TASK_RELEASED, 1, False, None),
        (E.TASK_DEAD, 2, False, TaskState(S.DEAD, 2, 1)),
        (E.TASK_DEAD, 2, True, TaskState(S.DEAD, 2, 1)),
    ],
)
def test_next_state_of_an_unfinished_task_follows_the_table(
    status: TaskStatus, event_type: EventType, attempt: int, retry: bool, after: TaskState | None
) -> None:
    assert next_state(TaskState(status, 2, 1), event_type, attempt, retry) == after


@pytest.mark.parametrize("status", [S.FAILED, S.TIMED_OUT, S.EXITED, S.DEAD])
def test_next_state_of_a_failed_task_after_task_dead_is_dead(status: TaskStatus) -> None:
    state = TaskState(status, 3, 1)
    assert next_state(state, E.TASK_DEAD, 3, False) == TaskState(S.DEAD, 3, 1)
    assert next_state(state, E.TASK_DEAD, 2, False) is None
    assert next_state(state, E.TASK_DEAD, 4, False) is None


@pytest.mark.parametrize("event_type", [E.TASK_EXCEPTION, E.TASK_TIMED_OUT, E.TASK_EXITED])
def test_next_state_of_a_dead_task_after_its_last_failure_is_unchanged(event_type: EventType) -> None:
    state = TaskState(S.DEAD, 3, 0)
    assert next_state(state, event_type, 3, False) is state
    assert next_state(state, event_type, 2, False) is None
    assert next_state(state, event_type, 3, True) is None


@given(states, st.integers(1, 6))
def test_next_state_of_a_completed_task_is_late_for_task_dead(state: TaskState, attempt: int) -> None:
    assert next_state(attrs.evolve(state, status=S.COMPLETED), E.TASK_DEAD, attempt, False) is None


@given(states, st.sampled_from(TASK_EVENTS), st.integers(1, 6), st.booleans())
def test_next_state_leaves_no_terminal_state_but_a_failure_for_dead(
    state: TaskState, event_type: EventType, attempt: int, retry: bool
) -> None:
    if state.status in FINAL_STATUSES:
        after = next_state(state, event_type, attempt, retry)
        is_same_end = event_type is E.TASK_DEAD and state.status is not S.COMPLETED and attempt == state.attempt
        assert after in (None, state) or (is_same_end and after == attrs.evolve(state, status=S.DEAD))


@given(states, st.sampled_from(TASK_EVENTS), st.integers(1, 6), st.booleans())
def test_next_state_never_decreases_attempts_or_interruptions(
    state: TaskState, event_type: EventType, attempt: int, retry: bool
) -> None:
    after = next_state(state, event_type, attempt, retry)
    if after is not None:
        assert after.attempt >= state.attempt
        assert after.losses >= state.losses


@pytest.mark.parametrize("event_type", [e for e in EventType if not is_task_event(e)])
def test_next_state_refuses_events_that_change_no_task(event_type: EventType) -> None:
    with pytest.raises(KeyError):
        next_state(TaskState(S.RUNNING, 1, 0), event_type, 1, False)
