"""Resources of a job: creation of its database and queues in place of an earlier job's, and their resumption.

Invariants, each with a test:

1. The database is published before anything of the earlier job is deleted: killed at any step, either the earlier job
   is intact, with its queues, or the new one is, and ``--continue`` resumes it.
2. No message of the earlier job reaches the new one: until both queues are new its state is ``LOADING``, and a job in
   this state is resumed by creating its queues again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from cloud_tasks.controller.launch.terminate import own_instances, terminate_instances
from cloud_tasks.plugin import Compute, Queue
from cloud_tasks.store import JobState, Store

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
    _recreate_queues(loaded, tasks=tasks, events=events)


def resume_resources(store: Store, *, tasks: Queue, events: Queue) -> None:
    """Complete an interrupted setup; otherwise create missing queues, and make the tasks that they held pending."""
    if store.job.state is JobState.LOADING:
        store.reset_for_requeue()
        _recreate_queues(store, tasks=tasks, events=events)
        return
    events.create()
    # Tasks become pending before the queue exists: killed in between, the next resume finds no queue either.
    if store.withdrawn() or not tasks.exists():
        store.reset_for_requeue()
        tasks.create()


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


def _recreate_queues(store: Store, *, tasks: Queue, events: Queue) -> None:
    tasks.delete()
    events.delete()
    events.create()
    tasks.create()
    store.set_state(JobState.RUNNING, datetime.now(UTC))


def _count(instances: int) -> str:
    return "1 instance" if instances == 1 else f"{instances} instances"
