"""The cost breakdown of a job: the cost of each instance, divided by what its slots did.

Invariants, each with a test:

1. The shares add up to the cost of the instances.
2. No share is negative, even with wrong clocks of workers or more tasks than slots.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from datetime import datetime
from decimal import Decimal

from cloud_tasks.model import AttemptOutcome, Money
from cloud_tasks.store.booking import booked_since, booked_until, running_cost
from cloud_tasks.store.db.enum_codes import outcome_of
from cloud_tasks.store.db.times import to_unix
from cloud_tasks.store.records import CostBreakdown
from cloud_tasks.store.write.instances import read_instances

__all__ = ["cost_breakdown"]

_RUNS = """
SELECT h.instance_id, a.outcome,
    sum(min(max(coalesce(a.elapsed, coalesce(a.ended_at, ?) - coalesce(a.started_at, a.ended_at), 0), 0), 1e10))
FROM attempts AS a JOIN hosts AS h ON h.host = a.host
WHERE h.instance_id != '' GROUP BY h.instance_id, a.outcome
"""


def cost_breakdown(connection: sqlite3.Connection, now: datetime) -> CostBreakdown:
    """Return the shares until ``now``. Scans the attempts."""
    moment = to_unix(now)
    seconds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for instance_id, outcome, spent in connection.execute(_RUNS, (moment,)):
        seconds[instance_id][_share(outcome)] += spent
    totals: dict[str, Decimal] = defaultdict(Decimal)
    for record in read_instances(connection):
        until, instance_id, slots = booked_until(record, now), record.instance_id, record.slots
        uptime = max((until - booked_since(record, until)).total_seconds(), 0.0)
        busy = seconds.get(instance_id, {}) if instance_id else {}
        worked = sum(busy.values())
        # Seconds of all slots; tasks that report more than that in total share it.
        capacity = max(uptime * max(slots, 1), worked)
        if not capacity:
            continue
        cost = running_cost(record, now)
        for share, part in busy.items():
            totals[share] += cost * _exact(part) / _exact(capacity)
        totals["idle"] += cost * _exact(capacity - worked) / _exact(capacity)
    return CostBreakdown(**{share: Money(totals[share]) for share in ("work", "lost", "failed", "idle")})


def _share(outcome: int | None) -> str:
    kind = outcome_of(outcome)
    if kind is AttemptOutcome.LOST:
        return "lost"
    return "work" if kind in (None, AttemptOutcome.COMPLETED) else "failed"


def _exact(seconds: float) -> Decimal:
    # Microseconds: the resolution of a float of today's Unix time.
    return Decimal(f"{seconds:.6f}")
