"""Cost breakdown in ``status --json``."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

from store_facts import at, completed, instance, launch_request, new_store, started

from cloud_tasks.report import status_dict


def test_status_dict_breakdowns_add_up_to_the_cost(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a", "b"]) as store:
        store.record_intents([launch_request("t1", price="0.36")], at(0), slots=1)
        store.record_launched("t1", instance("i1", "t1"))
        store.apply_events([started("a"), completed("a", elapsed=100.0, timestamp=at(100))])
        store.record_ended("i1", at(1000), "no task is left for it")
        statistics = store.statistics(at(1000))
        facts = status_dict(
            statistics.summary,
            instances=store.instances(),
            cost=statistics.cost,
            shares=statistics.cost_breakdown,
            costs=statistics.costs,
        )
    facts = json.loads(json.dumps(facts))
    cost = Decimal(facts["cost_usd"])
    assert cost == Decimal("0.1")
    assert set(facts["cost_shares_usd"]) == {"work", "lost", "failed", "idle"}
    assert sum(map(Decimal, facts["cost_shares_usd"].values())) == cost
    assert [line["instances"] for line in facts["cost_by_type"]] == [1]
    assert sum(Decimal(line["cost_usd"]) for line in facts["cost_by_type"]) == cost


def test_status_dict_without_statistics_has_no_breakdown(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a"]) as store:
        assert status_dict(store.summary())["cost_shares_usd"] is None
