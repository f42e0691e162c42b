"""Options for number and duration of tasks, shared by ``plan`` and ``simulate``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from cloud_tasks.builtin import check_length, open_task_source, validate
from cloud_tasks.cli.options.common import file_option
from cloud_tasks.cli.options.database import read_database
from cloud_tasks.cli.options.durations import Duration
from cloud_tasks.command_template import CheckedTasks
from cloud_tasks.config import JobConfig
from cloud_tasks.errors import InputError
from cloud_tasks.escape import without_credentials
from cloud_tasks.estimate import TaskDurations
from cloud_tasks.model import Task

__all__ = ["count_tasks", "estimate_options", "mean_task_time", "task_durations"]

_F = TypeVar("_F", bound=Callable[..., Any])


def estimate_options(*, boot_time: str) -> Callable[[_F], _F]:
    """Return a decorator that adds ``--task-file``, ``--num-tasks``, ``--task-time``, ``--sample-db``, ``--boot-time``.

    Args:
        boot_time: Default of ``--boot-time``.
    """
    options = (
        click.option("--task-file", metavar="FILE", help="Task file to count (default: task_source)."),
        click.option(
            "--num-tasks", type=click.IntRange(0, 10**12), metavar="N", help="Number of tasks, instead of a task file."
        ),
        click.option("--task-time", type=Duration(), help="Mean duration of a task, e.g. 90s."),
        file_option("--sample-db", help="Database of an earlier job to take task durations from."),
        click.option(
            "--boot-time",
            type=Duration(maximum=timedelta(days=1), zero=True),
            default=boot_time,
            help=f"Mean time from a launch to the first task (default: {boot_time}).",
        ),
    )

    def decorate(function: _F) -> _F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def count_tasks(
    config: JobConfig, *, number: int | None, spec: str | None, allow_empty: bool | None = None
) -> int | None:
    """Return the number of tasks; None where it is unknown.

    Args:
        number: ``--num-tasks``.
        spec: ``--task-file``; None: the configuration's ``task_source``.
        allow_empty: ``--allow-empty``; None for a command without it.
    """
    if number is not None and spec is not None:
        raise InputError("--num-tasks and --task-file exclude each other", hint="give one of them")
    spec, base_dir = config.task_source_of(spec)
    if number is not None or spec is None:
        return number
    with open_task_source(config.registry, spec, base_dir=base_dir, settings_for=config.settings_for) as source:
        check_length(source)
        template = config.command_template()
        where = str(getattr(source, "where", "")) or without_credentials(spec)
        tasks: Iterable[Task] = source
        if template is not None:
            tasks = CheckedTasks(source, lambda task: template.check(template.values(task.task_id, task.data)))
        found = validate(tasks, where=where)
    if not found and not allow_empty:
        hint = "" if allow_empty is None else "add --allow-empty to accept that"
        raise InputError("no tasks", where=where, hint=hint)
    return found


def mean_task_time(*, given: timedelta | None, sample: Path | None) -> timedelta | None:
    """Return the mean task duration, as given or from a job database; None where neither is given."""
    if given is not None and sample is not None:
        raise InputError("--task-time and --sample-db exclude each other", hint="give one of them")
    if sample is None:
        return given
    with read_database(sample) as store:
        elapsed = store.summary().elapsed
    if elapsed is None:
        raise InputError("no completed tasks in this database", where=str(sample), hint="use --task-time instead")
    return timedelta(seconds=elapsed.mean)


def task_durations(
    *, given: timedelta | None, deviation: timedelta | None, sample: Path | None
) -> TaskDurations | None:
    """Return the distribution of task durations, about a mean or from a job database; None where neither is given."""
    if deviation is not None and given is None:
        raise InputError("--task-time-deviation requires --task-time", hint="add --task-time")
    mean = mean_task_time(given=given, sample=sample)
    if sample is not None:
        with read_database(sample) as store:
            return TaskDurations.measured(store.elapsed_times())
    spread = None if deviation is None else deviation.total_seconds()
    return None if mean is None else TaskDurations.about(mean.total_seconds(), spread)
