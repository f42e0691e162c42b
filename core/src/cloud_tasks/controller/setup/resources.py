"""The first steps of a run or a load: what is replaced, what is created, and in which order.

Invariants, each with a test:

1. The database takes its place before anything of the earlier job is deleted: killed at any step, either the earlier
   job is whole, with its queues, or the new one is, and ``--continue`` resumes it.
2. No message of the earlier job reaches the new one: until both queues are new its state is ``LOADING``, and a job in
   this state is resumed by creating its queues again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from cloud_tasks.controller.launch.terminate import remaining_instances, remove_instances
from cloud_tasks.plugin import Compute, Queue
from cloud_tasks.store import JobState, Store

__all__ = ["create_resources", "resume_resources"]

log = structlog.get_logger()

_REMOVAL_TIMEOUT = timedelta(minutes=10)


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
    """Terminate the instances of an earlier job, put the new database in its place, then create new queues.

    Args:
        loaded: The new database under its temporary name, with all tasks.
        path: Its place.
        compute: None where the earlier job has no instances.

    Raises:
        StoreError: Another controller works on the database there; nothing was removed.
        ProviderError: Instances of the earlier job are left, or a queue cannot be replaced.
    """
    loaded.claim(path)
    if compute is not None:
        _remove_instances(compute, job_id, clock=clock, sleep=sleep)
    loaded.publish(path)
    _replace_queues(loaded, tasks=tasks, events=events)


def resume_resources(store: Store, *, tasks: Queue, events: Queue) -> None:
    """Complete an interrupted setup; otherwise create missing queues and make the tasks that they lost pending."""
    if store.job.state is JobState.LOADING:
        store.reset_for_requeue()
        _replace_queues(store, tasks=tasks, events=events)
        return
    events.create()
    # Tasks become pending before the queue exists: killed in between, the next resume finds no queue either.
    if store.withdrawn() or not tasks.exists():
        store.reset_for_requeue()
        tasks.create()


def _remove_instances(
    compute: Compute, job_id: str, *, clock: Callable[[], float], sleep: Callable[[float], None]
) -> None:
    """Wait until they are gone: a worker of the earlier job would take new tasks, and report old ones."""
    ended = remove_instances(
        compute,
        lambda: remaining_instances(compute, job_id),
        patience=_REMOVAL_TIMEOUT,
        on_wait=lambda left: log.info(f"Waiting for {len(left)} instances of an earlier run to terminate"),
        clock=clock,
        sleep=sleep,
    )
    if ended:
        log.info(f"Terminated {len(ended)} instances of an earlier run")


def _replace_queues(store: Store, *, tasks: Queue, events: Queue) -> None:
    tasks.delete()
    events.delete()
    events.create()
    tasks.create()
    store.set_state(JobState.RUNNING, datetime.now(UTC))
