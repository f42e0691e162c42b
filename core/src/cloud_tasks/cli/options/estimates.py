"""Number and duration of tasks, as given to ``plan`` and ``simulate``."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from cloud_tasks.builtin import open_task_source, validate
from cloud_tasks.cli.options.database import read_database
from cloud_tasks.config import JobConfig
from cloud_tasks.errors import InputError
from cloud_tasks.estimate.durations import TaskDurations

__all__ = ["count_tasks", "mean_task_time", "task_times"]


def count_tasks(config: JobConfig, *, number: int | None, spec: str | None) -> int | None:
    """How many tasks; None where nothing says so.

    Args:
        number: ``--num-tasks``.
        spec: ``--task-file``; None: the configuration's ``task_source``.
    """
    if number is not None and spec is not None:
        raise InputError("--num-tasks and --task-file exclude each other", hint="give one of them")
    spec = spec or config.task_source
    if number is not None or spec is None:
        return number
    with open_task_source(config.registry, spec, base_dir=Path.cwd(), settings_for=config.settings_for) as source:
        return validate(source)


def mean_task_time(*, seconds: float | None, sample: Path | None) -> timedelta | None:
    """The mean time of a task: as given, or as in the database of a job that ran; None where neither is given."""
    if seconds is not None and sample is not None:
        raise InputError("--task-time and --sample-db exclude each other", hint="give one of them")
    if seconds is not None:
        return timedelta(seconds=seconds)
    if sample is None:
        return None
    with read_database(sample) as store:
        elapsed = store.summary().elapsed
    if elapsed is None:
        raise InputError("no task of this sample has completed", where=str(sample), hint="give --task-time instead")
    return timedelta(seconds=elapsed.mean)


def task_times(*, seconds: float | None, deviation: float | None, sample: Path | None) -> TaskDurations | None:
    """How the times of tasks are spread: about a mean, or as in the database of a job; None where neither is given."""
    if deviation is not None and seconds is None:
        raise InputError("--task-time-deviation belongs to --task-time", hint="give --task-time too")
    mean = mean_task_time(seconds=seconds, sample=sample)
    if sample is not None:
        with read_database(sample) as store:
            return TaskDurations.measured(store.elapsed_times())
    return None if mean is None else TaskDurations.about(mean.total_seconds(), deviation)
