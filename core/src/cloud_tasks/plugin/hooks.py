"""The hook specifications: the phone book. A plugin implements those it has something for."""

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
"""The pluggy project, the marker and the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)


@hookspec
def cloud_tasks_register_queue() -> Sequence[QueueBackend]:  # type: ignore[empty-body]
    """Task and event queues."""


@hookspec
def cloud_tasks_register_compute() -> Sequence[ComputeBackend]:  # type: ignore[empty-body]
    """Machines, and what a worker can ask the machine it runs on."""


@hookspec
def cloud_tasks_register_pricing() -> Sequence[PricingBackend]:  # type: ignore[empty-body]
    """Prices of machines."""


@hookspec
def cloud_tasks_register_event_sink() -> Sequence[EventSinkBackend]:  # type: ignore[empty-body]
    """Places that events are copied to."""


@hookspec
def cloud_tasks_register_task_source() -> Sequence[TaskSourceBackend]:  # type: ignore[empty-body]
    """Return task sources: file formats, generators, parameter grids."""


@hookspec
def cloud_tasks_register_command() -> Sequence[CommandDescriptor]:  # type: ignore[empty-body]
    """Sub-commands of the command line."""
