"""Checks of the merged ``run`` values against the traits of the chosen backends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from cloud_tasks.config.job_config import JobConfig
from cloud_tasks.config.merge import Merged
from cloud_tasks.config.run_settings import RunSettings
from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.plugin import Reach
from cloud_tasks.registry import Registry

__all__ = ["check_traits", "parallel_launches", "reachable_queues", "unreachable_queue"]


@attrs.frozen
class _Need:
    """A switch of ``run`` that only works with a trait."""

    key: str
    kind: str
    trait: str
    ability: str
    """Name of the trait, after "does not support"."""


_NEEDS = (
    _Need("exactly_once_queue", "queue", "exactly_once", "exactly-once delivery"),
    _Need("use_spot", "compute", "spot", "spot instances"),
)


def check_traits(
    run: RunSettings, merged: Merged, backends: Mapping[str, str], registry: Registry
) -> Iterator[InputError]:
    """Yield a problem for each switch that a chosen backend does not support, and for a queue out of reach."""
    yield from _check_reach(merged, backends, registry)
    for need in _NEEDS:
        name = backends.get(need.kind)
        if name is None or not getattr(run, need.key):
            continue
        try:
            backend = getattr(registry, need.kind)(name)
        except CloudTasksError:
            # A missing or broken plugin is an error of the command that needs it.
            continue
        if not getattr(backend.traits, need.trait):
            able = {found.name for _, found in registry.all(need.kind) if getattr(found.traits, need.trait)}
            yield InputError(
                f'run.{need.key}: {need.kind} "{name}" does not support {need.ability}',
                where=merged.place(f"run.{need.key}"),
                hint="remove it" + (f", or use {need.kind}: {' or '.join(sorted(able))}" if able else ""),
            )


_PLACES = {
    Reach.MACHINE: "from the controller's machine only",
    Reach.SHARED_FILES: "only from machines that share files with the controller's",
}


def _check_reach(merged: Merged, backends: Mapping[str, str], registry: Registry) -> Iterator[InputError]:
    """Yield a problem if the instances cannot reach the queue."""
    problem = unreachable_queue(backends, registry, where=merged.place("queue") or merged.place("provider"))
    if problem is not None:
        yield problem


def unreachable_queue(backends: Mapping[str, str], registry: Registry, *, where: str) -> InputError | None:
    """Return the problem of a queue that the instances cannot reach, with the names of those that they can.

    Args:
        backends: Names of plugins, by kind.
    """
    if not backends.keys() >= {"queue", "compute"}:
        return None
    try:
        queue, compute = registry.queue(backends["queue"]), registry.compute(backends["compute"])
    except CloudTasksError:
        # A missing or broken plugin is an error of the command that needs it.
        return None
    if queue.traits.reach.includes(compute.traits.located):
        return None
    able = reachable_queues(registry, compute.traits.located)
    return InputError(
        f'queue: "{queue.name}" can be used {_PLACES[queue.traits.reach]}, and the instances of compute '
        f'"{compute.name}" are elsewhere',
        where=where,
        hint=f"use queue: {' or '.join(able)}" if able else "install a plugin with a queue that they reach",
    )


def reachable_queues(registry: Registry, location: Reach) -> list[str]:
    """Return the names of the queues that instances in a place can use."""
    return sorted(found.name for _, found in registry.all("queue") if found.traits.reach.includes(location))


def parallel_launches(config: JobConfig) -> int:
    """Return the maximum number of parallel launches: the smaller of the setting and the compute's trait."""
    traits = config.registry.compute(config.compute).traits
    return min(config.run.max_parallel_instance_creations, traits.max_parallel_launches)
