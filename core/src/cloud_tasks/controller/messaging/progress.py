"""Progress of a run, for the log and for event sinks.

There are two types because their readers differ: `Progress` holds the store's records, for the command line;
`JobProgress` is part of the plugin contract, which has no store. Only `Progress.for_sinks` makes the second.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import attrs

from cloud_tasks.model import JobPhase, JobProgress, Money
from cloud_tasks.plugin import Depth
from cloud_tasks.store import InstanceRecord, JobSummary, Store, present_price, projected_cost, throughput

__all__ = ["Progress"]


@attrs.frozen(kw_only=True)
class Progress:
    """Progress of a job at one time."""

    now: datetime
    summary: JobSummary
    instances: tuple[InstanceRecord, ...]
    depth: Depth | None = None
    """Depth of the task queue; None if not known."""
    cost: Money

    @classmethod
    def read(cls, store: Store, now: datetime, *, depth: Depth | None = None) -> Progress:
        """Read the progress from the store, on the thread that owns it.

        Args:
            now: Time in UTC.
        """
        return cls(
            now=now,
            summary=store.summary(),
            instances=tuple(store.instances()),
            depth=depth,
            cost=store.spending(now),
        )

    @property
    def price_per_hour(self) -> Money:
        """Total price of the instances that exist, except pending ones."""
        return present_price(self.instances, self.now)

    def for_sinks(
        self, *, phase: JobPhase = JobPhase.RUNNING, reason: str = "", max_total_cost: Money | None = None
    ) -> JobProgress:
        """Return the progress for event sinks.

        Args:
            reason: Why the run was aborted.
            max_total_cost: The limit that the user set.
        """
        summary, price = self.summary, self.price_per_hour
        job = summary.job
        return JobProgress(
            job_id=job.job_id,
            run_id=job.run_id,
            now=self.now,
            created_at=job.created_at,
            started_at=summary.run_started_at or job.created_at,
            phase=phase,
            reason=reason,
            counts=dict(summary.counts),
            instances=dict(Counter(record.instance_type for record in self.instances if record.ended_at is None)),
            price_per_hour=price,
            cost=self.cost,
            expected_cost=projected_cost(
                summary, throughput(summary, self.now), accrued=self.cost, price_per_hour=price
            ),
            max_total_cost=max_total_cost,
        )
