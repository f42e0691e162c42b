"""Applying events: idempotent, in any order, with counters that equal the tables."""

from __future__ import annotations

import math
import sqlite3
import statistics
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_facts import at, completed, event, failed, new_store, started

from cloud_tasks.model import FINAL_STATUSES, AttemptOutcome, Event, EventType, TaskStatus
from cloud_tasks.store import Applied, Store, iterate_tasks
from cloud_tasks.store.db.enum_codes import EVENT_TO_CODE, STATUS_OF_CODE, STATUS_TO_CODE
from cloud_tasks.store.db.quantile_sketch import bucket_of
from cloud_tasks.store.write.counters import CounterUpdates
from cloud_tasks.store.write.state_machine import is_task_event

TASKS = ("a", "b", "c")


def statuses(store: Store) -> dict[str, TaskStatus]:
    return {task_id: found[1] for task_id in TASKS if (found := store.task(task_id)) is not None}


def recount(path: Path) -> None:
    """Scan the tables and compare them with every maintained counter."""
    database = sqlite3.connect(path)
    rows = database.execute
    counters = dict(rows("SELECT name, value FROM counters"))

    def counted(prefix: str) -> dict[str, int]:
        return {name: int(value) for name, value in counters.items() if name.startswith(prefix) and value}

    status = {f"status:{code}": count for code, count in rows("SELECT status, count(*) FROM tasks GROUP BY status")}
    assert counted("status:") == status
    kinds = {f"event:{code}": count for code, count in rows("SELECT type, count(*) FROM events GROUP BY type")}
    assert counted("event:") == kinds
    task_codes = ", ".join(str(EVENT_TO_CODE[e]) for e in EventType if is_task_event(e))
    assert counters.get("unknown_task", 0) == _one(
        database, f"SELECT count(*) FROM events WHERE task IS NULL AND type IN ({task_codes})"
    )
    assert counters.get("attempts", 0) == _one(database, "SELECT count(*) FROM attempts")
    assert counters.get("losses", 0) == _one(database, "SELECT sum(losses) FROM tasks")
    assert counters.get("retries", 0) == _one(database, "SELECT sum(attempt - 1) FROM tasks")
    done = STATUS_TO_CODE[TaskStatus.COMPLETED]
    elapsed = [value for (value,) in rows("SELECT elapsed FROM tasks WHERE status = ?", (done,)) if value is not None]
    assert counters.get("elapsed:count", 0) == len(elapsed)
    if elapsed:
        assert counters["elapsed:mean"] == pytest.approx(statistics.fmean(elapsed))
        assert math.sqrt(counters["elapsed:m2"] / len(elapsed)) == pytest.approx(statistics.pstdev(elapsed), abs=1e-9)
        assert (counters["elapsed:min"], counters["elapsed:max"]) == (min(elapsed), max(elapsed))
    assert dict(rows("SELECT bucket, count FROM elapsed_sketch")) == Counter(bucket_of(value) for value in elapsed)
    running = dict(rows("SELECT host, running FROM hosts WHERE running != 0"))
    assert running == dict(rows("SELECT host, count(*) FROM attempts WHERE outcome IS NULL GROUP BY host"))
    finals = ", ".join(str(STATUS_TO_CODE[s]) for s in FINAL_STATUSES)
    finished = _one(database, f"SELECT count(*) FROM tasks WHERE status IN ({finals})")
    assert _one(database, "SELECT sum(finished) FROM hosts") == finished
    assert _one(database, "SELECT sum(completed) FROM hosts") == status.get(f"status:{done}", 0)
    database.close()


def _one(database: sqlite3.Connection, query: str) -> int:
    return database.execute(query).fetchone()[0] or 0


# -- histories -----------------------------------------------------------------------------------------------------

hosts = st.sampled_from(["h1", "h2"])
elapsed_times = st.none() | st.floats(0, 1e6)


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Any event, valid or not."""
    kind = draw(st.sampled_from(EventType))
    host = draw(hosts)
    return event(
        kind,
        draw(st.sampled_from([*TASKS, "unknown", None])),
        draw(st.integers(1, 4)),
        event_id=draw(st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)),
        timestamp=at(draw(st.integers(0, 20))),
        hostname=host,
        instance_id=draw(st.sampled_from([None, host])),
        retry=draw(st.sampled_from([None, False, True])),
        elapsed_time=draw(elapsed_times),
        details=draw(
            st.sampled_from([{}, {"exception": "boom", "exception_type": "ValueError"}, {"running_tasks": 2}])
        ),
    )


def history(task_id: str, outcomes: list[str]) -> list[Event]:
    """The events of a correct worker about one task."""
    sent: list[Event] = []
    attempt, clock = 1, 0
    for number, outcome in enumerate(outcomes):
        last = number == len(outcomes) - 1
        host = f"h{number % 2}"
        sent.append(started(task_id, attempt, timestamp=at(clock), hostname=host))
        clock += 5
        where = {"timestamp": at(clock), "hostname": host}
        if outcome == "released":
            sent.append(event(EventType.TASK_RELEASED, task_id, attempt, **where))
            continue
        if outcome == "completed":
            sent.append(completed(task_id, attempt, retry=not last, elapsed=5.0, **where))
        else:
            sent.append(failed(task_id, attempt, retry=not last, **where))
        attempt += 1
    return sent


def apply_in_batches(store: Store, sent: list[Event], cuts: list[int]) -> None:
    edges = sorted({0, len(sent), *(cut % (len(sent) + 1) for cut in cuts)})
    known_final: dict[str, TaskStatus] = {}
    for first, last in pairwise(edges):
        store.apply_events(sent[first:last])
        recount(store.path)
        now = statuses(store)
        for task_id, status in known_final.items():
            is_dead_now = status is not TaskStatus.COMPLETED and now[task_id] is TaskStatus.DEAD
            assert now[task_id] is status or is_dead_now
        known_final = {task_id: status for task_id, status in now.items() if status in FINAL_STATUSES}


@given(st.lists(events(), max_size=25), st.lists(st.integers(0, 100), max_size=3), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20)
def test_apply_events_in_any_order_keeps_counters_exact_and_terminal_states(
    tmp_path_factory: pytest.TempPathFactory, sent: list[Event], cuts: list[int], data: st.DataObject
) -> None:
    repeated = sent + (data.draw(st.lists(st.sampled_from(sent), max_size=10)) if sent else [])
    with new_store(tmp_path_factory.mktemp("apply"), TASKS) as store:
        apply_in_batches(store, list(data.draw(st.permutations(repeated))), cuts)


@given(
    st.lists(st.lists(st.sampled_from(["completed", "failed", "released"]), max_size=4), min_size=3, max_size=3),
    st.data(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20)
def test_apply_events_of_valid_histories_is_independent_of_order_and_duplicates(
    tmp_path_factory: pytest.TempPathFactory, outcomes: list[list[str]], data: st.DataObject
) -> None:
    sent = [each for task_id, steps in zip(TASKS, outcomes, strict=True) for each in history(task_id, steps)]
    with new_store(tmp_path_factory.mktemp("straight"), TASKS) as store:
        store.apply_events(sent)
        straight = statuses(store)
    repeated = sent + (data.draw(st.lists(st.sampled_from(sent), max_size=10)) if sent else [])
    shuffled = list(data.draw(st.permutations(repeated)))
    with new_store(tmp_path_factory.mktemp("shuffled"), TASKS) as store:
        apply_in_batches(store, shuffled, data.draw(st.lists(st.integers(0, 100), max_size=3)))
        found = statuses(store)
        assert {t: s for t, s in found.items() if s in FINAL_STATUSES} == {
            t: s for t, s in straight.items() if s in FINAL_STATUSES
        }
        before = store.summary()
        applied = store.apply_events(shuffled) if shuffled else Applied()
        assert applied == Applied(duplicate=len(shuffled))
        assert statuses(store) == found
        assert store.summary().events == before.events


# -- single cases --------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path, TASKS) as store:
        yield store


def test_completed_event_completes_its_task(store: Store) -> None:
    assert store.apply_events([started("a"), completed("a", elapsed=2.5, timestamp=at(3))]) == Applied(new=2)
    assert statuses(store) == {"a": TaskStatus.COMPLETED, "b": TaskStatus.PENDING, "c": TaskStatus.PENDING}
    summary = store.summary()
    assert (summary.finished_tasks, summary.remaining, summary.finished) == (1, 2, False)
    assert summary.elapsed is not None
    assert summary.elapsed.mean == 2.5
    assert summary.last_end == at(3)


def test_duplicate_batch_changes_nothing(store: Store) -> None:
    batch = [started("a"), failed("a")]
    store.apply_events(batch)
    before = store.statistics(at(0))
    assert store.apply_events(batch) == Applied(duplicate=2)
    after = store.statistics(at(0))
    assert after.failures == before.failures
    assert [(failure.summary, failure.count) for failure in after.failures] == [("ValueError: bad", 1)]
    assert after.summary.counts == before.summary.counts
    assert after.summary.duplicates == 2


def test_duplicate_event_in_one_batch_counts_once(store: Store) -> None:
    end = completed("a")
    assert store.apply_events([end, end, end]) == Applied(new=1, duplicate=2)
    assert store.summary().events[EventType.TASK_COMPLETED] == 1


def test_late_failure_is_added_to_the_history_only(store: Store) -> None:
    store.apply_events([started("a"), completed("a")])
    assert store.apply_events([failed("a", hostname="h2")]) == Applied(new=1, late=1)
    assert statuses(store)["a"] is TaskStatus.COMPLETED
    assert [attempt.outcome for attempt in store.attempts("a")] == [AttemptOutcome.COMPLETED, AttemptOutcome.EXCEPTION]
    assert store.summary().late == 1


def test_success_of_an_older_attempt_completes_a_running_task(store: Store) -> None:
    store.apply_events([started("a"), failed("a", retry=True), started("a", 2), completed("a", 1, hostname="h2")])
    assert statuses(store)["a"] is TaskStatus.COMPLETED


def test_failure_of_an_older_attempt_is_late(store: Store) -> None:
    store.apply_events([started("a"), failed("a", retry=True), started("a", 2)])
    assert store.apply_events([failed("a", 1, hostname="h2")]).late == 1
    assert statuses(store)["a"] is TaskStatus.RUNNING


def test_retry_queues_the_next_attempt(store: Store) -> None:
    store.apply_events([started("a"), failed("a", retry=True)])
    assert statuses(store)["a"] is TaskStatus.QUEUED
    (message,) = [each for each in store.unfinished() if each.task_id == "a"]
    assert (message.attempt, message.losses) == (2, 0)
    assert store.summary().retries == 1


def test_released_task_is_an_interruption_and_keeps_its_attempt_number(store: Store) -> None:
    store.apply_events([started("a"), event(EventType.TASK_RELEASED, "a", details={"cause": "spot termination"})])
    (message,) = [each for each in store.unfinished() if each.task_id == "a"]
    assert (message.attempt, message.losses) == (1, 1)
    (attempt,) = store.attempts("a")
    assert (attempt.outcome, attempt.reason) == (AttemptOutcome.LOST, "spot termination")


def test_end_event_without_start_event_adds_the_attempt(store: Store) -> None:
    store.apply_events([completed("a", elapsed=4.0, timestamp=at(10))])
    (attempt,) = store.attempts("a")
    assert (attempt.started_at, attempt.ended_at, attempt.elapsed_time) == (at(6), at(10), 4.0)
    assert store.summary().attempts == 1


def test_start_event_after_its_end_event_opens_no_attempt(store: Store) -> None:
    store.apply_events([failed("a", retry=True, timestamp=at(10)), started("a", timestamp=at(8))])
    assert len(store.attempts("a")) == 1
    assert statuses(store)["a"] is TaskStatus.QUEUED


def test_second_start_on_a_worker_ends_the_first_attempt_as_interrupted(store: Store) -> None:
    store.apply_events([started("a", timestamp=at(0)), started("a", timestamp=at(60))])
    assert [attempt.outcome for attempt in store.attempts("a")] == [AttemptOutcome.LOST, None]


def test_events_of_unknown_tasks_are_kept_and_counted(store: Store) -> None:
    assert store.apply_events([completed("unknown"), completed("a")]) == Applied(new=2, unknown_task=1)
    assert store.summary().unknown_task == 1


def test_events_of_older_workers_without_attempt_are_applied(store: Store) -> None:
    store.apply_events([event(EventType.TASK_COMPLETED, "a", None, instance_id=None, retry=False, elapsed_time=1.0)])
    assert statuses(store)["a"] is TaskStatus.COMPLETED


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("planted")

    __repr__ = __str__


ENDLESS: dict[str, object] = {}
ENDLESS["again"] = ENDLESS
ODD_FIELDS: list[dict[str, object]] = [
    {"details": ENDLESS},
    {"details": {"x": Unprintable()}},
    {"details": {"result": [Unprintable()]}},
    {"details": 5},
    {"details": {1: 2}},
    {"event_type": EventType.TASK_EXCEPTION, "details": {"exception": "caf\udce9.fits"}},
    {"event_type": EventType.TASK_EXCEPTION, "details": {"exception": Unprintable()}},
    {"event_type": EventType.TASK_EXITED, "details": {"signal": "\ud800"}},
    {"event_type": "other"},
    {"timestamp": datetime(1, 1, 1)},
    {"timestamp": datetime.max.replace(tzinfo=timezone(timedelta(hours=-23)))},
    {"timestamp": 5},
    {"event_id": None},
    {"event_id": b"x"},
    {"hostname": Unprintable()},
    {"instance_id": [1]},
    {"task_id": b"b"},
    {"attempt": 2**80},
    {"retry": Unprintable()},
    {"elapsed_time": math.nan},
    {"elapsed_time": math.inf},
    {"elapsed_time": 10**400},
]


@pytest.mark.parametrize("number", range(len(ODD_FIELDS)))
def test_apply_events_takes_any_event(store: Store, number: int) -> None:
    odd = attrs.evolve(completed("b"), **ODD_FIELDS[number])
    applied = store.apply_events([odd, completed("a"), odd])
    assert statuses(store)["a"] is TaskStatus.COMPLETED
    assert (applied.new, applied.duplicate, applied.dead_letters) in [(2, 1, 0), (1, 0, 2)]
    assert store.summary().dead_letters == applied.dead_letters
    recount(store.path)


def test_apply_events_rolls_back_a_batch_that_raises(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise TypeError("planted")

    with monkeypatch.context() as patched:
        patched.setattr(CounterUpdates, "write", refuse)
        with pytest.raises(TypeError):
            store.apply_events([completed("a")])
    assert statuses(store)["a"] is TaskStatus.PENDING
    recount(store.path)
    assert store.apply_events([completed("a")]).new == 1


def test_apply_events_of_more_tasks_than_one_statement_holds(tmp_path: Path) -> None:
    ids = [f"t{number}" for number in range(1_150)]
    with new_store(tmp_path, ids, "many.db") as store:
        store.apply_events([each for task_id in ids for each in (started(task_id), completed(task_id))])
        assert store.summary().finished
        recount(store.path)


def test_enum_codes_cover_every_status() -> None:
    assert {STATUS_OF_CODE[code] for code in STATUS_TO_CODE.values()} == set(TaskStatus)


@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize("batches", [1, 2])
def test_task_that_used_up_its_attempts_is_dead_in_status_counts_and_history(
    store: Store, is_reversed: bool, batches: int
) -> None:
    """A worker reports the end of the last attempt, then that no retry is left; they may arrive in either order."""
    exited = event(EventType.TASK_EXITED, "a", 3, retry=False, details={"exit_code": 3, "log_tail": "one\nno disk\n"})
    dead = event(EventType.TASK_DEAD, "a", 3, retry=False, details={"cause": "gave up after 3 attempts: exited"})
    store.apply_events([started("a", 3)])
    ends = [dead, exited] if is_reversed else [exited, dead]
    for batch in [ends] if batches == 1 else [[end] for end in ends]:
        store.apply_events(batch)
        recount(store.path)
    assert statuses(store)["a"] is TaskStatus.DEAD
    assert store.summary().counts[TaskStatus.DEAD] == store.summary().failed == 1
    store.apply_events([failed("b")])
    assert [(task.task_id, task.reason) for task in iterate_tasks(store.path, statuses=[TaskStatus.DEAD])] == [
        ("a", "gave up after 3 attempts: exit code 3: no disk")
    ]
    assert store.reopen_tasks([TaskStatus.DEAD]) == 1


@pytest.mark.parametrize("last", ["the task requested a retry", "returned (True, …), which requests a retry"])
def test_task_that_requested_its_last_retry_is_dead_and_its_attempt_no_interruption(store: Store, last: str) -> None:
    cause = f"gave up after 3 attempts: {last}"
    store.apply_events([started("a", 3), event(EventType.TASK_DEAD, "a", 3, retry=False, details={"cause": cause})])
    assert statuses(store)["a"] is TaskStatus.DEAD
    assert [attempt.outcome for attempt in store.attempts("a")] == [AttemptOutcome.RETRY_REQUESTED]
    (task,) = iterate_tasks(store.path, statuses=[TaskStatus.DEAD])
    assert task.reason == cause


def test_task_with_too_many_interruptions_is_dead_with_their_number(store: Store) -> None:
    for _ in range(3):
        store.apply_events([started("a"), event(EventType.TASK_RELEASED, "a", details={"cause": "the worker died"})])
    cause = {"cause": "gave up after 3 interrupted attempts (max_losses)"}
    store.apply_events([event(EventType.TASK_DEAD, "a", retry=False, details=cause)])
    (task,) = iterate_tasks(store.path, statuses=[TaskStatus.DEAD])
    assert task.reason == "gave up after 3 interrupted attempts: the worker died"
