"""Addition with tasks from a factory function: no task file, no queue.

Environment, in addition to that of ``worker_addition.py``:
    ADDITION_MAX_TASKS: Number of tasks (default: 10000).
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Iterator
from typing import Any

from worker_addition import process_task

from cloud_tasks.worker import Worker


def addition_tasks() -> Iterator[dict[str, Any]]:
    """Yield tasks one at a time, the same ones on each call, in constant memory."""
    source = random.Random(2)
    for number in range(1, int(os.environ.get("ADDITION_MAX_TASKS", "10000")) + 1):
        numbers = {"num1": source.randint(-100_000, 100_000), "num2": source.randint(-100_000, 100_000)}
        yield {"task_id": f"addition-task-{number:06d}", "data": numbers}


async def main() -> None:
    worker = Worker(process_task, args=sys.argv[1:], task_source=addition_tasks)
    await worker.start()


if __name__ == "__main__":
    asyncio.run(main())
