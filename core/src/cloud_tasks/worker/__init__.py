"""The worker, as imported by a user's program: `Worker` runs a function on tasks, `WorkerData` is its argument.

Task processes are forked from the user's program, so they have in memory all modules that this package imports at
module level: the light part of the standard library only. The supervisor imports its own modules after the fork.
"""

from __future__ import annotations

from cloud_tasks.worker.common.worker_data import WorkerData
from cloud_tasks.worker.worker import Worker

__all__ = ["Worker", "WorkerData"]
