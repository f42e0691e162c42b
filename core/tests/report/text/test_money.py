"""Cost breakdown in the final report."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import attrs
from store_facts import at, new_store

from cloud_tasks.model import Money
from cloud_tasks.report import render_final_report
from cloud_tasks.store import CostBreakdown


def report(folder: Path, **shares: str) -> list[str]:
    with new_store(folder, ["a"]) as store:
        statistics = store.statistics(at(0))
    amounts = {name: Money(shares.get(name, "0")) for name in ("work", "lost", "failed", "idle")}
    cost = sum(amounts.values(), Money.zero())
    paid = attrs.evolve(statistics, cost=cost, instances=1, cost_breakdown=CostBreakdown(**amounts))
    return render_final_report(paid, timedelta(hours=1)).splitlines()


def test_final_report_shows_the_cost_breakdown(tmp_path: Path) -> None:
    lines = report(tmp_path, work="5", lost="2.5", failed="0.5", idle="2")
    begin = lines.index("Cost: $10.00 for 1 instance")
    assert lines[begin + 1 : begin + 4] == [
        "  Interrupted attempts: $2.50 (25.0%)",
        "  Failed attempts: $0.50 (5.0%)",
        "  Idle, starting and stopping: $2.00 (20.0%)",
    ]


def test_final_report_omits_zero_costs(tmp_path: Path) -> None:
    lines = report(tmp_path, work="5")
    assert lines[lines.index("Cost: $5.00 for 1 instance") + 1] == ""


def test_final_report_without_cost_has_no_breakdown(tmp_path: Path) -> None:
    lines = report(tmp_path)
    assert lines[lines.index("Cost: $0.00 for 1 instance") + 1] == ""
