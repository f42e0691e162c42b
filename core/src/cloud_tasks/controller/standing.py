"""How the job stands, put together for sinks that want to know."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import attrs

from cloud_tasks.model import JobPhase, JobProgress, Money
from cloud_tasks.store import Store

__all__ = ["Standing"]


@attrs.frozen(kw_only=True)
class Standing:
    """Says at any moment how a job stands; used by the thread that owns the store."""

    store: Store
    started_at: datetime
    """When this run began (UTC)."""
    finished_before: int
    """Tasks that were in a final state by then."""
    max_total_cost: Money | None = None

    def at(self, now: datetime, *, phase: JobPhase = JobPhase.RUNNING, reason: str = "") -> JobProgress:
        """The state of the job.

        Args:
            now: UTC.
            reason: Why it was aborted.
        """
        summary = self.store.summary()
        alive = [record for record in self.store.instances() if record.ended_at is None]
        price = sum((record.price_per_hour for record in alive), Money.zero())
        cost = self.store.spending(now)
        return JobProgress(
            job_id=summary.job.job_id,
            run_id=summary.job.run_id,
            now=now,
            created_at=summary.job.created_at,
            started_at=self.started_at,
            phase=phase,
            reason=reason,
            counts=dict(summary.counts),
            instances=dict(Counter(record.instance_type for record in alive)),
            price_per_hour=price,
            cost=cost,
            expected_cost=self._expected(now, summary.finished_tasks, summary.remaining, cost, price),
            max_total_cost=self.max_total_cost,
        )

    def _expected(self, now: datetime, finished: int, remaining: int, cost: Money, price: Money) -> Money | None:
        """What the job will have cost, should the fleet of now go on at the pace of this run."""
        hours = (now - self.started_at).total_seconds() / 3600
        done = finished - self.finished_before
        if remaining == 0:
            return cost
        if done <= 0 or hours <= 0:
            return None
        return cost + price * (remaining * hours / done)
