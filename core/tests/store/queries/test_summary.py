"""Summary, statistics and quantile sketch."""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_facts import at, completed, event, failed, new_store, started

from cloud_tasks.model import EventType, TaskStatus
from cloud_tasks.store.db.quantile_sketch import RELATIVE_ERROR, bucket_of, percentiles, percentiles_of_sketch, value_of


def test_elapsed_statistics_describe_completed_tasks(tmp_path: Path) -> None:
    chance = random.Random(7)
    values = [chance.lognormvariate(0, 2) for _ in range(501)]
    with new_store(tmp_path, [f"t{n}" for n in range(510)]) as store:
        for first in range(0, 501, 100):
            store.apply_events([completed(f"t{n}", elapsed=values[n]) for n in range(first, min(first + 100, 501))])
        store.apply_events([failed("t505")])
        exact = store.statistics(at(0)).elapsed
        sketched = store.summary().elapsed
    assert exact is not None
    assert sketched is not None
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    assert (exact.count, exact.minimum, exact.maximum) == (501, min(values), max(values))
    assert exact.mean == pytest.approx(statistics.fmean(values))
    assert exact.deviation == pytest.approx(statistics.pstdev(values))
    assert (exact.median, exact.percentile_90, exact.percentile_95) == pytest.approx((cuts[9], cuts[17], cuts[18]))
    assert (sketched.exact, exact.exact) == (False, True)
    for name in ("median", "percentile_90", "percentile_95"):
        # The sketch does not interpolate between neighbours: a little more than its own error.
        assert getattr(sketched, name) == pytest.approx(getattr(exact, name), rel=0.05)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_elapsed_statistics_of_few_values(tmp_path: Path, count: int) -> None:
    values = [3.0, 1.0, 2.0][:count]
    with new_store(tmp_path, ["t0", "t1", "t2"]) as store:
        store.apply_events([completed(f"t{n}", elapsed=value) for n, value in enumerate(values)])
        elapsed = store.statistics(at(0)).elapsed
    assert elapsed is not None
    assert elapsed.median == statistics.median(values)
    assert elapsed.percentile_95 <= elapsed.maximum


def test_elapsed_statistics_without_completed_tasks_are_none(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a"]) as store:
        store.apply_events([started("a"), failed("a", retry=True)])
        assert store.summary().elapsed is None
        assert store.statistics(at(0)).elapsed is None


def test_exceptions_are_grouped_most_frequent_first(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a", "b", "c"]) as store:
        store.apply_events([failed("a", message="x"), failed("b", message="y"), failed("c", message="y")])
        found = store.statistics(at(0))
    assert [(failure.summary, failure.count) for failure in found.failures] == [
        ("ValueError: y", 2),
        ("ValueError: x", 1),
    ]
    assert (found.failure_kinds, found.failed_task) == (2, "a")


def test_exceptions_are_limited_to_the_most_frequent(tmp_path: Path) -> None:
    ids = [f"t{n}" for n in range(150)]
    with new_store(tmp_path, ids) as store:
        store.apply_events([failed(task_id, message="x" * (number + 1)) for number, task_id in enumerate(ids)])
        found = store.statistics(at(0))
    assert len(found.failures) == 100
    assert found.failure_kinds == 150


def test_dead_letter_counts_messages_and_keeps_the_latest(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        for _ in range(3):
            store.dead_letter([(b"{", "not JSON")], at(0))
        assert store.summary().dead_letters == 3


def test_summary_counts_every_status_and_event(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a", "b"]) as store:
        store.apply_events([started("a"), event(EventType.KEEP_ALIVE)])
        summary = store.summary()
    assert summary.counts == dict.fromkeys(TaskStatus, 0) | {TaskStatus.RUNNING: 1, TaskStatus.PENDING: 1}
    assert {kind: count for kind, count in summary.events.items() if count} == {
        EventType.TASK_STARTED: 1,
        EventType.KEEP_ALIVE: 1,
    }
    assert set(summary.events) == set(EventType)


# -- quantile sketch -----------------------------------------------------------------------------------------------

positive = st.floats(1e-6, 1e9)


@given(positive)
def test_bucket_value_is_within_the_relative_error(value: float) -> None:
    assert value_of(bucket_of(value)) == pytest.approx(value, rel=RELATIVE_ERROR * 1.001)


@given(st.lists(positive, min_size=1, max_size=50), st.floats(0, 1))
def test_percentiles_of_sketch_are_near_the_exact_ranks(values: list[float], fraction: float) -> None:
    found = percentiles_of_sketch(Counter(bucket_of(value) for value in values), (fraction,))[0]
    exact = sorted(values)[math.floor(fraction * (len(values) - 1))]
    assert found == pytest.approx(exact, rel=RELATIVE_ERROR * 1.001)


@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=50))
def test_percentiles_equal_those_of_the_statistics_module(values: list[float]) -> None:
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    assert percentiles(sorted(values), (0.5, 0.9), len(values)) == pytest.approx([cuts[9], cuts[17]])


@pytest.mark.parametrize("of", [lambda: percentiles([], (0.5,), 0), lambda: percentiles_of_sketch({}, (0.5,))])
def test_percentiles_of_no_values_raise(of: object) -> None:
    assert callable(of)
    with pytest.raises(ValueError, match="no values"):
        of()


def test_elapsed_times_counts_completed_tasks_by_time(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a", "b", "c"]) as store:
        store.apply_events([completed("a", elapsed=10.0), completed("b", elapsed=10.0), completed("c", elapsed=99.0)])
        times = store.elapsed_times()
        assert sorted(times.values()) == [1, 2]
        assert sum(value * count for value, count in times.items()) / 3 == pytest.approx(119 / 3, rel=0.02)
