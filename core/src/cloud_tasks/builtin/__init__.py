"""Built-in task sources and event sinks, registered through the plugin hooks.

A source or sink is imported when it is opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager

from cloud_tasks.builtin.sinks.settings import SqliteSettings
from cloud_tasks.builtin.sources.descriptors import task_source_descriptors
from cloud_tasks.builtin.sources.resolve import is_builtin_source, location_of_source, open_task_source
from cloud_tasks.model import Task
from cloud_tasks.plugin import (
    EventSink,
    EventSinkBackend,
    EventSinkContext,
    NoSettings,
    TaskSource,
    TaskSourceBackend,
    hookimpl,
)

__all__ = ["check_length", "is_builtin_source", "location_of_source", "open_task_source", "parameter_grid", "validate"]


def validate(source: Iterable[Task], *, where: str = "") -> int:
    """Read and check every task of a source, and return their number.

    `Store.load_tasks` makes the same checks while it stores the tasks.

    Args:
        where: Location shown in errors (default: the source's ``where``, if it has one).

    Raises:
        InputError: The source raises it, an id is duplicate, or data cannot be encoded as JSON.
    """
    from cloud_tasks.builtin.sources.validation import read_all

    return read_all(source, where=where)


def check_length(source: Iterable[Task], *, limit: int | None = None) -> None:
    """Check the number of tasks of a source before they are read, where it is known.

    Args:
        limit: Number of tasks that are read at most.

    Raises:
        InputError: More than a job can have.
    """
    from cloud_tasks.builtin.sources import validation

    validation.check_length(source, limit=limit)


def parameter_grid(parameters: Sequence[str]) -> TaskSource:
    """Return the source of a parameter grid, each parameter as ``name=values``; blanks and semicolons are ordinary.

    Raises:
        InputError: A parameter is invalid.
    """
    from cloud_tasks.builtin.sources.grid import GridSource

    return GridSource(parameters)


@contextmanager
def _open_json_lines_sink(settings: NoSettings, context: EventSinkContext) -> Iterator[EventSink]:
    from cloud_tasks.builtin.sinks.files import JsonLinesSink

    with closing(JsonLinesSink.for_job(context)) as sink:
        yield sink


@contextmanager
def _open_console_sink(settings: NoSettings, context: EventSinkContext) -> Iterator[EventSink]:
    from cloud_tasks.builtin.sinks.files import ConsoleSink

    with closing(ConsoleSink()) as sink:
        yield sink


@contextmanager
def _open_sqlite_sink(settings: SqliteSettings, context: EventSinkContext) -> Iterator[EventSink]:
    from cloud_tasks.builtin.sinks.sqlite_sink import SqliteSink

    with closing(
        SqliteSink(settings.file or context.base_dir / f"{context.job_id or 'cloud-tasks'}-events.sqlite")
    ) as sink:
        yield sink


@hookimpl
def cloud_tasks_register_task_source() -> Sequence[TaskSourceBackend]:
    """Return the sources of JSON, JSON Lines and YAML files, factories and parameter grids."""
    return task_source_descriptors()


@hookimpl
def cloud_tasks_register_event_sink() -> Sequence[EventSinkBackend]:
    """Return the sinks for files (JSON Lines, SQLite) and standard output."""
    return [
        EventSinkBackend(
            name="jsonl", summary="append events to a file, one JSON object per line", open=_open_json_lines_sink
        ),
        EventSinkBackend(
            name="console", summary="print events to standard output, one JSON object per line", open=_open_console_sink
        ),
        EventSinkBackend(
            name="sqlite",
            summary="write events to a table of a SQLite database",
            settings=SqliteSettings,
            idempotent=True,
            open=_open_sqlite_sink,
        ),
    ]
