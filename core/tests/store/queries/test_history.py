"""The history and the timeline of a job."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_facts import at, completed, event, failed, instance, launch_request, new_store, started

from cloud_tasks.model import AttemptOutcome, EventType, TaskStatus
from cloud_tasks.store import JobState
from cloud_tasks.store.queries.history import iterate_attempts, iterate_events, iterate_tasks, slowest_tasks
from cloud_tasks.store.queries.timeline import read_elapsed_histogram, read_timeline


def test_iterate_events_returns_events_as_applied(tmp_path: Path) -> None:
    events = [
        event(EventType.WORKER_STARTED, details={"slots": 2}, timestamp=at(0)),
        started("a", timestamp=at(1), details={"slot": 1}),
        failed("a", retry=True, timestamp=at(2)),
        completed("unknown", timestamp=at(3), details={"result": [1, None]}),
        event(EventType.KEEP_ALIVE, timestamp=at(4), instance_id=None),
    ]
    with new_store(tmp_path, ["a", "b"]) as store:
        store.apply_events(events)
        assert list(iterate_events(tmp_path / "job.db")) == events
        assert list(iterate_events(tmp_path / "job.db", after=3)) == events[3:]
        assert list(iterate_events(tmp_path / "job.db", task_id="a")) == events[1:3]
        assert list(iterate_events(tmp_path / "job.db", task_id="unknown")) == [events[3]]
        assert list(iterate_events(tmp_path / "job.db", task_id="b")) == []


def test_iterate_tasks_returns_the_result_of_the_completing_attempt(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a", "b"]) as store:
        store.apply_events([completed("a", retry=True, details={"result": "not yet"}), failed("b", hostname="h2")])
        store.apply_events([completed("a", attempt=2, details={"result": "there"})])
    one, two = iterate_tasks(tmp_path / "job.db")
    assert (one.task_id, one.status, one.attempt, one.result, one.data) == (
        "a",
        TaskStatus.COMPLETED,
        2,
        "there",
        {"of": "a"},
    )
    assert (two.status, two.hostname, two.reason, two.result) == (TaskStatus.FAILED, "h2", "ValueError: bad", None)
    assert [task.task_id for task in iterate_tasks(tmp_path / "job.db", statuses=[TaskStatus.FAILED])] == ["b"]


def test_iterate_attempts_equals_the_attempts_of_each_task(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a", "b"]) as store:
        store.apply_events([started("a"), failed("a", retry=True), started("a", 2), completed("b")])
        records = {name: store.attempts(name) for name in ("a", "b")}
    found = list(iterate_attempts(tmp_path / "job.db"))
    assert [each.task_id for each in found] == ["a", "a", "b"]
    assert tuple(each.record for each in found) == (*records["a"], *records["b"])
    assert [each.record.outcome for each in iterate_attempts(tmp_path / "job.db", task_id="a")] == [
        AttemptOutcome.EXCEPTION,
        None,
    ]
    assert found[0].details["exception"] == "bad"


def test_slowest_tasks_come_first(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a", "b", "c"]) as store:
        store.apply_events([completed("a", elapsed=1), completed("b", elapsed=3), completed("c", elapsed=2)])
    assert [task.task_id for task in slowest_tasks(tmp_path / "job.db", limit=2)] == ["b", "c"]


def test_failures_are_grouped_with_the_latest_attempt_as_example(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a", "b", "c"]) as store:
        store.apply_events([failed("a", message="rare"), failed("b"), failed("c", retry=True), failed("c", attempt=2)])
        first, second = store.statistics(at(0)).failures
    assert (first.summary, first.count, first.task_id) == ("ValueError: bad", 3, "c")
    assert (second.summary, second.count, second.task_id) == ("ValueError: rare", 1, "a")


def test_timeline_counts_tasks_and_instances_by_bucket(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a", "b", "c"]) as store:
        store.record_intents([launch_request("k1", price="2")], at(0), slots=1)
        store.record_launched("k1", instance("i1", "k1"), at(25))
        store.record_ended("i1", at(75), "done")
        store.apply_events([completed("a", timestamp=at(30)), failed("b", timestamp=at(60))])
        store.apply_events([completed("c", timestamp=at(100))])
        store.set_state(JobState.FINISHED, at(100))
    timeline = read_timeline(tmp_path / "job.db", at(9999), buckets=4)
    assert (timeline.begin, timeline.end) == (at(0), at(100))
    assert [bucket.completed for bucket in timeline.buckets] == [0, 1, 0, 1]
    assert [bucket.failed for bucket in timeline.buckets] == [0, 0, 1, 0]
    assert [bucket.instances for bucket in timeline.buckets] == pytest.approx([0, 1, 1, 0])
    assert [bucket.price_per_hour for bucket in timeline.buckets] == pytest.approx([0, 2, 2, 0])
    assert [bucket.begin for bucket in timeline.buckets] == [at(0), at(25), at(50), at(75)]


def test_timeline_ends_now_with_a_running_instance_and_else_at_the_last_heartbeat(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a"]) as store:
        store.apply_events([started("a", timestamp=at(10))])
        assert read_timeline(tmp_path / "job.db", at(500)).end == at(10)
        store.record_intents([launch_request("k1")], at(0), slots=1)
        store.record_launched("k1", instance("i1", "k1"))
        assert read_timeline(tmp_path / "job.db", at(500)).end == at(500)


def test_timeline_of_a_new_job_has_no_buckets(tmp_path: Path) -> None:
    new_store(tmp_path, ["a"]).close()
    timeline = read_timeline(tmp_path / "job.db", at(0))
    assert (timeline.begin, timeline.end, timeline.buckets) == (at(0), at(0), ())
    assert read_elapsed_histogram(tmp_path / "job.db") == ()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=30), st.integers(1, 7))
def test_histogram_and_timeline_include_every_task(
    tmp_path_factory: pytest.TempPathFactory, elapsed: list[float], bars: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    names = [f"t{number}" for number in range(len(elapsed))]
    with new_store(folder, names) as store:
        store.apply_events(
            [completed(name, elapsed=took, timestamp=at(took)) for name, took in zip(names, elapsed, strict=True)]
        )
    histogram = read_elapsed_histogram(folder / "job.db", bars=bars)
    assert sum(count for _, _, count in histogram) == len(elapsed)
    assert (histogram[0][0], histogram[-1][1]) == pytest.approx((min(elapsed), max(elapsed)))
    timeline = read_timeline(folder / "job.db", at(0), buckets=bars)
    assert sum(bucket.completed for bucket in timeline.buckets) == len(elapsed)
