"""Warnings for ``run`` values that a chosen backend supports only in part."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from cloud_tasks.config import JobConfig, parallel_launches
from cloud_tasks.errors import CloudTasksError
from cloud_tasks.plugin import Reach
from cloud_tasks.quantities import format_duration

__all__ = ["trait_warnings"]


def trait_warnings(config: JobConfig) -> Iterator[str]:
    """Yield one line for each value, with its place and both figures."""
    if _traits(config, "compute") is not None:
        yield from _compute_warnings(config)
    queue = _traits(config, "queue")
    if queue is not None and queue.total_lease is not None:
        longest = _span(config.run.max_runtime)
        if longest > queue.total_lease:
            yield _warning(
                config,
                "max_runtime",
                f'{format_duration(longest)} is more than the total lease of queue "{config.queue}", '
                f"{format_duration(queue.total_lease)}: a longer task is delivered again while it runs",
            )


def _compute_warnings(config: JobConfig) -> Iterator[str]:
    wanted, launches = config.run.max_parallel_instance_creations, parallel_launches(config)
    if launches < wanted and "run.max_parallel_instance_creations" in config.origins:
        yield _warning(
            config,
            "max_parallel_instance_creations",
            f'{wanted} is more than compute "{config.compute}" supports; {launches} are launched at a time',
        )
    yield from _store_warnings(config)
    lifetime = config.max_lifetime
    is_relied_on = "run.max_lifetime" in config.origins or config.run.max_total_cost is not None
    if lifetime and is_relied_on and not config.registry.compute(config.compute).traits.enforces_max_lifetime:
        yield _warning(
            config,
            "max_lifetime",
            f'compute "{config.compute}" does not enforce it; '
            f"instances older than {format_duration(lifetime)} are terminated only while `run` is running",
        )


def _store_warnings(config: JobConfig) -> Iterator[str]:
    """Yield a warning for each store that is a folder of instances, which do not share files with this machine."""
    if config.registry.compute(config.compute).traits.located is not Reach.NETWORK:
        return
    for key in ("log_store", "result_store"):
        store = getattr(config.run, key)
        if store and "://" not in store:
            text = f'"{store}" is a folder of each instance of compute "{config.compute}", and ends with it'
            yield _warning(config, key, f"{text}; use a URL, or a folder that all instances mount")


def _traits(config: JobConfig, kind: str) -> Any:
    """Return the traits of the chosen backend; None where none was chosen or its plugin cannot be used."""
    name = config.backends.get(kind)
    try:
        return None if name is None else getattr(config.registry, kind)(name).traits
    except CloudTasksError:
        return None


def _span(seconds: float) -> timedelta:
    return timedelta(seconds=min(seconds, timedelta.max.total_seconds() // 2))


def _warning(config: JobConfig, key: str, text: str) -> str:
    origin = config.origins.get(f"run.{key}")
    return f"{origin.place}: run.{key}: {text}" if origin is not None and origin.place else f"run.{key}: {text}"
