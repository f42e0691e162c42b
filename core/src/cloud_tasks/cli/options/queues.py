"""The task queue and the event queue of a job, for the commands that show or change them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import attrs
import click

from cloud_tasks.cli.options.database import database_of
from cloud_tasks.config import JobConfig
from cloud_tasks.controller import open_queue
from cloud_tasks.errors import InputError, NotFoundError
from cloud_tasks.plugin import Depth, OwnedQueue, Queue
from cloud_tasks.store import writer_of

__all__ = ["NamedQueue", "choice_options", "chosen_queues", "depth_of", "users_of"]

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
    """Add ``--task-queue-only`` and ``--event-queue-only`` to a command."""
    function = click.option("--event-queue-only", is_flag=True, help="Skip the task queue.")(function)
    return click.option("--task-queue-only", is_flag=True, help="Skip the event queue.")(function)


def _queue_name(config: JobConfig) -> str:
    """Return the name of the task queue. Raises `InputError` where neither a queue nor a job is given."""
    name = config.run.queue_name or config.run.job_id
    if not name:
        raise InputError("no queue given", hint="add --job-id, --queue-name or --config")
    return name


def chosen_queues(config: JobConfig, *, tasks_only: bool = False, events_only: bool = False) -> tuple[NamedQueue, ...]:
    """Return the queues that a command applies to; both where neither option is given."""
    if tasks_only and events_only:
        raise InputError("--task-queue-only and --event-queue-only exclude each other", hint="give one of them")
    name, job_id = _queue_name(config), config.run.job_id or ""
    tasks = NamedQueue(kind="task", name=name, job_id=job_id)
    events = NamedQueue(kind="event", name=f"{name}-events", job_id=job_id)
    return (tasks,) if tasks_only else (events,) if events_only else (tasks, events)


def depth_of(queue: Queue) -> Depth | None:
    """Return the number of messages; None where the queue does not exist."""
    try:
        return queue.depth()
    except NotFoundError:
        return None


def users_of(queue: Queue, config: JobConfig) -> str:
    """Return the controller that uses a queue, as far as the queue or the job database shows; empty if none does."""
    owner = queue.owner() if isinstance(queue, OwnedQueue) else None
    if owner is not None and owner.controller:
        return f"the controller of job {owner.job_id} ({owner.controller})"
    pid = writer_of(database_of(config)) if config.run.job_id else None
    return "" if pid is None else f"the controller of job {config.run.job_id} (PID {pid})"
