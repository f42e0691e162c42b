"""Descriptors: what a plugin registers for each of the five axes.

A descriptor is data plus a way in. Its module imports nothing heavy; SDK imports happen inside ``open``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.model import LaunchRequest
from cloud_tasks.plugin.checks import CheckContext, Finding
from cloud_tasks.plugin.deprecation import Removed, Renamed, deprecated_fields
from cloud_tasks.plugin.protocols import Compute, EventSink, InstanceSide, Pricing, Queue, TaskSource
from cloud_tasks.plugin.settings import NoSettings

__all__ = [
    "Backend",
    "CommandDescriptor",
    "ComputeBackend",
    "ComputeContext",
    "ComputeTraits",
    "EventSinkBackend",
    "EventSinkContext",
    "InstanceContext",
    "PricingBackend",
    "PricingContext",
    "QueueBackend",
    "QueueContext",
    "QueueTraits",
    "TaskSourceBackend",
    "TaskSourceContext",
]


@deprecated_fields(
    delivery_counts=Renamed("reports_delivery_count"),
    exact_depth=Removed("`Depth.exact` says so for each answer", default=False),
)
@attrs.frozen(kw_only=True, slots=False)
class QueueTraits:
    """What a queue can do, as data: the runtime's checks and the conformance kit read the same figures."""

    max_lease: timedelta
    """The longest that one `Queue.extend` may ask for."""
    max_message_bytes: int
    receive_batch: int
    """The most messages that one `Queue.receive` can bring."""
    send_batch: int
    delay: timedelta = timedelta(0)
    """The longest delay of `Queue.send` and `Queue.release`; zero: none, it is ignored."""
    reports_delivery_count: bool = False
    """Whether `Delivery.delivery_count` is a number."""
    total_lease: timedelta | None = None
    """The longest that a message can stay leased however often it is extended; None: without end. A longer
    ``max_runtime`` is warned of."""
    exactly_once: bool = False
    """Whether an acked message is never delivered again, on request; ``exactly_once_queue`` is refused without it."""


@deprecated_fields(
    ends_itself=Renamed("enforces_max_lifetime"),
    chooses=Renamed("provider_selects_offer"),
    max_script_bytes=Removed("`ComputeBackend.check_launch` refuses a script that is too long", default=16 * 1024),
)
@attrs.frozen(kw_only=True, slots=False)
class ComputeTraits:
    """What a compute backend can do, as data."""

    spot: bool = True
    """Whether there are spot instances; ``use_spot`` is refused without it."""
    enforces_max_lifetime: bool = False
    """Whether an instance ends at `LaunchRequest.max_lifetime` by itself: the provider sees to it, or `boot_script`.
    Elsewhere the controller terminates it, for as long as it runs, and warns of that."""
    max_parallel_launches: int = 10
    """Launches that may be under way at once; the smaller of it and ``max_parallel_instance_creations`` is used."""
    listing_lag: timedelta = timedelta(0)
    """How long a launched instance may be missing from the listing."""
    provider_selects_offer: bool = False
    """Whether `launch` has the provider choose among the request's offer and its alternatives. Before the script runs,
    such a backend sets ``CLOUD_TASKS_STARTED`` to ``<instance type> <zone>``, as they are on the instance."""


@attrs.frozen(kw_only=True)
class QueueContext:
    """What the runtime tells a queue when it opens it."""

    job_id: str
    name: str
    lease: timedelta
    """The first lease of a received message; held within the traits."""
    exactly_once: bool = False
    region: str | None = None
    for_events: bool = False


@attrs.frozen(kw_only=True)
class ComputeContext:
    job_id: str
    """Empty for commands that concern no job."""
    region: str | None = None
    zone: str | None = None
    submit_dir: Path = attrs.field(factory=Path.cwd)
    """The folder that relative paths of the configuration refer to."""
    cache_dir: Path | None = None


@attrs.frozen(kw_only=True)
class InstanceContext:
    """For the instance side: nothing but the worker's own environment is known there."""

    job_id: str


@attrs.frozen(kw_only=True)
class PricingContext:
    region: str | None = None
    zone: str | None = None
    cache_dir: Path | None = None


@attrs.frozen(kw_only=True)
class EventSinkContext:
    job_id: str
    output_file: Path | None = None
    """From ``--output-file`` or ``--event-log-file``, for sinks that write one."""


@attrs.frozen(kw_only=True)
class TaskSourceContext:
    location: str
    """What the user wrote after the source's name: a path, a URL, ``module:function``."""
    base_dir: Path = attrs.field(factory=Path.cwd)


@attrs.frozen(kw_only=True)
class Backend:
    """What all descriptors have."""

    name: str
    """What users write, e.g. ``gcp``: ``^[a-z][-a-z0-9]*$``."""
    summary: str
    """One line for people."""
    settings: type[Any] = NoSettings
    """The attrs class of the plugin's configuration section; backends of one name may share a class or split it."""


@attrs.frozen(kw_only=True)
class QueueBackend(Backend):
    traits: QueueTraits
    open: Callable[[Any, QueueContext], AbstractContextManager[Queue]]
    check: Callable[[Any, CheckContext], Iterable[Finding]] | None = None
    """Whether everything is there that this queue needs: access, permissions, services."""


@attrs.frozen(kw_only=True)
class ComputeBackend(Backend):
    traits: ComputeTraits
    open: Callable[[Any, ComputeContext], AbstractContextManager[Compute]]
    open_instance: Callable[[Any, InstanceContext], AbstractContextManager[InstanceSide]]
    """Used by the worker on the instance; must not import the controller's SDK."""
    check: Callable[[Any, CheckContext], Iterable[Finding]] | None = None
    """Whether everything is there that launching needs."""
    check_launch: Callable[[Any, LaunchRequest], None] | None = None
    """Checks script, image and disk of a request without a call to the provider, before anything is created; raises
    `InputError`. Imports what it needs when it is called."""
    policies: Callable[[Any, CheckContext], Mapping[str, str]] | None = None
    """The least permissions of controller and worker, for all that the plugin does: text by document name."""


@attrs.frozen(kw_only=True)
class PricingBackend(Backend):
    open: Callable[[Any, PricingContext], AbstractContextManager[Pricing]]
    check: Callable[[Any, CheckContext], Iterable[Finding]] | None = None
    """Whether prices can be had."""


@deprecated_fields(keeps_once=Renamed("idempotent"))
@attrs.frozen(kw_only=True)
class EventSinkBackend(Backend):
    open: Callable[[Any, EventSinkContext], AbstractContextManager[EventSink]]
    idempotent: bool = False
    """Whether an event that is given again, also after the sink was opened anew, is kept once. A run that continues
    then gives it the latest events of the job again, of which a killed controller may not have passed on the last."""


@attrs.frozen(kw_only=True)
class TaskSourceBackend(Backend):
    open: Callable[[Any, TaskSourceContext], AbstractContextManager[TaskSource]]
    suffixes: tuple[str, ...] = ()
    """File name endings that choose this source when the user names only a file."""


@attrs.frozen(kw_only=True)
class CommandDescriptor:
    """A sub-command that a plugin brings; nothing of it is imported before it is called."""

    name: str
    """Kebab-case."""
    summary: str
    """The one line that ``--help`` shows."""
    target: str
    """``module:attribute`` of a `click.Command`."""
