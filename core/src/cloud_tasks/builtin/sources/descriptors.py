"""Descriptors of the built-in task sources. A source is imported when it is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cloud_tasks.plugin import NoSettings, TaskSource, TaskSourceBackend, TaskSourceContext

__all__ = ["task_source_descriptors"]


@contextmanager
def _open_json(settings: NoSettings, context: TaskSourceContext) -> Iterator[TaskSource]:
    from cloud_tasks.builtin.sources.json_file import JsonFileSource

    yield JsonFileSource(context.location, context.base_dir)


@contextmanager
def _open_json_lines(settings: NoSettings, context: TaskSourceContext) -> Iterator[TaskSource]:
    from cloud_tasks.builtin.sources.json_lines import JsonLinesSource

    yield JsonLinesSource(context.location, context.base_dir)


@contextmanager
def _open_yaml(settings: NoSettings, context: TaskSourceContext) -> Iterator[TaskSource]:
    from cloud_tasks.builtin.sources.yaml_file import YamlFileSource

    yield YamlFileSource(context.location, context.base_dir)


@contextmanager
def _open_factory(settings: NoSettings, context: TaskSourceContext) -> Iterator[TaskSource]:
    from cloud_tasks.builtin.sources.factory import load_factory

    yield load_factory(context.location, context.base_dir)


@contextmanager
def _open_grid(settings: NoSettings, context: TaskSourceContext) -> Iterator[TaskSource]:
    from cloud_tasks.builtin.sources.grid import GridSource

    yield GridSource(context.location)


def _source(name: str, summary: str, open_: Any, *suffixes: str) -> TaskSourceBackend:
    return TaskSourceBackend(name=name, summary=summary, open=open_, suffixes=suffixes)


def task_source_descriptors() -> Sequence[TaskSourceBackend]:
    """Return the descriptors of JSON, JSON Lines and YAML files, factories and parameter grids."""
    return [
        _source("json", "a JSON file or URL holding a list of tasks", _open_json, ".json"),
        _source("jsonl", "a file or URL with one JSON task per line", _open_json_lines, ".jsonl", ".ndjson"),
        _source("yaml", "a YAML file or URL holding a list of tasks", _open_yaml, ".yaml", ".yml"),
        _source(
            "factory", "a Python function that yields tasks: module:function or path/to/file.py:function", _open_factory
        ),
        _source("grid", "a parameter grid, one task per combination: grid:seed=1..100;mode=fast,slow", _open_grid),
    ]
