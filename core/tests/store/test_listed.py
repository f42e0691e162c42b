"""What a listing shows about a recorded instance: pending, started, ended."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_facts import at, event, instance, launch_request, new_store

from cloud_tasks.model import EventType, Instance, InstanceState, Money
from cloud_tasks.store import InstanceRecord, Store, booked_since, booked_until, present_price, read_timeline
from cloud_tasks.store.listed import named_end, observed

HOUR = 3600.0
LIFETIME, SLACK = 2 * HOUR, 600.0
PENDING, RUNNING, TERMINATED = InstanceState.PENDING, InstanceState.RUNNING, InstanceState.TERMINATED


def listed(state: InstanceState, skew: float = 0, **times: float) -> Instance:
    """Return the instance as listed; times in seconds, all of the provider's clock shifted by ``skew``."""
    shifted = {name: at(seconds + skew) for name, seconds in times.items()}
    return attrs.evolve(instance("i1", "t1", state=state, created=skew), **shifted)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a store with an instance at a dollar per hour that was pending when its launch was answered."""
    with new_store(tmp_path, ["a"]) as store:
        request = attrs.evolve(launch_request("t1", price="1"), max_lifetime=timedelta(seconds=LIFETIME))
        store.record_intents([request], at(0), slots=4, own_end=timedelta(seconds=SLACK))
        store.record_launched("t1", attrs.evolve(listed(PENDING), reason="Resources"), at(0), at(1))
        yield store


def only(store: Store) -> InstanceRecord:
    (record,) = store.instances()
    return record


def cost(store: Store, seconds: float) -> float:
    """Return the hours that are booked at a time, which every way to them agrees on."""
    now = at(seconds)
    timeline = read_timeline(store.path, now, buckets=100)
    width = (timeline.end - timeline.begin).total_seconds() / HOUR / 100
    charted = sum(bucket.price_per_hour * width for bucket in timeline.buckets)
    with Store.open(store.path, read_only=True) as reader:
        statistics = reader.statistics(now)
    found = {
        round(value, 6)
        for value in (float(store.spending(now).usd), float(statistics.cost.usd), charted, statistics.costs[0].hours)
    }
    assert len(found) == 1, found
    return found.pop()


def test_record_launched_of_a_pending_instance_books_nothing(store: Store) -> None:
    assert only(store).is_pending
    assert only(store).shown_state == "pending (Resources)"
    assert cost(store, 5 * HOUR) == 0
    assert present_price(store.instances(), at(5 * HOUR)) == Money(0)


def test_record_states_books_from_the_last_listing_that_shows_it_pending(store: Store) -> None:
    store.record_states([listed(PENDING)], at(5 * HOUR))
    assert only(store).reason == ""
    store.record_states([listed(RUNNING)], at(5.1 * HOUR))
    record = only(store)
    assert (record.pending_until, record.started_at) == (at(5 * HOUR), at(5.1 * HOUR))
    assert record.deadline == at(5.1 * HOUR + LIFETIME)
    assert record.ends_by == at(5.1 * HOUR + LIFETIME + SLACK + 1)
    assert cost(store, 6 * HOUR) == pytest.approx(1)


@pytest.mark.parametrize("skew", [0, 8 * HOUR, -8 * HOUR])
def test_record_states_books_from_the_start_that_the_provider_names_by_any_clock(store: Store, skew: float) -> None:
    store.record_states([listed(PENDING, skew)], at(5 * HOUR))
    store.record_states([listed(RUNNING, skew, started_at=5.5 * HOUR)], at(6 * HOUR))
    assert (only(store).pending_until, only(store).started_at) == (at(5.5 * HOUR), at(5.5 * HOUR))
    assert only(store).deadline == at(5.5 * HOUR + LIFETIME)
    assert cost(store, 6 * HOUR) == pytest.approx(0.5)


@given(st.floats(-1e9, 1e9), st.floats(0, 1e5), st.floats(0, 1e5))
def test_observed_bounds_a_named_start_by_what_was_seen(named: float, last_pending: float, more: float) -> None:
    record = InstanceRecord(
        client_token="t1",
        instance_id="i1",
        instance_type="type-4",
        zone="zone-a",
        provisioning_model=instance("i1").provisioning_model,
        boot_disk_type="",
        boot_disk_gb=1,
        vcpus=4,
        slots=4,
        price_per_hour=Money(1),
        intended_at=at(0),
        launched_at=at(0),
        ended_at=None,
        state=PENDING,
        pending_until=at(last_pending),
    )
    found = observed(record, listed(RUNNING, started_at=named), at(last_pending + more))
    assert found.started_at is not None
    assert at(last_pending) <= found.started_at <= at(last_pending + more)
    assert observed(found, listed(RUNNING, started_at=named + 1), at(last_pending + more + 9)) is found


def test_record_states_of_an_instance_that_was_never_pending_takes_a_named_start(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a"]) as store:
        store.record_intents([launch_request("t1", price="1")], at(0))
        store.record_launched("t1", listed(InstanceState.STARTING), at(0), at(1))
        store.record_states([listed(RUNNING, started_at=HOUR)], at(2 * HOUR))
        assert cost(store, 2 * HOUR) == pytest.approx(1)


def test_apply_events_of_a_pending_instance_shows_that_it_has_started(store: Store) -> None:
    store.record_states([listed(PENDING)], at(5 * HOUR))
    store.apply_events([event(EventType.KEEP_ALIVE, timestamp=at(5.2 * HOUR))])
    record = only(store)
    assert not record.is_pending
    assert record.current_deadline == at(5 * HOUR + LIFETIME)
    assert cost(store, 6 * HOUR) == pytest.approx(1)
    store.record_states([listed(PENDING)], at(6 * HOUR))
    assert only(store).state is InstanceState.STARTING
    assert cost(store, 6 * HOUR) == pytest.approx(1)


def test_record_states_does_not_take_a_pending_instance_for_one_that_outlives_its_end(store: Store) -> None:
    store.record_states([listed(PENDING)], at(50 * HOUR))
    assert only(store).ends_by is not None


def test_record_ended_of_a_canceled_pending_instance_books_nothing(store: Store) -> None:
    store.record_states([listed(PENDING)], at(5 * HOUR))
    store.record_ended("i1", at(5 * HOUR + 60), "surplus", is_canceled=True)
    assert cost(store, 9 * HOUR) == 0
    assert only(store).ended_at == at(5 * HOUR + 60)


@pytest.mark.parametrize(
    ("canceled", "after", "hours"), [(True, HOUR, 1), (False, 60, 60 / HOUR), (False, 20 * HOUR, 0)]
)
def test_record_ended_of_an_instance_last_seen_pending_books_what_can_have_been_billed(
    store: Store, canceled: bool, after: float, hours: float
) -> None:
    store.record_states([listed(PENDING)], at(5 * HOUR))
    store.record_ended("i1", at(5 * HOUR + after), "gone", is_canceled=canceled)
    most = (LIFETIME + SLACK + 1) / HOUR
    assert cost(store, 40 * HOUR) == pytest.approx(hours or most, abs=1e-5)


@pytest.mark.parametrize("skew", [0, 8 * HOUR, -8 * HOUR])
def test_record_ended_books_until_the_end_that_the_provider_names(store: Store, skew: float) -> None:
    shown = listed(TERMINATED, skew, started_at=5 * HOUR, ended_at=5.5 * HOUR)
    store.record_states([shown], at(9 * HOUR))
    store.record_ended("i1", at(9 * HOUR), "gone", ended_at=named_end(only(store), shown))
    assert cost(store, 20 * HOUR) == pytest.approx(0.5)


def test_record_ended_books_the_named_span_of_an_instance_that_was_created_long_after_the_call(store: Store) -> None:
    # The creation took 20 minutes by all clocks, and the instance was seen pending meanwhile.
    store.record_states([listed(PENDING)], at(2000))
    later = {name: at(seconds) for name, seconds in {"created_at": 1200, "started_at": 2100, "ended_at": 2500}.items()}
    shown = attrs.evolve(listed(TERMINATED), **later)
    store.record_states([shown], at(9 * HOUR))
    store.record_ended("i1", at(9 * HOUR), "gone", ended_at=named_end(only(store), shown))
    assert cost(store, 20 * HOUR) == pytest.approx(400 / HOUR)


def test_record_launched_takes_a_late_answer_of_a_pending_instance_for_the_state_at_the_call(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a"]) as store:
        store.record_intents([launch_request("t1", price="1")], at(0))
        store.record_launched("t1", listed(PENDING), at(0), at(HOUR))
        shown = listed(TERMINATED, started_at=600, ended_at=1500)
        store.record_states([shown], at(HOUR + 1))
        store.record_ended("i1", at(HOUR + 1), "gone", ended_at=named_end(only(store), shown))
        assert cost(store, 20 * HOUR) == pytest.approx(900 / HOUR)


def test_record_ended_with_an_end_and_no_start_books_nothing(store: Store) -> None:
    shown = listed(TERMINATED, ended_at=5 * HOUR)
    store.record_states([shown], at(9 * HOUR))
    store.record_ended("i1", at(9 * HOUR), "gone", ended_at=named_end(only(store), shown))
    assert cost(store, 20 * HOUR) == 0


@settings(deadline=None, max_examples=30)
@given(st.floats(-1e9, 1e9), st.none() | st.floats(0, 3 * HOUR))
def test_record_ended_bounds_a_named_end_by_what_was_seen(
    tmp_path_factory: pytest.TempPathFactory, named: float, heartbeat: float | None
) -> None:
    with new_store(tmp_path_factory.mktemp("ended"), ["a"]) as store:
        request = attrs.evolve(launch_request("t1", price="1"), max_lifetime=timedelta(seconds=LIFETIME))
        store.record_intents([request], at(0), own_end=timedelta(seconds=SLACK))
        store.record_launched("t1", listed(RUNNING), at(0), at(0))
        if heartbeat is not None:
            store.apply_events([event(EventType.KEEP_ALIVE, timestamp=at(heartbeat))])
        store.record_ended("i1", at(2.9 * HOUR), "gone", ended_at=at(named))
        record = only(store)
        end = booked_until(record, at(9 * HOUR))
        assert booked_since(record, end) == at(0)
        assert at(min(heartbeat or 0, LIFETIME)) <= end <= at(2.9 * HOUR)
