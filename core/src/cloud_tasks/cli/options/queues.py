"""The two queues of a job, for the commands that look at them or change them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import attrs
import click

from cloud_tasks.config import JobConfig
from cloud_tasks.controller.setup.open_backends import open_queue
from cloud_tasks.errors import InputError, NotFoundError
from cloud_tasks.plugin import Depth, Queue

__all__ = ["NamedQueue", "choice_options", "chosen_queues", "depth_of", "queue_name_of"]

_F = TypeVar("_F", bound=Callable[..., Any])


@attrs.frozen(kw_only=True)
class NamedQueue:
    """One queue of a job."""

    kind: str
    """``task`` or ``event``."""
    name: str
    job_id: str

    def open(self, config: JobConfig) -> AbstractContextManager[Queue]:
        return open_queue(config, self.job_id, self.name, for_events=self.kind == "event")


def choice_options(function: _F) -> _F:
    """A decorator: ``--task-queue-only`` and ``--event-queue-only``."""
    function = click.option("--event-queue-only", is_flag=True, help="Leave the task queue alone.")(function)
    return click.option("--task-queue-only", is_flag=True, help="Leave the event queue alone.")(function)


def queue_name_of(config: JobConfig) -> str:
    """The name of the task queue. Raises `InputError` where neither a queue nor a job was named."""
    name = config.run.queue_name or config.run.job_id
    if not name:
        raise InputError("no queue was named", hint="give --job-id, --queue-name or --config")
    return name


def chosen_queues(config: JobConfig, *, tasks_only: bool = False, events_only: bool = False) -> tuple[NamedQueue, ...]:
    """The queues that a command is about; both where neither option was given."""
    if tasks_only and events_only:
        raise InputError("--task-queue-only and --event-queue-only exclude each other", hint="give one of them")
    name, job_id = queue_name_of(config), config.run.job_id or ""
    tasks = NamedQueue(kind="task", name=name, job_id=job_id)
    events = NamedQueue(kind="event", name=f"{name}-events", job_id=job_id)
    return (tasks,) if tasks_only else (events,) if events_only else (tasks, events)


def depth_of(queue: Queue) -> Depth | None:
    """How many messages it holds; None where it does not exist."""
    try:
        return queue.depth()
    except NotFoundError:
        return None
