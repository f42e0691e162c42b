"""Hook specifications. Plugins are discovered with pluggy and implement the hooks that they need."""

from __future__ import annotations

from collections.abc import Sequence

import pluggy

from cloud_tasks.plugin.descriptors import (
    CommandDescriptor,
    ComputeBackend,
    EventSinkBackend,
    PricingBackend,
    QueueBackend,
    TaskSourceBackend,
)

__all__ = ["PROJECT_NAME", "hookimpl", "hookspec"]

PROJECT_NAME = "cloud_tasks"
"""Name of the pluggy project, of its markers and of the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)


@hookspec
def cloud_tasks_register_queue() -> Sequence[QueueBackend]:  # type: ignore[empty-body]
    """Return queues for tasks and events."""


@hookspec
def cloud_tasks_register_compute() -> Sequence[ComputeBackend]:  # type: ignore[empty-body]
    """Return compute backends: instances, and their side of the worker."""


@hookspec
def cloud_tasks_register_pricing() -> Sequence[PricingBackend]:  # type: ignore[empty-body]
    """Return pricing backends: prices of instances."""


@hookspec
def cloud_tasks_register_event_sink() -> Sequence[EventSinkBackend]:  # type: ignore[empty-body]
    """Return event sinks: receivers of copies of events."""


@hookspec
def cloud_tasks_register_task_source() -> Sequence[TaskSourceBackend]:  # type: ignore[empty-body]
    """Return task sources: file formats, generators, parameter grids."""


@hookspec
def cloud_tasks_register_command() -> Sequence[CommandDescriptor]:  # type: ignore[empty-body]
    """Return subcommands of the command line."""
