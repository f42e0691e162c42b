"""Task files by status."""

from __future__ import annotations

import json
from pathlib import Path

from cloud_tasks.model import TaskStatus
from cloud_tasks.report.data.output_file import output_file
from cloud_tasks.store import Store

__all__ = ["dump_tasks"]


def dump_tasks(store: Store, folder: Path) -> tuple[Path, ...]:
    """Write ``{job_id}_{status}.json`` for every status that has tasks; return the files.

    Each is a task file: the tasks as loaded, in input order. An existing file is replaced at once.
    """
    summary = store.summary()
    written = []
    for status, count in summary.counts.items():
        if count:
            file = folder / f"{summary.job.job_id}_{status.value}.json"
            _write(store, status, file)
            written.append(file)
    return tuple(written)


def _write(store: Store, status: TaskStatus, file: Path) -> None:
    with output_file(file) as out:
        separator = "[\n"
        for task in store.export_tasks([status]):
            text = separator + json.dumps({"task_id": task.task_id, "data": dict(task.data)})
            out.write(text.encode())
            separator = ",\n"
        out.write(b"\n]\n")
