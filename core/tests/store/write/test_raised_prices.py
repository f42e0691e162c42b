"""Prices of running instances that rise: the higher price holds from then on, and nothing that was booked changes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_facts import at, completed, instance, launch_request, new_store, started

from cloud_tasks.model import Money
from cloud_tasks.store import InstanceRecord, Store, connect_reader, mean_price, read_instances, read_timeline
from cloud_tasks.store.queries.cost_breakdown import cost_breakdown

HOUR = 3600.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path, ["a", "b"]) as store:
        store.record_intents([launch_request("t1", price="1")], at(0), slots=4)
        store.record_launched("t1", instance("i1", "t1"))
        yield store


def only(store: Store) -> InstanceRecord:
    (record,) = store.instances()
    return record


def test_raise_prices_changes_no_cost_until_then(store: Store) -> None:
    store.raise_prices({"t1": Money(3)}, at(2 * HOUR))
    assert only(store).price_per_hour == Money(3)
    assert store.spending(at(2 * HOUR)) == Money(2)
    assert store.spending(at(3 * HOUR)) == Money(5)


def test_raise_prices_never_lowers_a_price(store: Store) -> None:
    store.raise_prices({"t1": Money("0.5")}, at(HOUR))
    assert (only(store).price_per_hour, only(store).rebate) == (Money(1), Money(0))
    store.raise_prices({"t1": Money(2)}, at(HOUR))
    store.raise_prices({"t1": Money(1)}, at(2 * HOUR))
    assert store.spending(at(3 * HOUR)) == Money(1 + 2 + 2)


def test_record_ended_books_each_price_for_its_time(store: Store) -> None:
    store.raise_prices({"t1": Money(2)}, at(HOUR))
    store.raise_prices({"t1": Money(4)}, at(2 * HOUR))
    store.record_ended("i1", at(3 * HOUR), "done")
    assert store.spending(at(9 * HOUR)) == Money(1 + 2 + 4)
    (line,) = store.statistics(at(9 * HOUR)).costs
    assert (line.cost, line.hours) == (Money(7), 3.0)
    store.record_launched("t1", instance("i1", "t1"))
    assert store.spending(at(4 * HOUR)) == Money(1 + 2 + 4 + 4)


def test_raise_prices_leaves_ended_unknown_and_unanswered_launches(store: Store) -> None:
    store.record_ended("i1", at(HOUR), "done")
    store.record_intents([launch_request("t2", price="1")], at(0))
    store.raise_prices({"t1": Money(9), "t2": Money(9), "t3": Money(9)}, at(2 * HOUR))
    assert [record.price_per_hour for record in store.instances()] == [Money(1), Money(1)]
    assert store.spending(at(2 * HOUR)) == Money(1 + 2)


def test_cost_breakdown_and_timeline_add_up_to_the_cost(store: Store) -> None:
    store.apply_events([started("a", instance_id="i1"), completed("a", instance_id="i1", elapsed=1000.0)])
    store.raise_prices({"t1": Money(3)}, at(2 * HOUR))
    store.record_ended("i1", at(3 * HOUR), "done")
    with closing(connect_reader(store.path)) as connection:
        shares = cost_breakdown(connection, at(4 * HOUR))
    assert round((shares.work + shares.lost + shares.failed + shares.idle).usd, 12) == 5
    assert mean_price(only(store), at(4 * HOUR)) == pytest.approx(5 / 3)
    timeline = read_timeline(store.path, at(4 * HOUR), buckets=30)
    hours = (timeline.end - timeline.begin).total_seconds() / 3600 / 30
    assert sum(bucket.price_per_hour * hours for bucket in timeline.buckets) == pytest.approx(5)


def test_database_of_schema_3_is_read_without_migration(store: Store, tmp_path: Path) -> None:
    store.close()
    with closing(sqlite3.connect(store.path)) as connection:
        connection.executescript("ALTER TABLE instances DROP COLUMN rebate; PRAGMA user_version = 3;")
    with closing(connect_reader(store.path)) as connection:
        (record,) = read_instances(connection)
        assert (record.price_per_hour, record.rebate) == (Money(1), Money(0))
        assert cost_breakdown(connection, at(HOUR)).idle == Money(1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 10_000), st.decimals("0.001", 10, places=3)), max_size=8), st.booleans())
def test_cost_is_the_highest_price_so_far_times_the_time(tmp_path_factory, changes, ends) -> None:
    with new_store(tmp_path_factory.mktemp("raised"), ["a"]) as store:
        store.record_intents([launch_request("t1", price="1")], at(0))
        store.record_launched("t1", instance("i1", "t1"))
        moment, price, expected = 0, Money(1), Money(0)
        for seconds, asked in changes:
            before = store.spending(at(moment))
            expected += price * seconds
            moment += seconds
            store.raise_prices({"t1": Money(asked)}, at(moment))
            price = max(price, Money(asked))
            assert only(store).price_per_hour == price
            assert store.spending(at(moment)) >= before
            assert abs((store.spending(at(moment)) - expected / 3600).usd) < Money("1e-15").usd
        if ends:
            store.record_ended("i1", at(moment), "done")
        total = store.spending(at(moment))
        assert abs((total - expected / 3600).usd) < Money("1e-15").usd
        assert sum((line.cost for line in store.statistics(at(moment)).costs), Money(0)) == total
