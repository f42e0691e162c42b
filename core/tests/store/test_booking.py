"""Booked time of instances: nothing that can have been billed is missing, nothing after their own end counts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_facts import at, event, instance, launch_request, new_store

from cloud_tasks.model import EventType, Instance, InstanceState, Money
from cloud_tasks.store import (
    InstanceRecord,
    Store,
    booked_until,
    connect_reader,
    mean_price,
    read_timeline,
    running_cost,
)
from cloud_tasks.store.queries.cost_breakdown import cost_breakdown

HOUR = 3600.0
LIFETIME, SLACK = 2 * HOUR, 600.0
ENDS_BY = LIFETIME + SLACK


def launch(store: Store, number: int = 1, *, requested: float = 0, slack: float | None = SLACK) -> None:
    """Record an instance at a dollar per hour that ends itself two hours after its request."""
    request = attrs.evolve(launch_request(f"t{number}", price="1"), max_lifetime=timedelta(seconds=LIFETIME))
    own_end = None if slack is None else timedelta(seconds=slack)
    store.record_intents([request], at(requested), slots=4, own_end=own_end)
    store.record_launched(f"t{number}", instance(f"i{number}", f"t{number}"), at(requested))


def hours(seconds: float) -> Money:
    """Return the cost of this time at a dollar per hour."""
    return Money(round(seconds, 6)) / 3600


def costs_of(store: Store, seconds: float) -> list[float]:
    """Return the cost at this time by every way to it."""
    now = at(seconds)
    with closing(connect_reader(store.path)) as connection:
        shares = cost_breakdown(connection, now)
    timeline = read_timeline(store.path, now, buckets=200)
    width = (timeline.end - timeline.begin).total_seconds() / HOUR / 200
    with Store.open(store.path, read_only=True) as reader:
        found = [
            store.spending(now),
            reader.spending(now),
            sum((line.cost for line in reader.statistics(now).costs), Money(0)),
            shares.work + shares.lost + shares.failed + shares.idle,
            sum((Money(running_cost(record, booked_until(record, now))) for record in reader.instances()), Money(0)),
        ]
        rates = [mean_price(r, now) * (booked_until(r, now) - at(0)).total_seconds() / HOUR for r in reader.instances()]
    rates.append(sum(bucket.price_per_hour * width for bucket in timeline.buckets))
    return [float(cost.usd) for cost in found] + rates


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path, ["a"]) as store:
        launch(store)
        yield store


def only(store: Store) -> InstanceRecord:
    (record,) = store.instances()
    return record


def test_spending_of_a_job_without_controller_ends_with_its_instances(store: Store) -> None:
    store.record_alive(at(60))
    assert costs_of(store, HOUR) == pytest.approx([1] * 7)
    assert costs_of(store, 14 * HOUR) == pytest.approx([ENDS_BY / HOUR] * 7)


def test_record_ended_of_an_end_that_was_not_seen_books_until_the_own_end(store: Store) -> None:
    store.begin_run(at(14 * HOUR))
    store.record_ended("i1", at(14 * HOUR), "terminated by itself or by the provider")
    assert only(store).ended_at == at(ENDS_BY)
    assert costs_of(store, 20 * HOUR) == pytest.approx([ENDS_BY / HOUR] * 7)


def test_record_ended_before_the_deadline_books_until_then(store: Store) -> None:
    store.record_ended("i1", at(HOUR), "surplus")
    assert only(store).ended_at == at(HOUR)


@pytest.mark.parametrize("state", [InstanceState.STARTING, InstanceState.RUNNING, InstanceState.STOPPED])
def test_record_states_books_an_instance_that_outlives_its_end_in_full(store: Store, state: InstanceState) -> None:
    store.record_states([instance("i1", "t1", state=state)], at(14 * HOUR))
    assert costs_of(store, 15 * HOUR) == pytest.approx([15] * 7)
    store.record_ended("i1", at(16 * HOUR), "max_lifetime")
    assert costs_of(store, 20 * HOUR) == pytest.approx([16] * 7)


@pytest.mark.parametrize("seen", [[], [instance("i1", "t1", state=InstanceState.TERMINATED)], [instance("i9", "t9")]])
def test_record_states_takes_no_other_listing_for_a_sign_of_life(store: Store, seen: list[Instance]) -> None:
    store.record_states(seen, at(14 * HOUR))
    assert costs_of(store, 15 * HOUR) == pytest.approx([ENDS_BY / HOUR] * 7)


def test_record_states_before_the_own_end_is_no_sign_of_a_longer_life(store: Store) -> None:
    store.record_states([instance("i1", "t1")], at(ENDS_BY))
    assert costs_of(store, 15 * HOUR) == pytest.approx([ENDS_BY / HOUR] * 7)


def test_apply_events_books_an_instance_with_a_heartbeat_after_its_end_in_full(store: Store) -> None:
    store.apply_events([event(EventType.KEEP_ALIVE, timestamp=at(ENDS_BY))])
    assert costs_of(store, 15 * HOUR) == pytest.approx([ENDS_BY / HOUR] * 7)
    store.apply_events([event(EventType.KEEP_ALIVE, timestamp=at(ENDS_BY + 1))])
    assert costs_of(store, 15 * HOUR) == pytest.approx([15] * 7)
    store.record_ended("i1", at(15 * HOUR), "gone")
    assert costs_of(store, 20 * HOUR) == pytest.approx([15] * 7)


@pytest.mark.parametrize("lifetime", [None, timedelta(seconds=LIFETIME)])
def test_spending_without_an_own_end_counts_until_the_end_is_known(tmp_path: Path, lifetime: timedelta | None) -> None:
    with new_store(tmp_path, ["a"]) as store:
        store.record_intents([attrs.evolve(launch_request("t1", price="1"), max_lifetime=lifetime)], at(0))
        store.record_launched("t1", instance("i1", "t1"), at(0))
        assert costs_of(store, 14 * HOUR) == pytest.approx([14] * 7)
        store.record_ended("i1", at(15 * HOUR), "gone")
        assert costs_of(store, 20 * HOUR) == pytest.approx([15] * 7)


def test_spending_of_an_unanswered_launch_ends_with_its_lifetime(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a"]) as store:
        request = attrs.evolve(launch_request("t1", price="1"), max_lifetime=timedelta(seconds=LIFETIME))
        store.record_intents([request], at(0), own_end=timedelta(seconds=SLACK))
        assert costs_of(store, 14 * HOUR)[:4] == pytest.approx([ENDS_BY / HOUR] * 4)


def test_raise_prices_changes_no_cost_of_an_instance_that_may_have_ended(store: Store) -> None:
    store.raise_prices({"t1": Money(3)}, at(14 * HOUR))
    assert costs_of(store, 14 * HOUR) == pytest.approx([ENDS_BY / HOUR] * 7)
    store.record_ended("i1", at(14 * HOUR), "gone")
    assert costs_of(store, 20 * HOUR) == pytest.approx([ENDS_BY / HOUR] * 7)


def test_record_launched_of_an_instance_that_is_found_again_continues_its_cost(store: Store) -> None:
    store.record_ended("i1", at(14 * HOUR), "gone")
    store.record_launched("t1", instance("i1", "t1"))
    store.record_states([instance("i1", "t1")], at(15 * HOUR))
    assert costs_of(store, 15 * HOUR) == pytest.approx([15] * 7)


def test_record_launched_counts_the_lifetime_from_the_answer(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a"]) as store:
        request = attrs.evolve(launch_request("t1", price="1"), max_lifetime=timedelta(seconds=LIFETIME))
        store.record_intents([request], at(0), own_end=timedelta(seconds=SLACK))
        store.record_launched("t1", instance("i1", "t1"), at(HOUR), at(1.5 * HOUR))
        (record,) = store.instances()
        assert (record.deadline, record.ends_by) == (at(LIFETIME), at(ENDS_BY + 1.5 * HOUR))
        assert store.spending(at(14 * HOUR)) == hours(ENDS_BY + 0.5 * HOUR)


@attrs.frozen
class Look:
    """A moment at which a controller acts."""

    after: float
    is_restart: bool
    lists: bool


LOOKS = st.lists(st.builds(Look, st.floats(1, 3 * HOUR), st.booleans(), st.booleans()), min_size=1, max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(LOOKS, st.floats(0, ENDS_BY), st.floats(0, 20 * HOUR), st.booleans(), st.sampled_from([None, SLACK]))
def test_booked_until_is_between_the_bill_and_what_can_have_been_billed(
    tmp_path_factory: pytest.TempPathFactory,
    looks: list[Look],
    own_end: float,
    extra: float,
    outlives: bool,
    slack: float | None,
) -> None:
    times = list(itertools.accumulate(look.after for look in looks))
    true_end = own_end
    listings = [time for time, look in zip(times, looks, strict=True) if look.lists]
    if outlives or slack is None:
        # Beyond its own end an instance is only known to exist if it was seen.
        seen = max((time for time in listings if time < own_end + extra), default=0.0)
        true_end = own_end + extra if slack is None or seen > ENDS_BY else own_end
    last_seen, ended = 0.0, False
    with new_store(tmp_path_factory.mktemp("booked"), ["a"]) as store:
        launch(store, slack=slack)
        for time, look in zip(times, looks, strict=True):
            if look.is_restart:
                store.begin_run(at(time))
            store.record_alive(at(time))
            if look.lists and not ended:
                is_there = time < true_end
                store.record_states([instance("i1", "t1")] if is_there else [], at(time))
                if is_there:
                    last_seen = time
                else:
                    store.record_ended("i1", at(time), "gone")
                    ended, noticed = True, time
            latest = noticed if ended else time
            possible = latest if slack is None or last_seen > ENDS_BY else min(latest, ENDS_BY)
            # An own end that failed shows only later.
            billed = min(time, true_end, possible)
            booked = float(store.spending(at(time)).usd) * HOUR
            assert billed - 0.001 <= booked <= possible + 0.001
