"""The first steps of a run, before its controller: what is made, what is removed, and in which order.

Invariant, with a test: whenever it is killed in between, the database that is there then, the earlier job's or the new
one, can be gone on with, and no task of an earlier run is taken for one of this.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from cloud_tasks.plugin import Compute, Queue
from cloud_tasks.store import Store

__all__ = ["go_on", "start_afresh"]

log = structlog.get_logger()


def start_afresh(loaded: Store, path: Path, *, job_id: str, compute: Compute, tasks: Queue, events: Queue) -> None:
    """Remove what an earlier run of the same name left, put the new database in its place, then make new queues.

    Args:
        loaded: The new database under its temporary name, with all tasks.
        path: Its place.

    Raises:
        StoreError: Another controller works on the database there; nothing was removed.
    """
    loaded.claim(path)
    remains = [instance.instance_id for instance in compute.instances(job_id)]
    if remains:
        log.info(f"Terminating {len(remains)} instances of an earlier run")
        compute.terminate(remains)
    # The earlier job loses its queues before its database: the other way round its messages would be taken for the
    # new job's. New queues come last: a job without queues is known to have nothing in them.
    tasks.delete()
    events.delete()
    loaded.publish(path)
    events.create()
    tasks.create()


def go_on(store: Store, *, tasks: Queue, events: Queue) -> None:
    """See to it that the queues of a job that is continued are there, and what they lost is sent again."""
    events.create()
    if not tasks.exists():
        store.reset_for_requeue()
        tasks.create()
