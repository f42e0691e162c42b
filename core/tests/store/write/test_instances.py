"""The instances of a job and their cost."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import attrs
import pytest
from store_facts import at, completed, event, failed, instance, launch_request, new_store, started

from cloud_tasks.model import EventType, InstanceState, Money, ProvisioningModel
from cloud_tasks.store import InstanceRecord, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path, ["a", "b", "c"]) as store:
        yield store


def only(store: Store) -> InstanceRecord:
    (record,) = store.instances()
    return record


def test_record_intents_adds_launches_without_instance(store: Store) -> None:
    store.record_intents([launch_request("t1", price="0.268614")], at(5), slots=4)
    record = only(store)
    assert (record.client_token, record.instance_id, record.launched_at, record.ended_at) == ("t1", None, None, None)
    assert (record.vcpus, record.slots, record.price_per_hour) == (4, 4, Money("0.268614"))
    assert (record.provisioning_model, record.zone, record.intended_at) == (ProvisioningModel.SPOT, "zone-a", at(5))


def test_record_intents_twice_adds_one_launch(store: Store) -> None:
    for _ in range(2):
        store.record_intents([launch_request("t1")], at(0))
    assert len(store.instances()) == 1


def test_renew_intents_moves_only_launches_without_an_answer(store: Store) -> None:
    requests = [attrs.evolve(launch_request(f"t{n}"), max_lifetime=timedelta(seconds=100)) for n in range(4)]
    store.record_intents(requests, at(0), own_end=timedelta(seconds=10))
    store.record_launched("t1", instance("i1", "t1"), at(0))
    store.record_launch_failed("t2", "refused")
    store.renew_intents(["t0", "t1", "t2"], at(60))
    found = {each.client_token: (each.intended_at, each.deadline, each.ends_by) for each in store.instances()}
    assert found.pop("t0") == (at(60), at(160), at(170))
    assert set(found.values()) == {(at(0), at(100), at(110))}


def test_record_launched_sets_the_instance_of_an_intent(store: Store) -> None:
    store.record_intents([launch_request("t1")], at(0))
    store.record_launched("t1", instance("i1", "t1"), at(3))
    assert (only(store).instance_id, only(store).launched_at) == ("i1", at(3))


@pytest.mark.parametrize("skew", [-86_400, -300, 0, 300, 86_400])
def test_cost_counts_from_the_request_to_the_recorded_end_whatever_the_clock_of_the_provider(
    store: Store, skew: float
) -> None:
    for number, requested in enumerate((None, at(600))):
        store.record_intents([launch_request(f"t{number}", price="1")], at(0))
        store.record_launched(f"t{number}", instance(f"i{number}", f"t{number}", created=skew), requested)
    assert store.spending(at(3600)) == Money(1) + Money("0.8333333333333333333333333333")
    store.record_ended("i0", at(3600), "over")
    store.record_ended("i1", at(4200), "over")
    assert store.spending(at(99_999)) == Money(2)
    assert store.statistics(at(99_999)).cost == Money(2)


def test_failed_launch_has_ended_and_costs_nothing(store: Store) -> None:
    store.record_intents([launch_request("t1")], at(0))
    store.record_launch_failed("t1", "ZONE_FULL")
    record = only(store)
    assert (record.ended_at, record.launched_at, record.end_reason) == (at(0), None, "ZONE_FULL")
    assert store.spending(at(36_000)) == Money(0)


def test_launch_without_an_instance_in_the_next_listing_costs_nothing(store: Store) -> None:
    store.record_intents([launch_request("t1")], at(0))
    store.record_launch_failed("t1", "never listed", unlisted_at=at(120))
    assert (only(store).ended_at, store.spending(at(36_000))) == (at(0), Money(0))


def test_unanswered_launch_is_booked_until_a_late_listing(store: Store) -> None:
    store.record_intents([launch_request("t1")], at(0))
    before = store.spending(at(7200))
    store.record_launch_failed("t1", "never listed", unlisted_at=at(7200))
    assert only(store).ended_at == at(7200)
    assert store.spending(at(36_000)) == before > Money(0)
    store.record_launched("t1", instance("i1", "t1"), at(0))
    assert store.spending(at(7200)) == before
    store.record_ended("i1", at(7200), "over")
    assert store.spending(at(36_000)) == before == store.statistics(at(36_000)).cost


def test_unanswered_launch_is_booked_until_its_own_end_at_most(store: Store) -> None:
    limited = attrs.evolve(launch_request("t1"), max_lifetime=timedelta(hours=1))
    store.record_intents([limited], at(0), own_end=timedelta(minutes=5))
    store.record_launch_failed("t1", "never listed", unlisted_at=at(36_000))
    assert only(store).ended_at == at(3900)


def test_record_launch_failed_ignores_a_successful_launch(store: Store) -> None:
    store.record_intents([launch_request("t1")], at(0))
    store.record_launched("t1", instance("i1", "t1"))
    store.record_launch_failed("t1", "timed out")
    assert only(store).ended_at is None


def test_record_launched_revives_a_failed_launch(store: Store) -> None:
    store.record_intents([launch_request("t1")], at(0))
    store.record_launch_failed("t1", "timed out")
    store.record_launched("t1", instance("i1", "t1", created=2))
    record = only(store)
    assert (record.instance_id, record.launched_at, record.ended_at) == ("i1", at(0), None)


def test_record_launched_ignores_a_launch_without_an_intent(store: Store) -> None:
    store.record_launched("t9", instance("i9", "t9"))
    assert store.instances() == ()


def launched(store: Store, *numbers: int) -> None:
    for number in numbers:
        store.record_intents([launch_request(f"t{number}", price="1")], at(0))
        store.record_launched(f"t{number}", instance(f"i{number}", f"t{number}", state=InstanceState.STARTING))


def test_record_states_writes_the_listed_state_of_known_running_instances(store: Store, tmp_path: Path) -> None:
    launched(store, 1, 2, 3, 4)
    store.record_ended("i3", at(60), "preempted")
    store.record_intents([launch_request("t5")], at(0))
    store.record_states(
        [
            instance("i1", "t1"),
            instance("i2", "t2", state=InstanceState.STOPPING),
            instance("i3", "t3"),
            instance("i5", "t5"),
            instance("unknown", "other"),
        ]
    )
    with Store.open(tmp_path / "job.db", read_only=True) as reader:
        for view in (store, reader):
            assert [(r.instance_id, r.state) for r in view.instances()] == [
                ("i1", InstanceState.RUNNING),
                ("i2", InstanceState.STOPPING),
                ("i3", InstanceState.TERMINATED),
                ("i4", InstanceState.STARTING),
                (None, None),
            ]


def test_record_states_leaves_a_listed_termination_to_record_ended(store: Store) -> None:
    launched(store, 1)
    store.record_states([instance("i1", "t1", state=InstanceState.TERMINATED)])
    assert (only(store).state, only(store).ended_at) == (InstanceState.STARTING, None)


def test_record_states_writes_once_and_only_what_changed(store: Store, tmp_path: Path) -> None:
    launched(store, 1, 2, 3)
    listing = [instance(f"i{number}", f"t{number}") for number in (1, 2, 3)]

    def data_version() -> int:
        return int(watcher.execute("PRAGMA data_version").fetchone()[0])

    with closing(sqlite3.connect(tmp_path / "job.db")) as watcher:
        before = data_version()
        store.record_states(listing)
        after = data_version()
        assert after != before
        store.record_states(listing)
        store.record_states([])
        assert data_version() == after


def test_spending_is_uptime_times_price_exactly(store: Store) -> None:
    for number, price in enumerate(["0.1", "0.2", "0.7"]):
        store.record_intents([launch_request(f"t{number}", price=price)], at(0))
        store.record_launched(f"t{number}", instance(f"i{number}", f"t{number}"))
    assert store.spending(at(3600)).usd == Decimal("1.0")
    store.record_ended("i2", at(7200), "surplus")
    assert store.spending(at(3 * 3600)).usd == Decimal("0.3") + Decimal("0.6") + Decimal("1.4")


def test_spending_includes_an_unanswered_launch(store: Store) -> None:
    store.record_intents([launch_request("t1", price="1")], at(0))
    assert store.spending(at(1800)) == Money("0.5")


def test_spending_is_never_negative_when_the_clock_goes_back(store: Store) -> None:
    store.record_intents([launch_request("t1", price="1")], at(100))
    store.record_launched("t1", instance("i1", "t1", created=100))
    assert store.spending(at(0)) == Money(0)
    store.record_ended("i1", at(50), "gone")
    assert store.spending(at(7200)) == Money(0)


def test_record_ended_counts_the_first_record(store: Store) -> None:
    store.record_intents([launch_request("t1", price="1")], at(0))
    store.record_launched("t1", instance("i1", "t1"))
    store.record_ended("i1", at(3600), "preempted")
    store.record_ended("i1", at(7200), "not in the listing")
    record = only(store)
    assert (record.ended_at, record.end_reason, record.state) == (at(3600), "preempted", InstanceState.TERMINATED)
    assert store.spending(at(36_000)) == Money(1)


def test_spending_continues_when_a_terminated_instance_is_found_running(store: Store) -> None:
    launched(store, 1)
    store.record_ended("i1", at(3600), "not in the listing")
    store.record_states([instance("i1", "t1")])
    assert only(store).ended_at == at(3600)
    store.record_launched("t1", instance("i1", "t1"))
    assert only(store).ended_at is None
    assert store.spending(at(7200)) == Money(2)
    assert store.statistics(at(7200)).costs[0].instances == 1


def test_instances_include_the_values_of_their_worker(store: Store) -> None:
    store.record_intents([launch_request("t1")], at(0))
    store.record_launched("t1", instance("i1", "t1"))
    assert (only(store).last_heartbeat, only(store).running_tasks) == (None, 0)
    store.apply_events(
        [
            started("a", timestamp=at(10)),
            started("b", timestamp=at(11)),
            started("c", timestamp=at(11)),
            completed("a", timestamp=at(20)),
            failed("b", timestamp=at(30)),
            event(EventType.KEEP_ALIVE, timestamp=at(90)),
        ]
    )
    record = only(store)
    assert (record.hostname, record.last_heartbeat, record.last_busy) == ("h1", at(90), at(30))
    assert (record.running_tasks, record.tasks_finished, record.tasks_completed) == (1, 2, 1)
    store.apply_events([event(EventType.KEEP_ALIVE, timestamp=at(150), details={"running_tasks": 1})])
    assert only(store).last_busy == at(150)
    store.apply_events([event(EventType.SPOT_TERMINATION, timestamp=at(160))])
    assert only(store).spot_terminated_at == at(160)
    assert store.statistics(at(200)).spot_terminations == ("h1",)


def test_instances_are_returned_oldest_first(store: Store) -> None:
    for number in (2, 0, 1):
        store.record_intents([launch_request(f"t{number}")], at(number))
    assert [record.client_token for record in store.instances()] == ["t0", "t1", "t2"]


def test_costs_are_grouped_by_type_and_provisioning_model(store: Store) -> None:
    store.record_intents([launch_request("t1", price="1")], at(0))
    store.record_intents(
        [launch_request("t2", price="2", vcpus=8, provisioning_model=ProvisioningModel.ON_DEMAND)], at(0)
    )
    statistics = store.statistics(at(3600))
    assert statistics.cost == Money(3)
    assert [(line.instance_type, line.provisioning_model, line.cost) for line in statistics.costs] == [
        ("type-8", ProvisioningModel.ON_DEMAND, Money(2)),
        ("type-4", ProvisioningModel.SPOT, Money(1)),
    ]
    assert statistics.costs[0].hours == 1.0


def test_record_intents_adds_several_launches_at_once(store: Store) -> None:
    store.record_intents([launch_request("t1"), launch_request("t2")], at(1), slots=3)
    assert [(record.client_token, record.slots) for record in store.instances()] == [("t1", 3), ("t2", 3)]
