"""What a user's program imports: `Worker` runs its function on tasks, `WorkerData` is what each call is told.

Everything that this package imports at module level is also in the memory of each task process, for those are forked
from the user's program: the light part of the standard library only. What serves the supervisor alone is imported
by the supervisor, after the fork.
"""

from __future__ import annotations

from cloud_tasks.worker.common.worker_data import WorkerData
from cloud_tasks.worker.worker import Worker

__all__ = ["Worker", "WorkerData"]
