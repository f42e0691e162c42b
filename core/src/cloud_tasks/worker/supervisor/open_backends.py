"""What a worker is connected to: its task queue with the leases, where its events go, what it takes tasks from.

With a task file and no plugin nothing of the plugin surface is imported, for that takes longer than all else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.reporting.durable_sinks import EventFile, EventQueue, MainSink
from cloud_tasks.worker.reporting.spool import Spool
from cloud_tasks.worker.supervisor.completion import CompletionHandler
from cloud_tasks.worker.worker_config import WorkerConfig

if TYPE_CHECKING:
    from datetime import timedelta

    from cloud_tasks.plugin import Queue, QueueBackend
    from cloud_tasks.registry import Registry
    from cloud_tasks.worker.consumers.base import TaskConsumer
    from cloud_tasks.worker.consumers.lease_extender import LeaseExtender

__all__ = ["OpenBackends"]

_EVENT_ROOM = 8 * 1024
"""Bytes of an event-queue message that are kept for all but the result."""


class OpenBackends:
    """Opens what the plan asks for; the stack closes it.

    Args:
        registry: None: the installed plugins that the plan names, and no others.
        on_lost: Told of leases that ended early, from a thread.
    """

    def __init__(
        self,
        plan: WorkerConfig,
        data: Any,
        *,
        environ: Mapping[str, str],
        registry: Registry | None,
        stack: ExitStack,
        on_lost: Callable[[Sequence[str]], None],
        log: Log,
    ) -> None:
        self._plan = plan
        self._data = data
        self._environ = environ
        self._given_registry = registry
        self._stack = stack
        self._log = log
        self.compute_name = (data.compute or data.provider or "").lower()
        self.sinks = self._open_sinks()
        self.backend: QueueBackend | None = None
        """The task queue's; None with a local source, as are the next two."""
        self.tasks: Queue | None = None
        self.leases: LeaseExtender | None = None
        if plan.source is None:
            from cloud_tasks.worker.consumers.lease_extender import LeaseExtender

            self.backend = self.registry.queue(plan.queue_backend)
            self.tasks = self._open_queue(self.backend, data.queue_name)
            self.leases = LeaseExtender(self.tasks, self._lease(self.backend), on_lost=on_lost, log=log)

    @cached_property
    def registry(self) -> Registry:
        """The plugins that the job names, and no others."""
        from cloud_tasks.registry import Registry

        return self._given_registry or Registry(only={self._plan.queue_backend, self.compute_name} - {""})

    @property
    def max_event_bytes(self) -> int | None:
        """What a message of the event queue carries; None: there is none."""
        if not self._plan.events_to_queue:
            return None
        return self.registry.queue(self._plan.queue_backend).traits.max_message_bytes

    @property
    def max_result_bytes(self) -> int | None:
        """What the user allows, and at most what a message of the event queue can carry beside the event itself."""
        wanted, carried = self._plan.max_result_bytes, self.max_event_bytes
        if carried is None:
            return wanted
        room = max(carried // 2, carried - _EVENT_ROOM)
        return room if wanted is None else min(wanted, room)

    @cached_property
    def spool(self) -> Spool:
        """With what an earlier worker of this job left in it."""
        data = self._data
        destination = [
            os.path.abspath(data.event_log_file) if self._plan.events_to_file else None,
            [self._plan.queue_backend, data.event_log_queue_name] if self._plan.events_to_queue else None,
        ]
        folder = os.path.abspath(data.event_spool_dir)
        spool = Spool(folder, destination=json.dumps(destination), limit=data.event_spool_bytes)
        spool.take_over()
        if spool:
            self._log.warning(f"An earlier worker left {spool.size} bytes of reports in {folder}: they are made first")
        return spool

    def feed(self, endings: CompletionHandler, *, max_losses: int, on_change: Callable[[], None]) -> TaskConsumer:
        """Where attempts come from; ``on_change`` is called from its thread."""
        if self._plan.source is not None:
            return self._local_feed(on_change)
        from cloud_tasks.worker.consumers.queue import QueueConsumer

        assert self.backend is not None
        assert self.tasks is not None
        assert self.leases is not None
        return QueueConsumer(
            self.tasks,
            self.backend.traits,
            self.leases,
            slots=self._plan.slots,
            max_losses=max_losses,
            on_malformed=endings.malformed,
            on_dead=endings.dead_on_arrival,
            on_unused=endings.release_unstarted,
            on_change=on_change,
            log=self._log,
        )

    def _local_feed(self, on_change: Callable[[], None]) -> TaskConsumer:
        from cloud_tasks.worker.consumers.local import LocalConsumer
        from cloud_tasks.worker.consumers.local_source import open_local_source

        data = self._data
        wanted = None
        if data.resume or data.retry_failed:
            from cloud_tasks.worker.consumers.resume import wanted_tasks

            wanted = wanted_tasks(data.event_log_file, spooled=self.spool.paths, retry_failed=bool(data.retry_failed))
        return LocalConsumer(
            lambda: open_local_source(self._plan.source),
            skip=data.tasks_to_skip or 0,
            limit=data.max_num_tasks,
            wanted=wanted,
            on_change=on_change,
        )

    def _lease(self, backend: QueueBackend) -> timedelta:
        from datetime import timedelta

        return min(timedelta(seconds=self._data.lease), backend.traits.max_lease)

    def _open_queue(self, backend: QueueBackend, name: str, *, for_events: bool = False) -> Queue:
        from cloud_tasks.errors import InputError
        from cloud_tasks.plugin import QueueContext
        from cloud_tasks.worker.supervisor.environment import settings_from_environment

        exactly_once = bool(self._data.exactly_once_queue) and not for_events
        if exactly_once and not backend.traits.exactly_once:
            raise InputError(
                f'queue "{backend.name}" does not support exactly-once delivery',
                where="--exactly-once-queue",
                hint="remove it, or unset CLOUD_TASKS_EXACTLY_ONCE_QUEUE",
            )
        context = QueueContext(
            job_id=self._data.job_id or name,
            name=name,
            lease=self._lease(backend),
            exactly_once=exactly_once,
            region=self._environ.get("CLOUD_TASKS_REGION"),
            for_events=for_events,
        )
        settings = settings_from_environment(backend.settings, backend.name, self._environ)
        return self._stack.enter_context(backend.open(settings, context))

    def _open_sinks(self) -> Sequence[MainSink]:
        sinks: list[MainSink] = []
        if self._plan.events_to_file:
            sinks.append(EventFile(self._data.event_log_file))
            self._stack.callback(sinks[-1].close)
        if self._plan.events_to_queue:
            backend = self.registry.queue(self._plan.queue_backend)
            queue = self._open_queue(backend, self._data.event_log_queue_name, for_events=True)
            sinks.append(EventQueue(queue, max_message_bytes=backend.traits.max_message_bytes))
        return [*sinks, *self._open_copies()]

    def _open_copies(self) -> Sequence[MainSink]:
        names = [name.strip() for name in (self._data.event_sinks or "").split(",") if name.strip()]
        if not names:
            return ()
        from cloud_tasks import builtin
        from cloud_tasks.plugin import EventSinkContext
        from cloud_tasks.registry import Registry
        from cloud_tasks.worker.reporting.sink_forwarder import SinkForwarder
        from cloud_tasks.worker.supervisor.environment import settings_from_environment

        registry = self._given_registry or Registry(builtins=[("builtin", builtin)])
        context = EventSinkContext(job_id=self._data.job_id or "")
        copies = []
        for name in names:
            backend = registry.event_sink(name)
            settings = settings_from_environment(backend.settings, backend.name, self._environ)
            sink = self._stack.enter_context(backend.open(settings, context))
            copies.append(SinkForwarder(name, sink, patience=self._data.flush_period, log=self._log))
            self._stack.callback(copies[-1].close)
        return copies
