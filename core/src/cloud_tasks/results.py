"""Results of tasks as Python values, for programs that ask for them.

Results without a JSON form are pickled, and unpickling executes code that the writer of the result has chosen: a task,
or a user who can send events of the job or write to its result store. The functions of this module are the only place
in cloud-tasks that unpickles what others have written, and nothing in cloud-tasks calls them.

Invariants, each with a test:

1. No other module of cloud-tasks unpickles, but for what the process that started it has written.
"""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cloud_tasks.errors import InputError
from cloud_tasks.model import TaskStatus
from cloud_tasks.store import TaskRecord, iterate_tasks

__all__ = ["load_result", "load_results"]


def load_results(database: Path | str) -> Iterator[tuple[str, Any]]:
    """Yield id and result of each completed task of a job, in input order. Executes code, see `load_result`.

    Args:
        database: The job database.

    Raises:
        StoreError: The database cannot be read.
        InputError: As `load_result`.
    """
    for record in iterate_tasks(Path(database), statuses=[TaskStatus.COMPLETED]):
        yield record.task_id, load_result(record)


def load_result(completed: TaskRecord | Mapping[str, Any]) -> Any:
    """Return the result of a completed task as a Python value.

    A pickled result is unpickled, which executes code: call this only for jobs whose tasks, queues and result store
    you trust. JSON results are returned as they are, those in the result store are read from there.

    Args:
        completed: A `TaskRecord`; or a ``task_completed`` event, as in an event log or in ``export events``.

    Raises:
        InputError: The value was not kept, because it could not be pickled.
        Exception: The result store cannot be read, or the value cannot be unpickled, e.g. for want of its module.
    """
    fields = _fields(completed)
    if fields.get("result_pickle"):
        return _unpickled(base64.b64decode(fields["result_pickle"]))
    if fields.get("result_address"):
        content = _read(fields["result_address"])
        return _unpickled(content) if fields.get("result_type") else json.loads(content)
    if fields.get("result_type"):
        raise InputError(
            f"the result of type {fields['result_type']} was not kept: it could not be pickled",
            where=str(fields.get("task_id", "")),
            hint="return a value with a JSON form, or one that can be pickled",
        )
    return fields.get("result")


def _fields(completed: TaskRecord | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(completed, TaskRecord):
        names = ("task_id", "result", "result_type", "result_address", "result_pickle")
        return {name: getattr(completed, name) for name in names}
    details = completed.get("details")
    return {**completed, **details} if isinstance(details, Mapping) else completed


def _unpickled(content: bytes) -> Any:
    # On behalf of a caller who was warned: see the docstrings.
    return pickle.loads(content)


def _read(address: str) -> bytes:
    if "://" not in address:
        return Path(address).read_bytes()
    import fsspec

    with fsspec.open(address, "rb") as file:
        content: bytes = file.read()
    return content
