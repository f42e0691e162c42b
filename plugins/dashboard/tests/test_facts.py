"""Data of a job and of the job list."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from made_jobs import at, completed, failed, launch, launched_instance, lost, make_job, started
from served import Served, serve

from cloud_tasks.model import InstanceState
from cloud_tasks.store import JobClock, JobState, Store
from cloud_tasks_dashboard import watch as watch_module
from cloud_tasks_dashboard.facts import job_facts, timeline_facts
from cloud_tasks_dashboard.watch import Watch


def test_job_facts_describe_counts_failures_and_slowest_tasks(served: Served) -> None:
    facts = served.get("api/job/job.db")
    assert (facts["total"], facts["finished"], facts["failed"]) == (3, 2, 1)
    assert facts["counts"]["running"] == 1
    assert facts["begin"] == at(0).timestamp()
    (failure,) = facts["failures"]
    assert (failure["summary"], failure["count"], failure["task_id"]) == ("ValueError: no such star", 1, "two")
    shown = served.get(f"api/job/job.db/failure?event={failure['event']}")
    assert shown["stack_trace"].startswith("Traceback")
    assert shown["log_tail"] == "looking for stars"
    (slow,) = facts["slowest"]
    assert (slow["task_id"], slow["seconds"], slow["host"]) == ("one", 2.0, "h1")


def test_timeline_includes_workers_without_instances(served: Served) -> None:
    timeline = served.get("api/job/job.db/timeline")
    (lane,) = timeline["lanes"]
    assert (lane["name"], lane["begin"]) == ("h1", None)
    bars = {bar[4]: bar for bar in timeline["bars"]}
    assert set(bars) == {"one", "two", "three"}
    assert bars["three"][2] is None
    assert bars["one"][1:4] == [at(1).timestamp(), at(3).timestamp(), 0]


def test_timeline_lane_spans_the_lifetime_of_an_instance(tmp_path: Path) -> None:
    path = make_job(tmp_path, ["a", "b"])
    with Store.open(path, durable=False) as store:
        launch(store, "h1", when=1, ended=50)
        launch(store, "h2", when=2)
        store.apply_events(
            [completed("a", 9, elapsed=3.0, host="h1"), started("b", 10, host="h2"), lost("b", 12, host="h2")]
        )
    timeline = timeline_facts(Watch(path), at(60))
    assert [(lane["name"], lane["end"]) for lane in timeline["lanes"]] == [("i-h1", at(50).timestamp()), ("i-h2", None)]
    assert [(bar[0], bar[4], bar[3]) for bar in timeline["bars"]] == [(0, "a", 0), (1, "b", 2)]
    assert timeline["end"] == at(60).timestamp()


def test_timeline_shows_utilization_for_many_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "MAX_BARS", 5)
    monkeypatch.setattr("cloud_tasks_dashboard.facts.MAX_BARS", 5)
    tasks = [f"t{number}" for number in range(20)]
    path = make_job(tmp_path, tasks)
    with Store.open(path, durable=False) as store:
        launch(store, "h1", when=0, slots=2)
        store.apply_events([completed(task, 10.0 + number, elapsed=1.0) for number, task in enumerate(tasks)])
    timeline = timeline_facts(Watch(path), at(60))
    assert not timeline["each"]
    assert timeline["bars"] == []
    (lane,) = timeline["lanes"]
    assert {share for _, share in lane["busy"]} == {0.5}


def test_timeline_omits_the_earliest_terminated_instances(tmp_path: Path) -> None:
    path = make_job(tmp_path, ["a"])
    with Store.open(path, durable=False) as store:
        for number in range(90):
            launch(store, f"m{number}", when=number, ended=None if number == 0 else number + 5.0)
        store.apply_events([completed("a", 9, host="m1")])
    timeline = timeline_facts(Watch(path), at(200))
    names = [lane["name"] for lane in timeline["lanes"]]
    assert (len(names), timeline["hidden_lanes"]) == (80, 10)
    assert "i-m0" in names
    assert "i-m1" not in names
    assert timeline["bars"] == []


def test_remaining_time_is_present_while_the_job_runs(tmp_path: Path) -> None:
    path = make_job(tmp_path, ["a", "b", "c"], events=[started("a", 10), completed("a", 20), started("b", 20)])
    with Store.open(path, durable=False):
        throughput = job_facts(Watch(path), at(30))["throughput"]
    assert job_facts(Watch(path), at(30))["throughput"] is None
    assert throughput["remaining_seconds"] == pytest.approx(40.0)
    finished = make_job(tmp_path, ["a"], name="done.db", events=[started("a", 10), completed("a", 20)])
    with Store.open(finished, durable=False) as store:
        store.set_state(JobState.FINISHED, at(20))
    assert "remaining_seconds" not in job_facts(Watch(finished), at(90))["throughput"]


def test_projection_of_a_resumed_job_refers_to_its_latest_run(tmp_path: Path) -> None:
    day, tasks = 86_400.0, [f"t{number}" for number in range(2000)]
    path = make_job(tmp_path, tasks)
    with Store.open(path, durable=False) as store:
        store.begin_run(at(0))
        launch(store, "h1", when=0, ended=6000)
        store.apply_events([completed(task, 6.0 * (number + 1)) for number, task in enumerate(tasks[:1000])])
        store.begin_run(at(day))
        launch(store, "h2", when=day)
        store.apply_events([completed(task, day + 6.0 * (number + 1)) for number, task in enumerate(tasks[1000:1100])])
        spent, price = store.spending(at(day + 600)), store.instances()[-1].price_per_hour
    with Store.open(path, durable=False):
        facts = job_facts(Watch(path), at(day + 600))
    assert facts["throughput"] == {"tasks_per_hour": pytest.approx(600.0), "remaining_seconds": pytest.approx(5400.0)}
    assert facts["cost"]["projected"] == pytest.approx(float((spent + price * 1.5).usd))


def test_projection_without_instances_is_unknown(tmp_path: Path) -> None:
    path = make_job(tmp_path, ["a", "b", "c"])
    with Store.open(path, durable=False) as store:
        store.begin_run(at(0))
        launch(store, "h1", when=0, ended=60)
        store.apply_events([completed("a", 20)])
    facts = job_facts(Watch(path), at(100))
    assert (facts["throughput"], facts["cost"]["projected"]) == (None, None)


def test_histogram_counts_every_completed_task(tmp_path: Path) -> None:
    tasks = [f"t{number}" for number in range(200)]
    path = make_job(tmp_path, tasks, events=[completed(t, 10.0, elapsed=1 + n / 10) for n, t in enumerate(tasks)])
    assert sum(count for _, _, count in job_facts(Watch(path), at(30))["histogram"]) == 200


def test_job_facts_of_a_new_job_are_empty(tmp_path: Path) -> None:
    facts = job_facts(Watch(make_job(tmp_path, ["a"])), at(5))
    assert (facts["throughput"], facts["elapsed"], facts["failures"], facts["buckets"]["counts"]) == (
        None,
        None,
        [],
        [],
    )
    assert timeline_facts(Watch(tmp_path / "job.db"), at(5))["lanes"] == []


def test_job_list_is_sorted_by_creation_latest_first(tmp_path: Path) -> None:
    make_job(tmp_path, ["a"], name="old.db", job_id="old", events=[failed("a", 1)])
    make_job(tmp_path, ["a", "b"], name="new.db", job_id="new", created=100, events=[completed("a", 101)])
    (tmp_path / "notes.db").write_text("no database")
    with serve(tmp_path) as served:
        jobs = served.get("api/jobs")["jobs"]
        assert [(job["name"], job["job_id"], job["total"], job["completed"], job["failed"]) for job in jobs] == [
            ("new.db", "new", 2, 1, 0),
            ("old.db", "old", 1, 0, 1),
        ]
        make_job(tmp_path, ["a"], name="newest.db", job_id="newest", created=200)
        assert served.get("api/jobs")["jobs"][0]["name"] == "newest.db"


def test_job_list_shows_the_reason_for_an_unreadable_database(tmp_path: Path) -> None:
    path = make_job(tmp_path, ["a"], name="broken.db")
    content = bytearray(path.read_bytes())
    content[60:64] = (99).to_bytes(4, "big")
    path.write_bytes(content)
    make_job(tmp_path, ["a"], name="good.db")
    with serve(tmp_path) as served:
        good, broken = served.get("api/jobs")["jobs"]
        assert good["name"] == "good.db"
        assert "newer version" in broken["problem"]
        answer = served.ask("api/job/broken.db")
        assert answer.status == 503
        assert "newer version" in answer.json()["error"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE job SET created_at = 253402387140.0",
        "UPDATE job SET created_at = 'soon', finished_at = 1e300, state = 'other', config = '{'",
        "UPDATE job SET job_id = x'ff'",
        "UPDATE counters SET value = 'many'",
        "DROP TABLE counters",
        "DELETE FROM job",
    ],
)
def test_job_list_shows_the_others_whatever_is_in_one_database(tmp_path: Path, statement: str) -> None:
    path = make_job(tmp_path, ["a"], name="odd.db", events=[completed("a", 1)])
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()
    make_job(tmp_path, ["a"], name="good.db")
    with serve(tmp_path) as served:
        assert {job["name"] for job in served.get("api/jobs")["jobs"]} == {"good.db", "odd.db"}
        assert served.ask("api/job/odd.db").status in (200, 503)
        assert served.ask("api/job/good.db").status == 200


@pytest.mark.parametrize(
    ("statement", "damage"),
    [
        ("DROP TABLE events", "the table events is missing"),
        ("ALTER TABLE tasks DROP COLUMN losses", "the table tasks has no column losses"),
        ("UPDATE tasks SET status = 'weird'", "the status of a task, or the number of its attempts, is invalid"),
        ("UPDATE job SET state = 'weird'", "the state of the job is unknown"),
        ("UPDATE counters SET value = 'many'", "a number of tasks is invalid"),
    ],
)
def test_job_list_reports_damage(tmp_path: Path, statement: str, damage: str) -> None:
    path = make_job(tmp_path, ["a"], name="odd.db", events=[started("a", 1)])
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)
    with serve(tmp_path) as served:
        (shown,) = served.get("api/jobs")["jobs"]
        answer = served.ask("api/job/odd.db")
    assert answer.status == 503
    for problem in (shown["problem"], answer.json()["error"]):
        assert f"odd.db: the job database is damaged: {damage}; restore a copy of it" in problem


def test_job_list_is_restricted_to_the_given_database(tmp_path: Path) -> None:
    make_job(tmp_path, ["a"], name="one.db")
    other = make_job(tmp_path, ["a"], name="other.db")
    with serve(tmp_path, other) as served:
        assert [job["name"] for job in served.get("api/jobs")["jobs"]] == ["other.db"]
        assert served.ask("api/job/one.db").status == 404


def test_fleet_facts_show_the_state_of_the_last_listing(tmp_path: Path) -> None:
    path = make_job(tmp_path, ["a", "b"])
    with Store.open(path, durable=False) as store:
        launch(store, "h1", state=InstanceState.STARTING)
        launch(store, "h2", state=InstanceState.STARTING)

        def kinds() -> dict[str, int]:
            return {kind["state"]: kind["count"] for kind in job_facts(Watch(path), at(60))["instances"]["kinds"]}

        assert kinds() == {"starting": 2}
        store.record_states([launched_instance("h1"), launched_instance("h2", state=InstanceState.STARTING)])
        assert kinds() == {"running": 1, "starting": 1}


def test_job_facts_use_the_clock_of_the_job(tmp_path: Path) -> None:
    path = make_job(tmp_path, ["a"])
    with Store.open(path, durable=False) as store:
        launch(store, "h1", when=1)
        JobClock(wall=lambda: time.time() + 7200).resume(store)
    facts = job_facts(Watch(path), now := datetime.now(UTC))
    assert abs(facts["now"] - now.timestamp() - 7200) < 60
