"""Throughput, time left and projected cost of a job: those of the current run."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from store_facts import JOB, at, completed, failed, instance, launch_request, new_store, started

from cloud_tasks.model import Money, TaskStatus
from cloud_tasks.store import JobState, JobSummary, Store, Throughput, projected_cost, run_time, throughput

DAY = 86_400.0
MINUTE = 60.0


def end_tasks(store: Store, tasks: range, begin: float, seconds: float) -> None:
    """Complete these tasks at equal intervals in the seconds after ``begin``."""
    store.apply_events(
        [
            completed(f"t{number}", timestamp=at(begin + seconds * (place + 1) / len(tasks)))
            for place, number in enumerate(tasks)
        ]
    )


def launch(store: Store, name: str, begin: float, *, price: str = "2", end: float | None = None) -> None:
    store.record_intents([launch_request(name, price=price)], at(begin), slots=4)
    store.record_launched(name, instance(name, name, created=begin))
    if end is not None:
        store.record_ended(name, at(end), "the job was stopped")


def a_store(folder: Path, count: int) -> Store:
    return new_store(folder, [f"t{number}" for number in range(count)])


def projection(store: Store, now: datetime) -> tuple[float, timedelta, Money | None]:
    summary = store.summary()
    rate = throughput(summary, now)
    assert rate is not None
    return (
        round(rate.tasks_per_hour, 6),
        timedelta(seconds=round(rate.remaining_time.total_seconds(), 3)),
        projected_cost(summary, rate, accrued=Money(10), price_per_hour=Money(2)),
    )


def test_throughput_after_a_pause_counts_this_run_only(tmp_path: Path) -> None:
    with a_store(tmp_path, 2000) as store:
        store.begin_run(at(0))
        launch(store, "yesterday", 0, end=100 * MINUTE)
        end_tasks(store, range(1000), 0, 100 * MINUTE)
        store.begin_run(at(DAY))
        launch(store, "today", DAY)
        end_tasks(store, range(1000, 1100), DAY, 10 * MINUTE)
        now = at(DAY + 10 * MINUTE)
        assert projection(store, now) == (600.0, timedelta(minutes=90), Money(13))
        assert run_time(store.summary(), now) == timedelta(minutes=10)


def test_throughput_of_a_third_run_counts_neither_of_the_first_two(tmp_path: Path) -> None:
    with a_store(tmp_path, 100) as store:
        for run, count in enumerate((40, 10)):
            store.begin_run(at(run * DAY))
            end_tasks(store, range(run * 40, run * 40 + count), run * DAY, 60 * MINUTE)
        store.begin_run(at(2 * DAY))
        assert store.summary().finished_before == 50
        end_tasks(store, range(50, 60), 2 * DAY, 30 * MINUTE)
        assert projection(store, at(2 * DAY + 30 * MINUTE))[:2] == (20.0, timedelta(hours=2))


def test_throughput_of_a_pass_over_failed_tasks_counts_the_pass_only(tmp_path: Path) -> None:
    with a_store(tmp_path, 20) as store:
        store.begin_run(at(0))
        store.apply_events([failed(f"t{number}", timestamp=at(MINUTE)) for number in range(8)])
        end_tasks(store, range(8, 20), 0, 2 * MINUTE)
        store.reopen_tasks([TaskStatus.FAILED])
        store.begin_run(at(DAY))
        launch(store, "i1", DAY)
        assert store.summary().finished_before == 12
        store.apply_events([completed(f"t{number}", 2, timestamp=at(DAY + MINUTE)) for number in range(2)])
        assert projection(store, at(DAY + 60 * MINUTE))[:2] == (2.0, timedelta(hours=3))


def test_throughput_excludes_tasks_that_finished_between_runs(tmp_path: Path) -> None:
    """The instances of a killed controller continue; the next controller reads all their events at once."""
    with a_store(tmp_path, 100) as store:
        store.begin_run(at(0))
        launch(store, "i1", 0)
        end_tasks(store, range(10), 0, 10 * MINUTE)
        store.begin_run(at(5 * 60 * MINUTE))
        end_tasks(store, range(10, 50), 10 * MINUTE, 60 * MINUTE)
        now = at(5 * 60 * MINUTE + 10)
        assert (store.summary().finished_before, throughput(store.summary(), now)) == (50, None)
        end_tasks(store, range(50, 60), 5 * 60 * MINUTE, 30 * MINUTE)
        now = at(5 * 60 * MINUTE + 30 * MINUTE)
        assert projection(store, now)[:2] == (20.0, timedelta(hours=2))


def test_throughput_of_a_new_run_starts_with_the_run(tmp_path: Path) -> None:
    with a_store(tmp_path, 30) as store:
        store.begin_run(at(0))
        assert throughput(store.summary(), at(MINUTE)) is None
        store.apply_events([started("t0", timestamp=at(MINUTE))])
        assert throughput(store.summary(), at(2 * MINUTE)) is None
        end_tasks(store, range(10), 0, 60 * MINUTE)
        assert projection(store, at(60 * MINUTE))[:2] == (10.0, timedelta(hours=2))


def test_throughput_of_a_finished_job_is_constant_with_no_time_left(tmp_path: Path) -> None:
    with a_store(tmp_path, 30) as store:
        store.begin_run(at(0))
        launch(store, "i1", 0, end=61 * MINUTE)
        end_tasks(store, range(30), 0, 60 * MINUTE)
        for now in (at(60 * MINUTE), at(DAY)):
            assert projection(store, now) == (30.0, timedelta(0), Money(10))
        store.set_state(JobState.FINISHED, at(62 * MINUTE))
        assert run_time(store.summary(), at(DAY)) == timedelta(minutes=62)
        store.begin_run(at(DAY))
        summary = store.summary()
        assert throughput(summary, at(DAY + 1)) is None
        assert projected_cost(summary, None, accrued=Money(10), price_per_hour=Money(2)) == Money(10)


def test_throughput_is_unknown_without_instances(tmp_path: Path) -> None:
    with a_store(tmp_path, 30) as store:
        store.begin_run(at(0))
        launch(store, "i1", 0, end=30 * MINUTE)
        end_tasks(store, range(10), 0, 30 * MINUTE)
        summary = store.summary()
        assert throughput(summary, at(31 * MINUTE)) is None
        assert projected_cost(summary, None, accrued=Money(10), price_per_hour=Money.zero()) is None
        assert run_time(summary, at(DAY)) == timedelta(minutes=30)
        launch(store, "i2", 40 * MINUTE)
        assert projection(store, at(60 * MINUTE))[0] == 10.0


def test_throughput_of_manual_workers_is_unknown_without_recent_tasks(tmp_path: Path) -> None:
    with a_store(tmp_path, 30) as store:
        store.begin_run(at(0))
        end_tasks(store, range(10), 0, 30 * MINUTE)
        assert throughput(store.summary(), at(35 * MINUTE)) is not None
        assert throughput(store.summary(), at(DAY)) is None
        store.apply_events([started("t11", timestamp=at(DAY))])
        assert throughput(store.summary(), at(DAY)) is not None


def test_throughput_is_unknown_when_the_clock_was_set_back(tmp_path: Path) -> None:
    with a_store(tmp_path, 30) as store:
        store.begin_run(at(DAY))
        end_tasks(store, range(10), DAY, MINUTE)
        for now in (at(0), at(DAY)):
            assert throughput(store.summary(), now) is None
            assert run_time(store.summary(), now) == timedelta(0)


def test_throughput_without_a_recorded_run_starts_with_the_first_task(tmp_path: Path) -> None:
    """Case: a database of a version that did not record runs."""
    with a_store(tmp_path, 30) as store:
        store.apply_events([started("t0", timestamp=at(0))])
        end_tasks(store, range(10), 0, 60 * MINUTE)
    with sqlite3.connect(tmp_path / "job.db") as connection:
        names = connection.execute("SELECT name FROM counters WHERE name LIKE 'run:%'").fetchall()
    connection.close()
    assert names == []
    with Store.open(tmp_path / "job.db", read_only=True) as reader:
        assert projection(reader, at(60 * MINUTE))[0] == 10.0
    with Store.open(tmp_path / "job.db") as store:
        store.begin_run(at(DAY))
        end_tasks(store, range(10, 20), DAY, 30 * MINUTE)
        assert projection(store, at(DAY + 30 * MINUTE))[0] == 20.0


def test_run_start_survives_reopening(tmp_path: Path) -> None:
    with a_store(tmp_path, 5) as store:
        end_tasks(store, range(2), 0, MINUTE)
        store.begin_run(at(DAY))
        expected = store.summary()
    with Store.open(tmp_path / "job.db", read_only=True) as reader:
        assert reader.summary() == expected
    assert (expected.run_started_at, expected.finished_before) == (at(DAY), 2)


moments = st.none() | st.floats(0, 1e6).map(at)


@given(
    finished=st.integers(0, 50),
    remaining=st.integers(0, 50),
    before=st.integers(0, 60),
    live=st.none() | st.integers(0, 3),
    begin=moments,
    first=moments,
    last=moments,
    now=st.floats(0, 1e6).map(at),
)
def test_throughput_is_unknown_or_finite_and_positive(
    finished: int,
    remaining: int,
    before: int,
    live: int | None,
    begin: datetime | None,
    first: datetime | None,
    last: datetime | None,
    now: datetime,
) -> None:
    counts = dict.fromkeys(TaskStatus, 0) | {TaskStatus.COMPLETED: finished, TaskStatus.QUEUED: remaining}
    summary = JobSummary(
        job=JOB,
        total=finished + remaining,
        counts=counts,
        events={},
        first_start=first,
        last_end=last,
        run_started_at=begin,
        finished_before=before,
        live_instances=live,
    )
    rate = throughput(summary, now)
    assert run_time(summary, now) >= timedelta(0)
    if rate is not None:
        assert isinstance(rate, Throughput)
        assert 0 < rate.tasks_per_hour < float("inf")
        assert rate.remaining_time >= timedelta(0)
        assert finished > before
        assert live != 0 or remaining == 0
