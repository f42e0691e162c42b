"""The task queue and the event queue of a job, for the commands that show or change them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import attrs
import click

from cloud_tasks.cli.options.database import database_of
from cloud_tasks.config import JobConfig, Layer
from cloud_tasks.controller import base_name, check_place, open_queue, place_of, recorded_job
from cloud_tasks.errors import InputError, NotFoundError
from cloud_tasks.plugin import Depth, OwnedQueue, Queue
from cloud_tasks.store import JobRecord, writer_of

__all__ = ["JobQueues", "NamedQueue", "choice_options", "depth_of", "job_of", "job_queues", "queue_text", "users_of"]

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


@attrs.frozen(kw_only=True)
class JobQueues:
    """The queues that a command applies to."""

    chosen: tuple[NamedQueue, ...]
    job: JobRecord | None
    """The job whose database names them; None if the user named them."""


def job_queues(config: JobConfig, *, tasks_only: bool = False, events_only: bool = False) -> JobQueues:
    """Return the queues of a job, by its database, or those of a full name; both where neither option is given.

    ``--queue-name`` is a full name, unless it is what the names of the job's queues start with, as in a file.

    Raises:
        InputError: Neither the database nor an option names the queues.
        PlaceError: The queues of the job are elsewhere than the configuration says, or have another start of the names.
    """
    if tasks_only and events_only:
        raise InputError("--task-queue-only and --event-queue-only exclude each other", hint="give one of them")
    job = job_of(config)
    given = config.run.queue_name
    job_id = config.run.job_id or ("" if job is None else job.job_id)
    origin = config.origins.get("run.queue_name")
    is_full_name = origin is not None and origin.layer is Layer.COMMAND_LINE
    if job is not None and given is not None:
        if not is_full_name:
            check_place(job, {"queue_name": given}, where=str(database_of(config)))
        elif given not in (base_name(job), job.queue_name):
            job = None
    if job is not None:
        check_place(job, place_of(config, kinds=("queue",)), where=str(database_of(config)))
    name = job.queue_name if job is not None else given if is_full_name else None
    if name is None:
        raise _unnamed(config)
    tasks = NamedQueue(kind="task", name=name, job_id=job_id)
    events_name = f"{name}-events" if job is None else job.event_queue_name
    events = NamedQueue(kind="event", name=events_name, job_id=job_id)
    return JobQueues(chosen=(tasks,) if tasks_only else (events,) if events_only else (tasks, events), job=job)


def queue_text(task_queue: str, event_queue: str) -> str:
    """Return what a worker that is started by hand needs: the task queue, and an event queue of another number."""
    return task_queue if event_queue == f"{task_queue}-events" else f"{task_queue}, with event queue {event_queue}"


def job_of(config: JobConfig) -> JobRecord | None:
    """Return the job of the configuration in its database; None if there is none."""
    if not (config.run.job_id or config.run.db_file):
        return None
    return recorded_job(database_of(config), config.run.job_id)


def _unnamed(config: JobConfig) -> InputError:
    if not (config.run.job_id or config.run.db_file):
        return InputError("no queue given", hint="add --job-id, --queue-name or --config")
    path = database_of(config)
    problem = "cannot be read" if path.exists() else "was not found"
    return InputError(
        f"the job database, which names the queues, {problem}",
        where=str(path),
        hint="check --db-file, or give the full name with --queue-name",
    )


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
        return f"the controller of job {owner.job_id or config.run.job_id} ({owner.controller})"
    pid = writer_of(database_of(config)) if config.run.job_id else None
    return "" if pid is None else f"the controller of job {config.run.job_id} (PID {pid})"
