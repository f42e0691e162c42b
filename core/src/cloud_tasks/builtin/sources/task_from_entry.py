"""Conversion of an entry of a source to a task."""

from __future__ import annotations

from collections.abc import Callable

from cloud_tasks.model import Task
from cloud_tasks.taskfile import fields_of_entry, kind_of

__all__ = ["kind_of", "task_from_entry"]


def task_from_entry(entry: object, number: int, where: Callable[[], str]) -> Task:
    """Return the task of an entry; arguments and errors are those of `fields_of_entry`."""
    task_id, data = fields_of_entry(entry, number, where)
    return Task(task_id=task_id, data=data)
