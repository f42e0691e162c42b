"""The task sources and event sinks that come with core, registered through the same hooks as everyone's.

Nothing of a source or sink is imported before it is opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from cloud_tasks.builtin.resolve import open_task_source
from cloud_tasks.builtin.sink_settings import SqliteSettings
from cloud_tasks.model import Task
from cloud_tasks.plugin import (
    EventSink,
    EventSinkBackend,
    EventSinkContext,
    NoSettings,
    TaskSource,
    TaskSourceBackend,
    TaskSourceContext,
    hookimpl,
)

__all__ = ["open_task_source", "validate"]


def validate(source: Iterable[Task]) -> int:
    """Read every task of a source, keep none; returns how many there are.

    `Store.load_tasks` makes the same checks; this is for when nothing is to be stored.

    Raises:
        InputError: What the source raises; an id that comes twice; data that JSON cannot hold.
    """
    from cloud_tasks.builtin.validation import read_all

    return read_all(source)


@contextmanager
def _open_json(settings: NoSettings, context: TaskSourceContext) -> Iterator[TaskSource]:
    from cloud_tasks.builtin.json_file import JsonFileSource

    yield JsonFileSource(context.location, context.base_dir)


@contextmanager
def _open_json_lines(settings: NoSettings, context: TaskSourceContext) -> Iterator[TaskSource]:
    from cloud_tasks.builtin.json_lines import JsonLinesSource

    yield JsonLinesSource(context.location, context.base_dir)


@contextmanager
def _open_yaml(settings: NoSettings, context: TaskSourceContext) -> Iterator[TaskSource]:
    from cloud_tasks.builtin.yaml_file import YamlFileSource

    yield YamlFileSource(context.location, context.base_dir)


@contextmanager
def _open_factory(settings: NoSettings, context: TaskSourceContext) -> Iterator[TaskSource]:
    from cloud_tasks.builtin.factory import load_factory

    yield load_factory(context.location, context.base_dir)


@contextmanager
def _open_sweep(settings: NoSettings, context: TaskSourceContext) -> Iterator[TaskSource]:
    from cloud_tasks.builtin.sweep import SweepSource

    yield SweepSource(context.location)


@contextmanager
def _open_json_lines_sink(settings: NoSettings, context: EventSinkContext) -> Iterator[EventSink]:
    from cloud_tasks.builtin.sinks import JsonLinesSink

    sink = JsonLinesSink.for_job(context)
    try:
        yield sink
    finally:
        sink.close()


@contextmanager
def _open_console_sink(settings: NoSettings, context: EventSinkContext) -> Iterator[EventSink]:
    from cloud_tasks.builtin.sinks import ConsoleSink

    sink = ConsoleSink()
    try:
        yield sink
    finally:
        sink.close()


@contextmanager
def _open_sqlite_sink(settings: SqliteSettings, context: EventSinkContext) -> Iterator[EventSink]:
    from cloud_tasks.builtin.sqlite_sink import SqliteSink

    with closing(SqliteSink(settings.file or Path(f"{context.job_id or 'cloud-tasks'}-events.sqlite"))) as sink:
        yield sink


def _source(name: str, summary: str, open_: Any, *suffixes: str) -> TaskSourceBackend:
    return TaskSourceBackend(name=name, summary=summary, open=open_, suffixes=suffixes)


@hookimpl
def cloud_tasks_register_task_source() -> Sequence[TaskSourceBackend]:
    """JSON, JSON Lines and YAML files, factories, sweeps."""
    return [
        _source("json", "a JSON file or URL holding a list of tasks", _open_json, ".json"),
        _source("jsonl", "a file or URL with one JSON task per line", _open_json_lines, ".jsonl", ".ndjson"),
        _source("yaml", "a YAML file or URL holding a list of tasks", _open_yaml, ".yaml", ".yml"),
        _source(
            "factory", "a Python function that yields tasks: module:function or path/to/file.py:function", _open_factory
        ),
        _source("sweep", "every combination of values: sweep:seed=1..100;mode=fast,slow", _open_sweep),
    ]


@hookimpl
def cloud_tasks_register_event_sink() -> Sequence[EventSinkBackend]:
    """Files (JSON lines, SQLite) and standard output."""
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
            keeps_once=True,
            open=_open_sqlite_sink,
        ),
    ]
