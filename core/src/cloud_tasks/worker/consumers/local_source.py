"""Local sources of tasks: JSON files are read directly, everything else through a task source."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloud_tasks.plugin import Backend
    from cloud_tasks.registry import Registry

__all__ = ["LocalSource", "open_local_source"]


class LocalSource:
    """Tasks as (id, data).

    Args:
        expected: Number of tasks; None if that is unknown.
        where: Name of the source in errors.
        place: Returns the place of the task that was read last.
    """

    def __init__(
        self, tasks: Iterator[tuple[str, Any]], expected: int | None, *, where: str, place: Callable[[], str] | None
    ) -> None:
        self.tasks = tasks
        self.expected = expected
        self.where = where
        self.place = place or (lambda: where)


@contextmanager
def open_local_source(
    spec: Any, *, plugins: Callable[[], Registry], settings_of: Callable[[Backend], Any]
) -> Iterator[LocalSource]:
    """Open a local source.

    Args:
        spec: What `cloud_tasks.builtin.open_task_source` takes.
        plugins: Returns the installed plugins; called for a name that may be that of a plugin's source.
        settings_of: Returns the settings of a plugin.

    Raises:
        InputError: The source is invalid; raised on entering or while iterating.
    """
    if _is_plain_json(spec):
        from cloud_tasks.taskfile import JsonList, open_binary, place_of

        where = place_of(spec, os.getcwd())
        with open_binary(where) as stream:
            tasks = JsonList(stream, where)
            yield LocalSource(tasks.fields(), None, where=where, place=tasks.place)
        return
    from pathlib import Path

    from cloud_tasks import builtin

    registry = None if builtin.is_builtin_source(spec) else plugins()

    def settings_for(kind: str, name: str) -> Any:
        assert registry is not None
        return settings_of(registry.task_source(name))

    with builtin.open_task_source(
        registry, spec, base_dir=Path.cwd(), settings_for=None if registry is None else settings_for
    ) as source:
        pairs = ((task.task_id, task.data) for task in source)
        named = str(spec) if isinstance(spec, (str, os.PathLike)) else ""
        where, place = str(getattr(source, "where", "")) or named, getattr(source, "place", None)
        yield LocalSource(pairs, source.expected_length(), where=where, place=place)


def _is_plain_json(spec: Any) -> bool:
    """Return whether ``spec`` is a local JSON file, which needs none of the slow imports of task sources."""
    return isinstance(spec, str) and ":" not in spec and spec.lower().endswith(".json") and os.path.isfile(spec)
