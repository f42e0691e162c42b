"""Incremental updates of a job."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from made_jobs import at, completed, exited, failed, launch, lost, make_job, started

from cloud_tasks.errors import StoreError
from cloud_tasks.model import Event, TaskStatus
from cloud_tasks.store import Store, is_job_database
from cloud_tasks_dashboard import database as database_module
from cloud_tasks_dashboard import watch as watch_module
from cloud_tasks_dashboard.database import open_reader, signature_of
from cloud_tasks_dashboard.facts import job_facts, timeline_facts
from cloud_tasks_dashboard.watch import Watch


def random_history(tasks: int) -> list[list[Event]]:
    """Return batches of events: every outcome, on three hosts, with duplicates and in random order."""
    generator = random.Random(7)
    batches: list[list[Event]] = []
    for number in range(tasks):
        name, host, when = f"t{number}", f"h{number % 3}", 10.0 + number
        end = generator.choice(
            [
                [completed(name, when, elapsed=0.1 + number % 7, host=host)],
                [failed(name, when, message=f"bad number {number}", host=host)],
                [failed(name, when, retry=True, host=host), completed(name, when + 1, 2, host=host)],
                [exited(name, when, number % 2 + 1, host=host)],
                [lost(name, when, host=host)],
            ]
        )
        batch = [started(name, when - 1, host=host), *end]
        generator.shuffle(batch)
        batches.append([*batch, *batch[:1]])
    return batches


def counted(watch: Watch) -> Sequence[int]:
    return [sum(counts[kind] for _, counts in watch.buckets.counts()) for kind in range(3)]


def test_single_update_equals_many_updates(tmp_path: Path) -> None:
    path = make_job(tmp_path, [f"t{number}" for number in range(90)])
    often = Watch(path)
    for batch in random_history(90):
        with Store.open(path, durable=False) as store:
            store.apply_events(batch)
        often.update()
    once = Watch(path)
    once.update()
    assert job_facts(often, at(500)) == job_facts(once, at(500))
    assert timeline_facts(often, at(500)) == timeline_facts(once, at(500))
    assert sum(counted(once)) == once.ended > 90


def test_watch_counts_agree_with_the_store(tmp_path: Path) -> None:
    events = [event for batch in random_history(60) for event in batch]
    watch = Watch(make_job(tmp_path, [f"t{number}" for number in range(60)], events=events))
    counts = watch.update().summary.counts
    assert counted(watch)[0] == counts[TaskStatus.COMPLETED]
    assert sum(group.count for group in watch.failures.top(500)) == sum(counted(watch)[1:])


def test_first_update_of_a_long_history_stops_at_the_time_limit_and_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "_CHUNK", 10)
    monkeypatch.setattr(watch_module, "_TIME_LIMIT", 0.0)
    tasks = [f"t{number}" for number in range(40)]
    path = make_job(tmp_path, tasks, events=[completed(task, 5.0 + n) for n, task in enumerate(tasks)])
    watch, seen = Watch(path), []
    watch.update()
    while watch.behind is not None:
        seen.append(watch.behind)
        watch.update()
    assert seen == [(10, 40), (20, 40), (30, 40)]
    assert counted(watch)[0] == 40


def test_update_reads_only_new_events(tmp_path: Path) -> None:
    path = make_job(tmp_path, ["a", "b"], events=[completed("a", 5)])
    watch = Watch(path)
    watch.update()
    queries: list[str] = []
    with Store.open(path, durable=False) as store:
        store.apply_events([completed("b", 6)])
    with open_reader(path) as connection:
        connection.set_trace_callback(queries.append)
        watch._read(connection)
        watch._catch_up(connection)
        connection.set_trace_callback(None)
    (scan,) = [query for query in queries if "CROSS JOIN attempts" in query]
    assert "e.id > 1 AND e.id <= 2" in scan
    assert not [query for query in queries if "FROM tasks" in query]


def test_update_queries_scan_no_whole_table(tmp_path: Path) -> None:
    path = make_job(tmp_path, ["a"])
    queries: list[str] = []
    with open_reader(path) as connection:
        connection.set_trace_callback(queries.append)
        watch = Watch(path)
        watch._read(connection)
        connection.set_trace_callback(None)
        queries.append(watch_module._ENDED.replace("?", "1"))
        plans = {
            query: [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
            for query in queries
            if query.lstrip().startswith("SELECT")
        }
    for query, plan in plans.items():
        long = [step for step in plan if step.startswith("SCAN") and "attempts_running" not in step]
        assert not [step for step in long if step.split()[1] in ("tasks", "t", "events", "e", "attempts", "a")] or (
            "max(id)" in query or "LIMIT 200" in query
        )


def test_unchanged_database_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_job(tmp_path, ["a", "b"], events=[completed("a", 5)])
    monkeypatch.setattr(database_module, "_SETTLED_SECONDS", -1.0)
    watch = Watch(path)
    first = watch.update()
    with open_reader(path) as other:
        # Another reader creates an empty log while it is open.
        other.execute("SELECT * FROM job").fetchone()
        assert path.with_name("job.db-wal").exists()
        assert watch.update() is first
    with Store.open(path, durable=False) as store:
        store.apply_events([completed("b", 6)])
        assert watch.update().summary.counts[TaskStatus.COMPLETED] == 2


def test_signature_of_a_recent_change_is_not_settled(tmp_path: Path) -> None:
    path = make_job(tmp_path, ["a"])
    signature = signature_of(path)
    assert signature is not None
    assert not signature.settled
    assert not signature.same(signature)


@pytest.mark.parametrize("more", [0, 3])
def test_overwritten_database_is_read_from_its_start(tmp_path: Path, more: int) -> None:
    path = make_job(tmp_path, ["a", "b"], events=[completed("a", 5), failed("b", 6)])
    watch = Watch(path)
    watch.update()
    tasks = ["c", *(f"d{number}" for number in range(more))]
    events = [completed(task, 105, elapsed=9) for task in tasks]
    make_job(tmp_path, tasks, name="new.db", run_id="run-2", events=events, created=100).replace(path)
    snapshot = watch.update()
    assert snapshot.summary.total == 1 + more
    assert counted(watch) == [1 + more, 0, 0]
    assert [slow.seconds for slow in watch.slowest] == [9] * (1 + more)
    assert not watch.failures.top(5)


def test_update_never_blocks_a_running_controller(tmp_path: Path) -> None:
    path = make_job(tmp_path, ["a", "b"])
    watch = Watch(path)
    with Store.open(path, durable=False) as store:
        watch.update()
        store.apply_events([completed("a", 5)])
        with sqlite3.connect(path) as other:
            busy, logged, moved = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        other.close()
        assert (busy, logged, moved) == (0, 0, 0)
        assert watch.update().summary.counts[TaskStatus.COMPLETED] == 1


def test_slowest_keeps_the_slowest_attempts_only(tmp_path: Path) -> None:
    tasks = [f"t{number}" for number in range(50)]
    events = [completed(task, 100.0 + n, elapsed=float((n * 37) % 50)) for n, task in enumerate(tasks)]
    watch = Watch(make_job(tmp_path, tasks, events=events))
    watch.update()
    assert [slow.seconds for slow in watch.slowest] == [float(seconds) for seconds in range(49, 37, -1)]


def test_update_of_a_missing_database_raises_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"job database .* not found"):
        Watch(tmp_path / "none.db").update()


def test_is_job_database_recognizes_job_databases_without_opening_them(tmp_path: Path) -> None:
    path = make_job(tmp_path, ["a"])
    other_file = tmp_path / "other.db"
    with sqlite3.connect(other_file) as connection:
        connection.execute("CREATE TABLE tasks (seq)")
    connection.close()
    (tmp_path / "text.db").write_text("not a database " * 20)
    (tmp_path / "empty.db").touch()
    found = {name: is_job_database(tmp_path / name) for name in ("job.db", "other.db", "text.db", "empty.db", "no.db")}
    assert found == {"job.db": True, "other.db": False, "text.db": False, "empty.db": False, "no.db": False}
    assert is_job_database(path)


def test_is_job_database_recognizes_a_job_in_the_write_ahead_log(tmp_path: Path) -> None:
    make_job(tmp_path, ["a"])
    with Store.open(tmp_path / "job.db", durable=False) as store:
        store.apply_events([completed("a", 5)])
        assert is_job_database(store.path)
        assert Watch(store.path).update().summary.finished


def test_cost_includes_instances_until_termination(tmp_path: Path) -> None:
    path = make_job(tmp_path, ["a"])
    with Store.open(path, durable=False) as store:
        launch(store, "h1", when=0, price="3.60", ended=100)
        launch(store, "h2", when=50, price="3.60")
    facts = job_facts(Watch(path), at(150))
    assert facts["cost"]["so_far"] == pytest.approx(0.20)
    assert facts["cost"]["per_hour"] == pytest.approx(3.60)
    assert facts["money"][-1][1:] == (pytest.approx(0.20), 1, pytest.approx(3.60))
    assert facts["instances"]["alive"] == 1


def test_update_reads_the_log_of_a_killed_controller(tmp_path: Path) -> None:
    path = make_job(tmp_path, ["a", "b"])
    killed = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); from made_jobs import completed; from pathlib import Path; "
        "from cloud_tasks.store import Store; store = Store.open(Path(sys.argv[1]), durable=False); "
        "store.apply_events([completed('a', 5)]); os._exit(9)"
    )
    support = str(Path(__file__).parent / "support")
    done = subprocess.run((sys.executable, "-c", killed, str(path), support), check=False)
    assert done.returncode == 9
    assert path.with_name("job.db-wal").stat().st_size
    watch = Watch(path)
    assert watch.update().summary.counts[TaskStatus.COMPLETED] == 1
    with Store.open(path, durable=False) as store:
        store.apply_events([completed("b", 6)])
    assert watch.update().summary.finished
