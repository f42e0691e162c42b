"""Termination of instances outside of a run, until a complete listing shows none.

Invariant, with a test: instances count as terminated only when a complete listing no longer shows them. A failed
listing proves nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Instance, InstanceState
from cloud_tasks.plugin import Compute

__all__ = ["remaining_instances", "terminate_instances"]

_MIN_BACKOFF = timedelta(seconds=1)
_MAX_BACKOFF = timedelta(seconds=15)


def remaining_instances(compute: Compute, job_id: str | None) -> tuple[Instance, ...]:
    """Return the instances of a job (None: of all jobs) that are not terminated or have resources left."""
    return tuple(i for i in compute.instances(job_id) if i.state is not InstanceState.TERMINATED)


def terminate_instances(
    compute: Compute,
    find: Callable[[], Collection[Instance]],
    *,
    timeout: timedelta,
    on_wait: Callable[[Sequence[Instance]], None] = lambda left: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Instance, ...]:
    """Terminate the instances that ``find`` lists until it lists none; return all instances that it listed.

    Args:
        find: Return a complete listing, or raise.
        timeout: Maximum time until no instance is listed.
        on_wait: Called with the remaining instances after each round.

    Raises:
        ProviderError: Instances may be left after ``timeout``, or a call failed permanently.
    """
    deadline = clock() + timeout.total_seconds()
    backoff = _MIN_BACKOFF.total_seconds()
    found: dict[str, Instance] = {}
    while True:
        problem: ProviderError | None = None
        left: Collection[Instance] = ()
        try:
            left = find()
            found.update((instance.instance_id, instance) for instance in left)
            if not left:
                return tuple(found.values())
            compute.terminate([instance.instance_id for instance in left])
            left = find()
            if not left:
                return tuple(found.values())
        except ProviderError as error:
            if not error.transient:
                raise
            problem = error
        if clock() >= deadline:
            names = ", ".join(instance.instance_id for instance in left) or "unknown"
            reason = f": {problem}" if problem is not None else ""
            raise ProviderError(
                f"instances may still exist ({names}){reason}",
                hint="run the command again, and check the provider's console",
            ) from problem
        on_wait(tuple(left))
        sleep(backoff)
        backoff = min(backoff * 1.5, _MAX_BACKOFF.total_seconds())
