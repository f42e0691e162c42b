"""Backends registered by this distribution. A source is imported when it is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cloud_tasks.plugin import TaskSource, TaskSourceBackend, TaskSourceContext, hookimpl
from cloud_tasks_parameters.settings import DirectorySettings, GridSettings

__all__ = ["cloud_tasks_register_task_source"]


@hookimpl
def cloud_tasks_register_task_source() -> Sequence[TaskSourceBackend]:
    return (
        TaskSourceBackend(
            name="toml-grid",
            summary="One task per combination of the parameter values in a TOML file",
            settings=GridSettings,
            suffixes=(".grid.toml",),
            open=_open_grid,
        ),
        TaskSourceBackend(
            name="directory",
            summary="One task per file of a folder",
            settings=DirectorySettings,
            open=_open_directory,
        ),
    )


@contextmanager
def _open_grid(settings: GridSettings, context: TaskSourceContext) -> Iterator[TaskSource]:
    from cloud_tasks_parameters.grid import GridSource

    yield GridSource(context, settings)


@contextmanager
def _open_directory(settings: DirectorySettings, context: TaskSourceContext) -> Iterator[TaskSource]:
    from cloud_tasks_parameters.directory import DirectorySource

    yield DirectorySource(_path(context), settings)


def _path(context: TaskSourceContext) -> Path:
    """Return the absolute path, relative to the configuration, so that any worker can use it."""
    return (context.base_dir / Path(context.location).expanduser()).absolute()
