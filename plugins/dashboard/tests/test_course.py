"""How attempts ended over time."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks_dashboard.course import KINDS, STRETCHES, Course

moments = st.floats(min_value=1e9, max_value=1e9 + 40_000_000)


@given(st.lists(st.tuples(moments, st.integers(0, len(KINDS) - 1)), max_size=60))
def test_however_long_it_takes_the_stretches_stay_few_and_count_everything(ends: list[tuple[float, int]]) -> None:
    course = Course()
    for at, kind in ends:
        course.ended(kind, 1, at, at)
    steps = course.steps()
    assert len(steps) <= STRETCHES
    assert [sum(counts[kind] for _, counts in steps) for kind in range(len(KINDS))] == [
        sum(1 for _, each in ends if each == kind) for kind in range(len(KINDS))
    ]
    if steps:
        assert steps[-1][0] - steps[0][0] < STRETCHES * course.width
    for at, kind in ends:
        assert any(begin <= at < begin + course.width and counts[kind] for begin, counts in steps)


@given(st.lists(st.tuples(moments, st.floats(0.001, 200_000)), max_size=40))
def test_what_a_host_worked_is_what_its_lane_says(runs: list[tuple[float, float]]) -> None:
    course = Course()
    for begin, seconds in runs:
        course.ended(0, 7, begin, begin + seconds)
    enough = len(runs) + 1
    worked = sum(share * course.width * enough for _, share in course.shares(7, enough))
    assert math.isclose(worked, sum(seconds for _, seconds in runs), rel_tol=1e-6, abs_tol=1e-3)


def test_a_host_with_more_work_than_slots_is_busy_and_not_more() -> None:
    course = Course()
    for _ in range(5):
        course.ended(0, 1, 1000.0, 1001.0)
    assert course.shares(1, 2) == [(1000.0, 1.0)]


def test_where_nobody_knows_the_slots_the_busiest_stretch_is_full() -> None:
    course = Course()
    for begin in (1000.0, 1000.0, 1000.0, 1000.0, 1002.0):
        course.ended(0, 1, begin, begin + 0.9)
    assert course.shares(1, None) == [(1000.0, 1.0), (1002.0, 0.25)]


def test_a_host_that_did_nothing_has_an_empty_lane() -> None:
    assert Course().shares(1, 2) == ()
