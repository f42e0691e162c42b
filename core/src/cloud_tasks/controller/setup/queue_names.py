"""Full names of a job's queues, and the deletion of queues under former names.

The task queue is ``<base>-<run id>-<n>``, the event queue ``<base>-<run id>-<n>-events``. The base is the setting
``queue_name``, else the job id. Services refuse a name for a time after the deletion of a queue, or mix up old and new.

Invariants, each with a test:

1. A name is given once: each run has an id of its own, and each replacement of a queue a higher number.
2. A name is recorded before its queue is created, and recorded as former before its queue is deleted: killed at any
   step, ``--continue``, ``stop`` and ``delete-queue`` know every queue.
3. A name is replaced only while no instance of the job is known to run: its workers know no other.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager

import attrs
import structlog

from cloud_tasks.controller.deferred_writes import wait_for_store
from cloud_tasks.plugin import Queue
from cloud_tasks.store import JobRecord, Store

__all__ = ["base_name", "delete_former_queues", "first_queue_name", "may_rename_queues", "with_new_names"]

log = structlog.get_logger()

_EVENTS = "-events"


def first_queue_name(base: str, run_id: str) -> str:
    """Return the name of the first task queue of a run."""
    return f"{base}-{run_id}-1"


def base_name(job: JobRecord) -> str:
    """Return the base of the names of a job's queues."""
    # A job of an older database has no place, and the base as the name of its queue.
    return job.place.get("queue_name") or job.queue_name


def with_new_names(job: JobRecord, *, tasks: bool = True, events: bool = True) -> JobRecord:
    """Return the record with a new name for the task queue, the event queue, or both; the old ones become former."""
    numbers = {
        "tasks": _number(job, job.queue_name),
        "events": _number(job, job.event_queue_name.removesuffix(_EVENTS)),
    }
    former = list(job.former_queues)
    prefix = f"{base_name(job)}-{job.run_id}"
    # Queues of one number have names from which a worker derives that of the event queue.
    if tasks:
        former.append(job.queue_name)
        numbers["tasks"] = max(numbers.values()) + 1
        job = attrs.evolve(job, queue_name=f"{prefix}-{numbers['tasks']}")
    if events:
        former.append(job.event_queue_name)
        job = attrs.evolve(job, event_queue_name=f"{prefix}-{max(numbers['events'] + 1, numbers['tasks'])}{_EVENTS}")
    return attrs.evolve(job, former_queues=tuple(dict.fromkeys(former)))


def _number(job: JobRecord, name: str) -> int:
    """Return the number of a queue of the job's run; 0 for a name without one."""
    match = re.fullmatch(rf"{re.escape(base_name(job))}-{re.escape(job.run_id)}-(\d+)", name)
    return int(match[1]) if match is not None else 0


def may_rename_queues(store: Store) -> bool:
    """Return whether no instance is recorded that may still run."""
    return all(record.ended_at is not None for record in store.instances())


def delete_former_queues(
    store: Store, open_queue: Callable[[str], AbstractContextManager[Queue]], *, is_last: bool = False
) -> None:
    """Delete the queues under former names; one that cannot be deleted is logged, and stays recorded.

    Args:
        open_queue: Open the queue of a full name.
        is_last: Whether to forget queues that do not exist; else they are looked for again the next time, because a
            service may not list a new queue yet.
    """
    forgotten = set()
    for name in store.job.former_queues:
        try:
            with open_queue(name) as queue:
                existed = queue.exists()
                queue.delete()
        except Exception as error:
            log.warning(f"The former queue {name} could not be deleted: {error}; `cloud-tasks delete-queue` deletes it")
        else:
            if existed or is_last:
                forgotten.add(name)
    if forgotten:
        left = tuple(name for name in store.job.former_queues if name not in forgotten)
        wait_for_store(lambda: store.update_job(attrs.evolve(store.job, former_queues=left)))
