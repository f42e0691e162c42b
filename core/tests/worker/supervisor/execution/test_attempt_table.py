"""The table of unfinished attempts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.worker.consumers.attempt_types import AttemptState, PendingAttempt, RunningAttempt
from cloud_tasks.worker.supervisor.execution.attempt_table import AttemptTable


@given(moves=st.lists(st.tuples(st.integers(0, 4), st.sampled_from(AttemptState)), max_size=30))
def test_attempt_table_holds_each_attempt_in_the_group_of_its_state(moves) -> None:
    table = AttemptTable()
    attempts = [RunningAttempt(PendingAttempt(f"task-{number}", {}), number, "") for number in range(5)]
    for attempt in attempts:
        table.add(attempt)
    for number, state in moves:
        if attempts[number].state is not AttemptState.FINISHED:
            table.move(attempts[number], state)
    groups = {
        AttemptState.WAITING: table.waiting,
        AttemptState.RUNNING: table.running,
        AttemptState.ENDING: table.ending,
    }
    for state, group in groups.items():
        expected = {attempt.number for attempt in attempts if attempt.state is state}
        assert group.keys() == expected
    unfinished = {attempt.number for attempt in attempts if attempt.state is not AttemptState.FINISHED}
    assert len(table) == len(unfinished)
    assert {attempt.number for attempt in table.all()} == unfinished
    started = table.running.keys() | table.ending.keys()
    assert {attempt.number for attempt in table.started()} == started
    assert table.started_count == len(started)
    assert [table.get_started(number) is not None for number in range(5)] == [number in started for number in range(5)]
