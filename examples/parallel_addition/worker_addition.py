"""Add two integers and store their sum: the basic version of the example.

Environment:
    ADDITION_OUTPUT_DIR: Folder or fsspec URL of the results (default: ``results``).
    ADDITION_TASK_DELAY: Seconds to wait after storing a result (default: 0).
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from cloud_tasks.worker import Worker, WorkerData


def store(task_id: str, text: str) -> str:
    """Write a task's result; return its path or URL."""
    folder = os.environ.get("ADDITION_OUTPUT_DIR", "results")
    path = f"{folder.rstrip('/')}/{task_id}.txt"
    if "://" in folder:
        import fsspec  # only if needed: each imported module costs every task a little

        with fsspec.open(path, "w", auto_mkdir=True) as file:
            file.write(text)
        return path
    try:
        write(path, text)
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)
        write(path, text)
    return path


def write(path: str, text: str) -> None:
    with open(path, "wb", buffering=0) as file:  # a few bytes, written once: no buffer needed
        file.write(text.encode())


def process_task(task_id: str, task_data: dict[str, Any], worker_data: WorkerData) -> tuple[bool, str]:
    """Add two numbers; return whether to retry (never) and the location of the sum."""
    total = task_data["num1"] + task_data["num2"]
    path = store(task_id, f"{total}\n")
    time.sleep(float(os.environ.get("ADDITION_TASK_DELAY", "0")))
    return False, path


if __name__ == "__main__":
    # Equivalent: `asyncio.run(worker.start())`. Without asyncio in memory, task processes start faster.
    Worker(process_task, args=sys.argv[1:]).run()
