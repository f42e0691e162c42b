"""Ends instances for good, outside of a run: terminates, and believes only a complete listing.

Invariant, with a test: nothing is called gone that a listing has not stopped showing; a failed listing tells nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Instance, InstanceState
from cloud_tasks.plugin import Compute

__all__ = ["remaining_instances", "remove_instances"]

_PAUSE = timedelta(seconds=1)
_LONGEST_PAUSE = timedelta(seconds=15)


def remaining_instances(compute: Compute, job_id: str | None) -> tuple[Instance, ...]:
    """Whatever of a job (None: of all jobs) is there or has remains: all but what is terminated."""
    return tuple(i for i in compute.instances(job_id) if i.state is not InstanceState.TERMINATED)


def remove_instances(
    compute: Compute,
    find: Callable[[], Collection[Instance]],
    *,
    patience: timedelta,
    on_wait: Callable[[Sequence[Instance]], None] = lambda left: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Instance, ...]:
    """Terminate what ``find`` lists, again and again until it lists nothing; returns everything it ever listed.

    Args:
        find: Makes a complete listing; raises when it cannot.
        patience: How long to go on.
        on_wait: Told after each round what is still there.

    Raises:
        ProviderError: Some may be left after ``patience``, or a call failed in a way that will not pass.
    """
    deadline = clock() + patience.total_seconds()
    pause = _PAUSE.total_seconds()
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
            names = ", ".join(instance.instance_id for instance in left) or "some"
            reason = f": {problem}" if problem is not None else ""
            raise ProviderError(
                f"instances may still be there ({names}){reason}", hint="run the command again, and look at the console"
            ) from problem
        on_wait(tuple(left))
        sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE.total_seconds())
