"""Open the backends of a configuration, each with its context."""

from __future__ import annotations

import functools
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import attrs
import structlog

from cloud_tasks.config import JobConfig
from cloud_tasks.plugin import Compute, ComputeContext, Pricing, PricingContext, Queue, QueueContext

__all__ = ["cache_dir", "open_compute", "open_named_queue", "open_pricing", "open_queue", "open_regions"]

log = structlog.get_logger()

_LEASE = timedelta(seconds=60)
_EVENT_LEASE = timedelta(seconds=15)
"""Longer than applying a batch takes; short, so that the leases of a killed controller end soon."""


def cache_dir() -> Path | None:
    """Return the folder for cached answers of providers: ``CLOUD_TASKS_CACHE_DIR``, else the user's cache folder.

    A user without a home folder, as in a container, has one below the folder for temporary files; None if another user
    has taken its name.
    """
    chosen = os.environ.get("CLOUD_TASKS_CACHE_DIR")
    if chosen:
        return Path(chosen)
    if general := os.environ.get("XDG_CACHE_HOME"):
        return Path(general) / "cloud-tasks"
    try:
        return Path.home() / ".cache" / "cloud-tasks"
    except RuntimeError:
        return _temporary_cache()


@functools.cache
def _temporary_cache() -> Path | None:
    folder = Path(tempfile.gettempdir()) / f"cloud-tasks-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return None
    log.info(f"This user has no home folder; prices and instance types are cached in {folder}")
    return folder


def open_compute(config: JobConfig, job_id: str = "") -> AbstractContextManager[Compute]:
    """Open the compute backend.

    Args:
        job_id: Empty for a command without a job.
    """
    run = config.run
    context = ComputeContext(
        secret_variables=config.secret_variables(),
        job_id=job_id,
        region=run.region,
        zone=run.zone,
        submit_dir=config.base_dir,
        cache_dir=cache_dir(),
    )
    settings = config.settings_for("compute", config.compute)
    return config.registry.compute(config.compute).open(settings, context)


@contextmanager
def open_regions(config: JobConfig, *, every: bool) -> Iterator[Sequence[Compute]]:
    """Open the compute backend for a command without a job, once if its listings show all regions.

    Args:
        every: Whether to open each region of the provider; otherwise the configured one.
    """
    with ExitStack() as stack:
        first = stack.enter_context(open_compute(config))
        if not every or config.registry.compute(config.compute).traits.lists_all_regions:
            yield (first,)
            return
        configs = [
            attrs.evolve(config, run=attrs.evolve(config.run, region=region.name, zone=None))
            for region in first.regions()
        ]
        yield tuple(stack.enter_context(open_compute(each)) for each in configs)


def open_pricing(config: JobConfig) -> AbstractContextManager[Pricing]:
    """Open the price list of the configured region."""
    context = PricingContext(region=config.run.region, zone=config.run.zone, cache_dir=cache_dir())
    settings = config.settings_for("pricing", config.pricing)
    return config.registry.pricing(config.pricing).open(settings, context)


def open_queue(config: JobConfig, job_id: str, name: str, *, for_events: bool = False) -> AbstractContextManager[Queue]:
    """Open the queue of this name; it need not exist yet."""
    backend = config.registry.queue(config.queue)
    context = QueueContext(
        job_id=job_id,
        name=name,
        lease=min(_EVENT_LEASE if for_events else _LEASE, backend.traits.max_lease),
        exactly_once=config.run.exactly_once_queue and not for_events,
        region=config.run.region,
        for_events=for_events,
    )
    return backend.open(config.settings_for("queue", config.queue), context)


def open_named_queue(config: JobConfig, job_id: str, name: str) -> AbstractContextManager[Queue]:
    """Open the queue of a full name, whose kind its end shows."""
    return open_queue(config, job_id, name, for_events=name.endswith("-events"))
