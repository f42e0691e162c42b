"""Adds two integers and stores their sum: the plain version of the example.

Environment:
    ADDITION_OUTPUT_DIR: Where results go: a directory, or any URL that fsspec knows (default: ``results``).
    ADDITION_TASK_DELAY: Seconds that each task waits after storing its result (default: 0).
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from cloud_tasks.worker import Worker, WorkerData


def store(task_id: str, text: str) -> str:
    """Write a task's result; returns its path or URL."""
    folder = os.environ.get("ADDITION_OUTPUT_DIR", "results")
    path = f"{folder.rstrip('/')}/{task_id}.txt"
    if "://" in folder:
        import fsspec  # only where it is needed: what is imported costs each task a little

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
    with open(path, "wb", buffering=0) as file:  # a few bytes, written once: nothing to buffer
        file.write(text.encode())


def process_task(task_id: str, task_data: dict[str, Any], worker_data: WorkerData) -> tuple[bool, str]:
    """Do one addition; returns whether to try again (never), and where the sum is."""
    total = task_data["num1"] + task_data["num2"]
    path = store(task_id, f"{total}\n")
    time.sleep(float(os.environ.get("ADDITION_TASK_DELAY", "0")))
    return False, path


if __name__ == "__main__":
    # `asyncio.run(worker.start())` does the same; without asyncio in memory each task's process starts sooner.
    Worker(process_task, args=sys.argv[1:]).run()
