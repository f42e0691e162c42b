"""Task source: a JSON file with tasks, read one task at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cloud_tasks.model import Task
from cloud_tasks.taskfile import JsonList, display_name, open_binary, place_of

__all__ = ["JsonFileSource"]


class JsonFileSource:
    """Tasks of a JSON file or URL.

    Args:
        chunk_bytes: Size of one read.

    Raises (while iterating):
        InputError: A task is invalid; the message has file, line, number of the task and reason.
    """

    def __init__(self, location: str, base_dir: Path, *, chunk_bytes: int = 1 << 16) -> None:
        self._place = place_of(location, base_dir)
        self._chunk_bytes = chunk_bytes
        self.where = display_name(self._place)
        self._current: JsonList | None = None

    def __iter__(self) -> Iterator[Task]:
        with open_binary(self._place) as stream:
            tasks = JsonList(stream, self.where, self._chunk_bytes)
            self._current = tasks
            for task_id, data in tasks.fields():
                yield Task(task_id=task_id, data=data)

    def place(self) -> str:
        """Return file and line of the task that was yielded last."""
        return self.where if self._current is None else self._current.place()

    def expected_length(self) -> int | None:
        return None
