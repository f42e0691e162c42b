"""The instance cache, counts and summary equal the tables, whatever was written."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_facts import JOB, at, completed, event, instance, launch_request, started

from cloud_tasks.model import EventType, InstanceState, Money, Task
from cloud_tasks.store import Store

TASKS = ["a", "b", "c"]
_numbers = st.integers(0, 3)
_steps = st.lists(
    st.tuples(
        st.sampled_from(["intents", "launched", "failed", "seen", "ended", "raised", "events", "reset", "read"]),
        _numbers,
        _numbers,
    ),
    max_size=25,
)


def step(store: Store, kind: str, number: int, other: int) -> None:
    """Make one change."""
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
            store.record_ended(name, at(60 + other), "preempted")
        case "raised":
            store.raise_prices({token: Money(other), f"t{other}": Money("0.72")}, at(30 + number))
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
def test_instance_cache_equals_the_tables(steps: list[tuple[str, int, int]], tmp_path: Path) -> None:
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
