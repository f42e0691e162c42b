"""The job database: the single source of truth about a job.

`Store` reads and writes it. Programs that only read, with SQL of their own (the dashboard), take a connection from
`connect_reader`, the ``read_*`` functions, and the tables of codes that stand for enum values in the database; their
reads run inside `readable`.
"""

from __future__ import annotations

from cloud_tasks.store.booking import booked_since, booked_until, mean_price, present_price, running_cost
from cloud_tasks.store.clock import ClockRecords, JobClock, clock_ahead, job_time
from cloud_tasks.store.db.connection import connect_reader, side_files
from cloud_tasks.store.db.damage import check_content
from cloud_tasks.store.db.enum_codes import (
    EVENT_OF_CODE,
    EVENT_TO_CODE,
    OUTCOME_OF_CODE,
    OUTCOME_TO_CODE,
    STATUS_OF_CODE,
    STATUS_TO_CODE,
    outcome_of,
    status_of,
)
from cloud_tasks.store.db.file_header import is_job_database
from cloud_tasks.store.db.reading import decode_object, readable
from cloud_tasks.store.db.schema import APPLICATION_ID
from cloud_tasks.store.db.times import to_unix
from cloud_tasks.store.db.writer_lock import writer_of
from cloud_tasks.store.listed import named_end
from cloud_tasks.store.queries.activity import Activity, ActivityState, read_activity
from cloud_tasks.store.queries.failure_groups import FailureGroups, message_of, same_group
from cloud_tasks.store.queries.history import (
    TaskAttempt,
    TaskRecord,
    iterate_attempts,
    iterate_events,
    iterate_tasks,
    slowest_tasks,
)
from cloud_tasks.store.queries.recent_failures import LatestFailure, RecentFailures
from cloud_tasks.store.queries.summary import read_elapsed_times, read_summary
from cloud_tasks.store.queries.throughput import Throughput, projected_cost, run_time, throughput
from cloud_tasks.store.queries.timeline import Timeline, read_elapsed_histogram, read_timeline
from cloud_tasks.store.records import (
    Applied,
    AttemptRecord,
    BrokenWorker,
    CostBreakdown,
    ElapsedStatistics,
    Failure,
    InstanceRecord,
    JobRecord,
    JobState,
    JobStatistics,
    JobSummary,
    TypeCost,
)
from cloud_tasks.store.store import Store
from cloud_tasks.store.write.counters import read_counters
from cloud_tasks.store.write.instances import ended_cost, read_instances
from cloud_tasks.store.write.tasks import read_clock, read_job

__all__ = [
    "APPLICATION_ID",
    "EVENT_OF_CODE",
    "EVENT_TO_CODE",
    "OUTCOME_OF_CODE",
    "OUTCOME_TO_CODE",
    "STATUS_OF_CODE",
    "STATUS_TO_CODE",
    "Activity",
    "ActivityState",
    "Applied",
    "AttemptRecord",
    "BrokenWorker",
    "ClockRecords",
    "CostBreakdown",
    "ElapsedStatistics",
    "Failure",
    "FailureGroups",
    "InstanceRecord",
    "JobClock",
    "JobRecord",
    "JobState",
    "JobStatistics",
    "JobSummary",
    "LatestFailure",
    "RecentFailures",
    "Store",
    "TaskAttempt",
    "TaskRecord",
    "Throughput",
    "Timeline",
    "TypeCost",
    "booked_since",
    "booked_until",
    "check_content",
    "clock_ahead",
    "connect_reader",
    "decode_object",
    "ended_cost",
    "is_job_database",
    "iterate_attempts",
    "iterate_events",
    "iterate_tasks",
    "job_time",
    "mean_price",
    "message_of",
    "named_end",
    "outcome_of",
    "present_price",
    "projected_cost",
    "read_activity",
    "read_clock",
    "read_counters",
    "read_elapsed_histogram",
    "read_elapsed_times",
    "read_instances",
    "read_job",
    "read_summary",
    "read_timeline",
    "readable",
    "run_time",
    "running_cost",
    "same_group",
    "side_files",
    "slowest_tasks",
    "status_of",
    "throughput",
    "to_unix",
    "writer_of",
]
