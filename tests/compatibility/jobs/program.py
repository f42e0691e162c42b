"""A program whose tasks end as their data say."""

import asyncio
import os
import sys
import time
from typing import Any

from cloud_tasks.worker import Worker, WorkerData


def process_task(task_id: str, task_data: dict[str, Any], worker_data: WorkerData) -> tuple[bool, Any]:
    ending = task_data["ending"]
    if ending == "raise":
        raise ValueError(f"{task_id}: no such crater")
    if ending == "exit":
        os._exit(3)
    if ending == "retry":
        return True, "again"
    time.sleep(task_data.get("seconds", 0))
    return False, {"id": task_id, "ending": ending}


asyncio.run(Worker(process_task, args=sys.argv[1:]).start())
