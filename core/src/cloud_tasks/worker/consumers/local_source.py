"""Tasks of a local source as (id, data): a JSON file directly, anything else through a task source."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["LocalSource", "open_local_source"]


class LocalSource:
    """Tasks, and how many there are, where that is known."""

    def __init__(self, tasks: Iterator[tuple[str, Any]], expected: int | None) -> None:
        self.tasks = tasks
        self.expected = expected


@contextmanager
def open_local_source(spec: Any) -> Iterator[LocalSource]:
    """Open what ``spec`` means to `cloud_tasks.builtin.open_task_source`.

    Raises:
        InputError: On entering or on iterating.
    """
    if _is_plain_json(spec):
        from cloud_tasks.taskfile.json_stream import JsonList
        from cloud_tasks.taskfile.open_file import open_binary, place_of

        where = place_of(spec, os.getcwd())
        with open_binary(where) as stream:
            yield LocalSource(JsonList(stream, where).fields(), None)
        return
    from pathlib import Path

    from cloud_tasks import builtin

    with builtin.open_task_source(None, spec, base_dir=Path.cwd()) as source:
        yield LocalSource(((task.task_id, task.data) for task in source), source.expected_length())


def _is_plain_json(spec: Any) -> bool:
    """A JSON file, read without what task sources bring along: this is what a person starts by hand and waits for."""
    return isinstance(spec, str) and ":" not in spec and spec.lower().endswith(".json") and os.path.isfile(spec)
