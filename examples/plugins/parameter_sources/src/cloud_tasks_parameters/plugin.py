"""What this distribution registers. A source is imported when it is opened, not before."""

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

    yield GridSource(_place(context), settings)


@contextmanager
def _open_directory(settings: DirectorySettings, context: TaskSourceContext) -> Iterator[TaskSource]:
    from cloud_tasks_parameters.directory import DirectorySource

    yield DirectorySource(_place(context), settings)


def _place(context: TaskSourceContext) -> Path:
    """A relative path refers to where the configuration says; absolute, so that a task can be done anywhere."""
    return (context.base_dir / Path(context.location).expanduser()).absolute()
