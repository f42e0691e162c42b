"""The job database: the one source of truth about a job. `Store` is the way in; everything else is facts it gives."""

from __future__ import annotations

from cloud_tasks.store.queries.throughput import Pace, pace, projected_cost, run_time
from cloud_tasks.store.records import (
    Applied,
    AttemptRecord,
    CostShares,
    ElapsedStatistics,
    InstanceRecord,
    JobRecord,
    JobState,
    JobStatistics,
    JobSummary,
    TypeCost,
)
from cloud_tasks.store.store import Store

__all__ = [
    "Applied",
    "AttemptRecord",
    "CostShares",
    "ElapsedStatistics",
    "InstanceRecord",
    "JobRecord",
    "JobState",
    "JobStatistics",
    "JobSummary",
    "Pace",
    "Store",
    "TypeCost",
    "pace",
    "projected_cost",
    "run_time",
]
