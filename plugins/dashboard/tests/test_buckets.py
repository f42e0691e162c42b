"""Finished attempts over time."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks_dashboard.buckets import KINDS, MAX_BUCKETS, AttemptBuckets

moments = st.floats(min_value=1e9, max_value=1e9 + 40_000_000)


@given(st.lists(st.tuples(moments, st.integers(0, len(KINDS) - 1)), max_size=60))
def test_buckets_stay_bounded_and_count_every_attempt(ends: list[tuple[float, int]]) -> None:
    buckets = AttemptBuckets()
    for at, kind in ends:
        buckets.add(kind, 1, at, at)
    steps = buckets.counts()
    assert len(steps) <= MAX_BUCKETS
    assert [sum(counts[kind] for _, counts in steps) for kind in range(len(KINDS))] == [
        sum(1 for _, each in ends if each == kind) for kind in range(len(KINDS))
    ]
    if steps:
        assert steps[-1][0] - steps[0][0] < MAX_BUCKETS * buckets.width
    for at, kind in ends:
        assert any(begin <= at < begin + buckets.width and counts[kind] for begin, counts in steps)


@given(st.lists(st.tuples(moments, st.floats(0.001, 200_000)), max_size=40))
def test_utilization_adds_up_to_the_time_worked(runs: list[tuple[float, float]]) -> None:
    buckets = AttemptBuckets()
    for begin, seconds in runs:
        buckets.add(0, 7, begin, begin + seconds)
    enough = len(runs) + 1
    worked = sum(share * buckets.width * enough for _, share in buckets.utilization(7, enough))
    assert math.isclose(worked, sum(seconds for _, seconds in runs), rel_tol=1e-6, abs_tol=1e-3)


def test_utilization_is_at_most_1() -> None:
    buckets = AttemptBuckets()
    for _ in range(5):
        buckets.add(0, 1, 1000.0, 1001.0)
    assert buckets.utilization(1, 2) == [(1000.0, 1.0)]


def test_utilization_without_slots_is_relative_to_the_busiest_bucket() -> None:
    buckets = AttemptBuckets()
    for begin in (1000.0, 1000.0, 1000.0, 1000.0, 1002.0):
        buckets.add(0, 1, begin, begin + 0.9)
    assert buckets.utilization(1, None) == [(1000.0, 1.0), (1002.0, 0.25)]


def test_utilization_of_an_unknown_host_is_empty() -> None:
    assert AttemptBuckets().utilization(1, 2) == ()
