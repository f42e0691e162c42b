"""The end of the controller's credentials, as far as the backends of a configuration know it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from cloud_tasks.config import JobConfig
from cloud_tasks.controller.autoscaler.credentials_watch import CredentialsEnd
from cloud_tasks.selection import RankedOffer, forecast

__all__ = ["credentials_end", "credentials_warning", "reader_of_credentials_end"]

log = structlog.get_logger()

_KINDS = ("queue", "compute")


def credentials_end(config: JobConfig) -> CredentialsEnd | None:
    """Return the first end of the credentials of queue and compute; None if none is known."""
    found: list[CredentialsEnd] = []
    for kind in _KINDS:
        name = config.backends[kind]
        read = getattr(config.registry, kind)(name).credentials_end
        if read is None:
            continue
        try:
            end = read(config.settings_for(kind, name))
        except Exception as error:  # third-party code, for an announcement only
            log.debug(f"End of the credentials of {name} unknown: {type(error).__name__}: {error}")
            continue
        if isinstance(end, datetime):
            found.append(CredentialsEnd(backend=name, at=end if end.tzinfo else end.replace(tzinfo=UTC)))
    return min(found, key=lambda each: each.at, default=None)


def reader_of_credentials_end(config: JobConfig) -> Callable[[], CredentialsEnd | None] | None:
    """Return a function that reads the end again; None if no backend knows it."""
    knows = [getattr(config.registry, kind)(config.backends[kind]).credentials_end for kind in _KINDS]
    return (lambda: credentials_end(config)) if any(knows) else None


def credentials_warning(config: JobConfig, best: RankedOffer, tasks: int | None) -> str | None:
    """Return a warning if the credentials end before the job is likely to, by the ``max_runtime`` of tasks if given.

    Args:
        best: The best offer.
        tasks: Number of tasks to run; None if unknown.
    """
    end, now = credentials_end(config), datetime.now(UTC)
    if end is None:
        return None
    if "run.max_runtime" in config.origins:
        task_time = timedelta(seconds=min(config.run.max_runtime, 1e8))
        duration = forecast(best, config.limits(), tasks=tasks, task_time=task_time).duration
        if duration is not None and now + duration < end.at:
            return None
    return end.describe(now)
