"""Task source: a JSON file with a list of tasks, read one task at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cloud_tasks.model import Task
from cloud_tasks.taskfile import JsonList, open_binary, place_of

__all__ = ["JsonFileSource"]


class JsonFileSource:
    """Tasks of a JSON file or URL.

    Args:
        chunk_bytes: Size of one read.

    Raises (while iterating):
        InputError: A task is invalid; the message has file, line, number of the task and reason.
    """

    def __init__(self, location: str, base_dir: Path, *, chunk_bytes: int = 1 << 16) -> None:
        self.where = place_of(location, base_dir)
        self._chunk_bytes = chunk_bytes

    def __iter__(self) -> Iterator[Task]:
        with open_binary(self.where) as stream:
            for task_id, data in JsonList(stream, self.where, self._chunk_bytes).fields():
                yield Task(task_id=task_id, data=data)

    def expected_length(self) -> int | None:
        return None
