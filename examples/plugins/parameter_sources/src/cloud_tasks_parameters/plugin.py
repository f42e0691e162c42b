"""Registration of the task sources. A source is imported when it is opened."""

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
            name="grid",
            summary="Every combination of the parameters in a TOML file",
            settings=GridSettings,
            suffixes=(".grid.toml",),
            open=_open_grid,
        ),
        TaskSourceBackend(
            name="directory",
            summary="Every file of a folder",
            settings=DirectorySettings,
            open=_open_directory,
        ),
    )


@contextmanager
def _open_grid(settings: GridSettings, context: TaskSourceContext) -> Iterator[TaskSource]:
    from cloud_tasks_parameters.grid import GridSource

    yield GridSource(_path_of(context), settings)


@contextmanager
def _open_directory(settings: DirectorySettings, context: TaskSourceContext) -> Iterator[TaskSource]:
    from cloud_tasks_parameters.directory import DirectorySource

    yield DirectorySource(_path_of(context), settings)


def _path_of(context: TaskSourceContext) -> Path:
    """Return the absolute path of a location, relative ones being based on the configuration file's folder."""
    return (context.base_dir / Path(context.location).expanduser()).absolute()
