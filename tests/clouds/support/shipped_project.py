"""A user's project that is shipped: a program, a package of its own, and two requirements from the package index."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["PROGRAM", "write_project", "write_tasks"]

PROGRAM = """
import asyncio
import sys

import humanize
from cloud_tasks.worker import Worker
from craters.shape import area


def process_task(task_id, data, worker_data):
    return False, {"area": humanize.intcomma(area(data["radius"])), "python": sys.version_info[:2]}


if __name__ == "__main__":
    asyncio.run(Worker(process_task).start())
"""

PACKAGE = """
from more_itertools import one


def area(radius):
    return one([radius * radius])
"""


def write_project(folder: Path, *, tasks: int) -> None:
    """Write program, package, requirements, tasks, and a file with a secret."""
    (folder / "craters").mkdir()
    files = {
        "find_craters.py": PROGRAM,
        "craters/__init__.py": "",
        "craters/shape.py": PACKAGE,
        "requirements.txt": "humanize>=4\nmore-itertools>=10\n",
        ".env": "TOKEN=x\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    write_tasks(folder, tasks)


def write_tasks(folder: Path, count: int) -> None:
    content = [{"id": f"t{n}", "data": {"radius": n * 100}} for n in range(count)]
    (folder / "tasks.json").write_text(json.dumps(content))
