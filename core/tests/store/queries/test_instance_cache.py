"""What is kept in memory of instances, counts and summary equals what the tables say, whatever was written."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_facts import JOB, at, completed, event, instance, launch_request, new_store, started

from cloud_tasks.errors import StoreError
from cloud_tasks.model import EventType, InstanceState, Money, Task, TaskStatus
from cloud_tasks.store import Store

TASKS = ["a", "b", "c"]
_numbers = st.integers(0, 3)
_steps = st.lists(
    st.tuples(
        st.sampled_from(["intents", "launched", "failed", "seen", "ended", "events", "reset", "read"]),
        _numbers,
        _numbers,
    ),
    max_size=25,
)


def step(store: Store, kind: str, number: int, other: int) -> None:
    """One write of some kind."""
    name, token = f"i{number}", f"t{number}"
    match kind:
        case "intents":
            requests = [launch_request(f"t{n}", price="0.36") for n in {number, other}]
            store.record_intents(requests, at(number), slots=2)
        case "launched":
            store.record_launched(token, instance(name, token, created=number))
        case "failed":
            store.record_launch_failed(token, "no capacity")
        case "seen":
            shown = list(InstanceState)[other % len(InstanceState)]
            store.record_states([instance(name, token, state=shown), instance(f"i{other}", f"t{other}")])
        case "ended":
            store.record_ended(name, at(60 + other), "it went")
        case "events":
            task = TASKS[other % len(TASKS)]
            extra = {"instance_id": name, "hostname": f"h{number}"}
            store.apply_events([started(task, **extra), event(EventType.KEEP_ALIVE, **extra)])
            if other == 0:
                store.apply_events([completed(task, **extra)])
        case "reset":
            store.reset_for_requeue()
        case "read":
            store.instances()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_steps)
def test_memory_and_tables_never_differ(steps: list[tuple[str, int, int]], tmp_path: Path) -> None:
    path = tmp_path / "job.db"
    with Store.create(path, JOB, overwrite=True, durable=False) as store:
        _load(store)
        for kind, number, other in steps:
            step(store, kind, number, other)
            if kind != "read":
                continue
            with Store.open(path, read_only=True) as fresh:
                assert store.instances() == fresh.instances()
        with Store.open(path, read_only=True) as fresh:
            assert store.instances() == fresh.instances()
            assert store.summary() == fresh.summary()
            assert store.counts() == fresh.summary().counts
            assert store.remaining() == fresh.summary().remaining
            assert _cents(store, at(3600)) == _cents(fresh, at(3600)) == _cents_of_statistics(fresh, at(3600))


def _load(store: Store) -> None:
    store.load_tasks(Task(task_id=task_id, data={}) for task_id in TASKS)


def _cents(store: Store, now: datetime) -> Money:
    return Money(round(store.spending(now).usd, 9))


def _cents_of_statistics(store: Store, now: datetime) -> Money:
    return Money(round(store.statistics(now).cost.usd, 9))


def test_the_intents_of_a_wave_are_there_together(tmp_path: Path) -> None:
    with new_store(tmp_path, TASKS) as store:
        store.record_intents([launch_request("t1"), launch_request("t2")], at(1), slots=3)
        assert [(record.client_token, record.slots) for record in store.instances()] == [("t1", 3), ("t2", 3)]


def test_what_is_withdrawn_is_pending_and_remembered_until_everything_is_sent_again(tmp_path: Path) -> None:
    with new_store(tmp_path, TASKS) as store:
        store.mark_queued(TASKS)
        store.apply_events([started("a")])
        assert store.withdraw() == 2
        assert store.counts()[TaskStatus.PENDING] == 2
        assert store.counts()[TaskStatus.RUNNING] == 1
    with Store.open(tmp_path / "job.db", durable=False) as store:
        assert store.withdrawn()
        assert store.reset_for_requeue() == 3
        assert not store.withdrawn()


def test_a_claimed_place_is_nobody_elses(tmp_path: Path) -> None:
    with new_store(tmp_path, TASKS, name="loading.db") as store:
        store.claim(tmp_path / "job.db")
        with pytest.raises(StoreError):
            new_store(tmp_path, TASKS)
        store.publish(tmp_path / "job.db")
        assert store.remaining() == 3


def test_all_tasks_of_a_new_pass_have_the_same_number_of_attempts_before_them(tmp_path: Path) -> None:
    with new_store(tmp_path, TASKS) as store:
        dead = [event(EventType.TASK_DEAD, "a", 3, retry=False), event(EventType.TASK_DEAD, "b", 1, retry=False)]
        store.apply_events(dead)
        store.reopen_tasks([TaskStatus.DEAD])
        assert [message.attempt for message in store.pending_tasks(10)] == [4, 4, 1]
        assert store.earlier_attempts() == 3


def test_the_times_of_tasks_are_told_with_how_many_took_them(tmp_path: Path) -> None:
    with new_store(tmp_path, TASKS) as store:
        store.apply_events([completed("a", elapsed=10.0), completed("b", elapsed=10.0), completed("c", elapsed=99.0)])
        times = store.elapsed_times()
        assert sorted(times.values()) == [1, 2]
        assert sum(value * count for value, count in times.items()) / 3 == pytest.approx(119 / 3, rel=0.02)
