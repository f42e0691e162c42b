"""Conversion of an entry of a source to a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cloud_tasks.model import Task
from cloud_tasks.taskfile import check_data, fields_of_entry

__all__ = ["task_from_entry"]


def task_from_entry(entry: object, number: int, where: Callable[[], str], *, hint: str = "") -> Task:
    """Return the task of an entry of Python values; arguments and errors are those of `fields_of_entry`.

    Raises:
        InputError: As `fields_of_entry` and `check_data`.
    """
    if isinstance(entry, Task):
        data: Any = entry.data
        if type(data) is not dict and isinstance(data, Mapping):
            data = dict(data)
        entry = {"task_id": entry.task_id, "data": data}
    task_id, data = fields_of_entry(entry, number, where)
    check_data(task_id, data, number, where, hint=hint)
    return Task(task_id=task_id, data=data)
