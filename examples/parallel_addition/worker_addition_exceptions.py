"""Addition with random failures, to demonstrate failure reports and retry switches.

Environment, in addition to that of ``worker_addition.py``:
    ADDITION_EXCEPTION_PROBABILITY: Probability of a ZeroDivisionError (0 to 1, default: 0).
    ADDITION_TIMEOUT_PROBABILITY: Probability of sleeping for 100,000 s, beyond any timeout (0 to 1, default: 0).
    ADDITION_EXIT_PROBABILITY: Probability of exiting the process with exit code 1 (0 to 1, default: 0).
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from typing import Any

from worker_addition import process_task as add

from cloud_tasks.worker import Worker, WorkerData


def happens(kind: str) -> bool:
    """Return whether this task should fail in the given way, at random."""
    # The system's generator: forked processes would otherwise all draw the same numbers.
    return random.SystemRandom().random() < float(os.environ.get(f"ADDITION_{kind}_PROBABILITY", "0"))


def process_task(task_id: str, task_data: dict[str, Any], worker_data: WorkerData) -> tuple[bool, str]:
    """Add two numbers, unless a random failure occurs first."""
    if happens("EXCEPTION"):
        task_data["num1"] / 0
    if happens("TIMEOUT"):
        time.sleep(100_000)
    if happens("EXIT"):
        sys.stdout.flush()
        os._exit(1)
    return add(task_id, task_data, worker_data)


async def main() -> None:
    worker = Worker(process_task, args=sys.argv[1:])
    await worker.start()


if __name__ == "__main__":
    asyncio.run(main())
