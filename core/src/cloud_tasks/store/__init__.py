"""The job database: the one source of truth about a job. `Store` is the way in; everything else is facts it gives."""

from __future__ import annotations

from cloud_tasks.store.queries.throughput import Throughput, projected_cost, run_time, throughput
from cloud_tasks.store.records import (
    Applied,
    AttemptRecord,
    CostBreakdown,
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
    "CostBreakdown",
    "ElapsedStatistics",
    "InstanceRecord",
    "JobRecord",
    "JobState",
    "JobStatistics",
    "JobSummary",
    "Store",
    "Throughput",
    "TypeCost",
    "projected_cost",
    "run_time",
    "throughput",
]
