"""Whether a controller is at work on a job, as the lock of its database shows it."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from store_facts import at, completed, failed, instance, launch_request, new_store, started

from cloud_tasks.errors import StoreError
from cloud_tasks.store import ActivityState, JobState, Store, read_activity, throughput
from cloud_tasks.store.db.writer_lock import WriterLock, writer_of

NOW = at(1000)


def activity(folder: Path) -> tuple[ActivityState, object, int | None]:
    with Store.open(folder / "job.db", read_only=True) as store:
        found = read_activity(store.path, store.summary(), NOW)
    return found.state, found.since, found.pid


def run_of_a_controller(folder: Path) -> Store:
    store = new_store(folder, ["a", "b"])
    store.set_state(JobState.RUNNING, at(0))
    store.begin_run(at(10))
    store.record_intents([launch_request("k")], at(11), slots=1)
    store.record_launched("k", instance("i", "k", created=12))
    store.apply_events([started("a", timestamp=at(20))])
    return store


def test_activity_is_running_while_the_database_is_locked(tmp_path: Path) -> None:
    with run_of_a_controller(tmp_path):
        assert activity(tmp_path) == (ActivityState.RUNNING, at(10), os.getpid())


def test_activity_after_a_crash_is_no_controller_since_it_was_last_seen(tmp_path: Path) -> None:
    store = run_of_a_controller(tmp_path)
    store.record_alive(at(500))
    store.close()
    assert activity(tmp_path) == (ActivityState.NO_CONTROLLER, at(500), None)


def test_activity_after_a_crash_counts_applied_events_as_signs_of_the_controller(tmp_path: Path) -> None:
    store = run_of_a_controller(tmp_path)
    store.record_alive(at(500))
    store.apply_events([completed("a", timestamp=at(530))])
    store.close()
    assert activity(tmp_path) == (ActivityState.NO_CONTROLLER, at(530), None)


def test_activity_never_shows_a_time_in_the_future(tmp_path: Path) -> None:
    store = run_of_a_controller(tmp_path)
    store.apply_events([completed("a", timestamp=at(5000))])
    store.close()
    state, since, _ = activity(tmp_path)
    assert (state, since) == (ActivityState.NO_CONTROLLER, at(0))


def test_activity_ignores_the_lock_file_of_a_killed_process_whose_pid_is_used_again(tmp_path: Path) -> None:
    run_of_a_controller(tmp_path).close()
    (tmp_path / "job.db.lock").write_text(f"{os.getpid()}\n")
    assert activity(tmp_path)[0] is ActivityState.NO_CONTROLLER
    assert writer_of(tmp_path / "job.db") is None


def test_activity_is_running_for_a_lock_of_another_process(tmp_path: Path) -> None:
    run_of_a_controller(tmp_path).close()
    code = (
        f"import fcntl, os; f = os.open({str(tmp_path / 'job.db.lock')!r}, os.O_RDWR | os.O_CREAT); fcntl.flock(f, 2); "
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code + "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdout.readline()
        assert activity(tmp_path) == (ActivityState.RUNNING, at(10), 0)
    finally:
        process.communicate(b"\n")
    assert activity(tmp_path)[0] is ActivityState.NO_CONTROLLER


def test_activity_of_a_run_that_left_instances_is_no_controller(tmp_path: Path) -> None:
    store = run_of_a_controller(tmp_path)
    store.end_run(at(600))
    store.close()
    assert activity(tmp_path) == (ActivityState.NO_CONTROLLER, at(600), None)


def test_activity_of_a_run_that_terminated_its_instances_is_stopped(tmp_path: Path) -> None:
    store = run_of_a_controller(tmp_path)
    store.record_ended("i", at(590), "stopped")
    store.end_run(at(600))
    store.close()
    assert activity(tmp_path) == (ActivityState.STOPPED, at(600), None)
    with Store.open(tmp_path / "job.db") as store:
        store.begin_run(at(700))
    assert activity(tmp_path)[0] is ActivityState.NO_CONTROLLER


def test_activity_of_a_finished_job_is_finished_at_its_end(tmp_path: Path) -> None:
    store = run_of_a_controller(tmp_path)
    store.apply_events([completed("a", timestamp=at(30)), failed("b", timestamp=at(40))])
    store.set_state(JobState.FINISHED, at(50))
    store.close()
    assert activity(tmp_path) == (ActivityState.FINISHED, at(50), None)


def test_throughput_is_none_without_a_controller(tmp_path: Path) -> None:
    store = run_of_a_controller(tmp_path)
    store.apply_events([completed("a", timestamp=at(30))])
    with store:
        here = read_activity(store.path, store.summary(), NOW)
        assert throughput(store.summary(), NOW, activity=here) == throughput(store.summary(), NOW) is not None
    with Store.open(tmp_path / "job.db", read_only=True) as store:
        gone = read_activity(store.path, store.summary(), NOW)
        assert throughput(store.summary(), NOW, activity=gone) is None


def test_reading_the_holder_never_makes_a_controller_fail(tmp_path: Path) -> None:
    database = tmp_path / "job.db"
    code = f"""
import sys
from pathlib import Path
from cloud_tasks.store.db.writer_lock import writer_of
print(flush=True)
while not Path({str(tmp_path / "stop")!r}).exists():
    writer_of(Path({str(database)!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        for _ in range(200):
            WriterLock(database).release()
    finally:
        (tmp_path / "stop").touch()
        process.communicate()
    lock = WriterLock(database)
    with pytest.raises(StoreError, match="in use by another"):
        WriterLock(database)
    lock.release()


def test_throughput_follows_the_latest_minutes(tmp_path: Path) -> None:
    """300 tasks in the first hour, then 300 in ten minutes: the present speed is 1,800 tasks an hour."""
    with new_store(tmp_path, [f"t{n}" for n in range(2000)]) as store:
        store.begin_run(at(0))
        store.record_intents([launch_request("k")], at(0), slots=1)
        store.record_launched("k", instance("i", "k", created=0))
        store.apply_events([completed(f"t{n}", timestamp=at(12 * (n + 1))) for n in range(300)])
        store.apply_events([completed(f"t{300 + n}", timestamp=at(3600 + 2 * (n + 1))) for n in range(300)])
        found = throughput(store.summary(), at(4200))
        assert found is not None
        assert found.tasks_per_hour == pytest.approx(1800, rel=0.06)
        assert found.remaining_time == pytest.approx(timedelta(seconds=2800), rel=0.06)


def test_throughput_of_rare_tasks_covers_the_time_of_a_hundred(tmp_path: Path) -> None:
    with new_store(tmp_path, [f"t{n}" for n in range(2000)]) as store:
        store.begin_run(at(0))
        store.record_intents([launch_request("k")], at(0), slots=1)
        store.record_launched("k", instance("i", "k", created=0))
        store.apply_events([completed(f"t{n}", timestamp=at(60 * (n + 1))) for n in range(300)])
        found = throughput(store.summary(), at(18_000))
        assert found is not None
        assert found.tasks_per_hour == pytest.approx(60, rel=0.03)


def test_backlog_of_events_is_no_speed_whenever_it_is_collected(tmp_path: Path) -> None:
    """A controller resumed after an hour collects at once what finished meanwhile, then keeps up."""
    with new_store(tmp_path, [f"t{n}" for n in range(9000)]) as store:
        store.begin_run(at(0))
        store.record_intents([launch_request("k")], at(0), slots=1)
        store.record_launched("k", instance("i", "k", created=0))
        store.begin_run(at(3600))
        store.apply_events([completed(f"t{n}", timestamp=at(n + 1)) for n in range(3599)])
        assert throughput(store.summary(), at(3601)) is None
        store.apply_events([completed(f"t{n}", timestamp=at(n + 1)) for n in range(3600, 3630)])
        found = throughput(store.summary(), at(3630))
        assert found is not None
        assert found.tasks_per_hour == pytest.approx(3600, rel=0.05)


def test_recent_ends_are_bounded(tmp_path: Path) -> None:
    with new_store(tmp_path, [f"t{n}" for n in range(1000)]) as store:
        store.begin_run(at(0))
        for first in range(0, 1000, 100):
            store.apply_events([completed(f"t{n}", timestamp=at(60 * n)) for n in range(first, first + 100)])
        assert len(store.summary().recent_ends) == 240


def test_activity_of_a_monitor_that_was_interrupted_is_no_controller(tmp_path: Path) -> None:
    """Workers that were started by hand may go on; their events wait in the queue."""
    with new_store(tmp_path, ["a"]) as store:
        store.set_state(JobState.RUNNING, at(0))
        store.begin_run(at(10))
        store.end_run(at(20))
    assert activity(tmp_path) == (ActivityState.NO_CONTROLLER, at(20), None)
