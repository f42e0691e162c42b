"""The cost breakdown of a job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store_facts import at, completed, failed, instance, launch_request, new_store, started

from cloud_tasks.model import Money
from cloud_tasks.store import CostBreakdown, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with one instance of 2 slots at $2 per hour, launched at 0."""
    with new_store(tmp_path, ["a", "b", "c"]) as store:
        store.record_intents([launch_request("t1", price="2", vcpus=2)], at(0), slots=2)
        store.record_launched("t1", instance("i1", "t1"))
        yield store


def shares(store: Store, seconds: float) -> CostBreakdown:
    statistics = store.statistics(at(seconds))
    assert statistics.cost_breakdown is not None
    found = statistics.cost_breakdown
    total = found.work + found.lost + found.failed + found.idle
    assert abs(total.usd - statistics.cost.usd) < Money("0.000001").usd
    assert min(found.work, found.lost, found.failed, found.idle) >= Money.zero()
    return found


def rounded(found: CostBreakdown) -> tuple[str, str, str, str]:
    return found.work.format(4), found.lost.format(4), found.failed.format(4), found.idle.format(4)


def test_cost_breakdown_divides_the_cost_by_slot_time(store: Store) -> None:
    store.apply_events(
        [
            started("a", timestamp=at(0)),
            completed("a", elapsed=1800.0, timestamp=at(1800)),
            started("b", timestamp=at(0)),
            failed("b", timestamp=at(2)),
            started("c", timestamp=at(1800)),
        ]
    )
    store.apply_events([started("c", timestamp=at(2700))])
    store.record_ended("i1", at(3600), "preempted")
    # a: 30 minutes of one slot; b: 2 s; c: interrupted after 15 minutes; a slot costs $1 per hour.
    assert rounded(shares(store, 99999)) == ("$0.5000", "$0.2500", "$0.0006", "$1.2494")


def test_cost_breakdown_of_an_instance_without_events_is_idle(store: Store) -> None:
    assert rounded(shares(store, 3600)) == ("$0.0000", "$0.0000", "$0.0000", "$2.0000")


def test_cost_breakdown_counts_running_attempts_as_work(store: Store) -> None:
    store.apply_events([started("a", timestamp=at(0))])
    assert rounded(shares(store, 3600)) == ("$1.0000", "$0.0000", "$0.0000", "$1.0000")


def test_cost_breakdown_scales_attempts_that_exceed_the_uptime(store: Store) -> None:
    store.apply_events([completed("a", elapsed=30000.0, timestamp=at(60)), failed("b", timestamp=at(60))])
    found = shares(store, 3600)
    assert found.idle == Money.zero()
    assert found.work > found.failed > Money.zero()
