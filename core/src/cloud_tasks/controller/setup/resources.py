"""Resources of a job: creation of its database and queues in place of an earlier job's, and their resumption.

Invariants, each with a test:

1. The database is published before anything of the earlier job is deleted: killed at any step, either the earlier job
   is intact, with its queues, or the new one is, and ``--continue`` resumes it.
2. No message of the earlier job reaches the new one: its queues have names of their own (`queue_names`).
3. A queue that is missing when a job is resumed was deleted, and gets a new name, unless instances know the old one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from cloud_tasks.controller.launch.terminate import own_instances, terminate_instances
from cloud_tasks.controller.setup.queue_names import may_rename_queues, with_new_names
from cloud_tasks.plugin import Compute, Queue
from cloud_tasks.store import JobRecord, JobState, Store

__all__ = ["create_resources", "resume_resources"]

log = structlog.get_logger()

_TERMINATION_TIMEOUT = timedelta(minutes=10)


def create_resources(
    loaded: Store,
    path: Path,
    *,
    job_id: str,
    compute: Compute | None,
    tasks: Queue,
    events: Queue,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Terminate the instances of an earlier job, publish the new database, then create new queues.

    Args:
        loaded: The new database under its temporary name, with all tasks.
        path: Final path of the database.
        compute: None if the earlier job has no instances.

    Raises:
        StoreError: Another controller uses the existing database; nothing was removed.
        ProviderError: Instances of the earlier job are left, or a queue cannot be recreated.
    """
    loaded.claim(path)
    if compute is not None:
        _terminate_instances(compute, job_id, loaded.known_runs(), clock=clock, sleep=sleep)
    if (kept := loaded.publish(path)) is not None:
        log.info(f"The earlier database was kept as {kept}")
    events.create()
    tasks.create()
    loaded.set_state(JobState.RUNNING, datetime.now(UTC))


def resume_resources(store: Store, open_queues: Callable[[JobRecord], tuple[Queue, Queue]]) -> tuple[Queue, Queue]:
    """Create missing queues, and make the tasks that they held pending; return the task queue and the event queue.

    Args:
        open_queues: Open the queues that a record of the job names.
    """
    tasks, events = open_queues(store.job)
    has_tasks, has_events = tasks.exists(), events.exists()
    if not (has_tasks and has_events) and may_rename_queues(store):
        store.update_job(with_new_names(store.job, tasks=not has_tasks, events=not has_events))
        tasks, events = open_queues(store.job)
    events.create()
    # Tasks become pending before the queue exists: killed in between, the next resume finds no queue either.
    if store.withdrawn() or not has_tasks:
        store.reset_for_requeue()
        tasks.create()
    if store.job.state is JobState.LOADING:
        store.set_state(JobState.RUNNING, datetime.now(UTC))
    return tasks, events


def _terminate_instances(
    compute: Compute,
    job_id: str,
    known_runs: Collection[str],
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Terminate the earlier job's instances first: their workers would take new tasks, and report old ones."""
    ended = terminate_instances(
        compute,
        lambda: own_instances(compute, job_id, known_runs),
        timeout=_TERMINATION_TIMEOUT,
        on_wait=lambda text: log.info(f"Earlier run: {text}"),
        clock=clock,
        sleep=sleep,
    )
    if ended:
        log.info(f"Terminated {_count(len(ended))} of an earlier run")


def _count(instances: int) -> str:
    return "1 instance" if instances == 1 else f"{instances} instances"
