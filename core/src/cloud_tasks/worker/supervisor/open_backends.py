"""The backends of a worker: task queue and leases, event log, event queue and sinks, consumer.

With a task file and without plugins, no module of the plugin interface is imported: those imports would take longer
than the rest of the start.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cloud_tasks.worker.common.formatting import format_bytes
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.reporting.durable_sinks import DurableSink, EventFile, EventQueue
from cloud_tasks.worker.reporting.spool import Spool
from cloud_tasks.worker.supervisor.execution.completion import CompletionHandler
from cloud_tasks.worker.worker_config import WorkerConfig

if TYPE_CHECKING:
    from datetime import timedelta

    from cloud_tasks.plugin import Backend, InstanceSide, Queue, QueueBackend
    from cloud_tasks.registry import Registry
    from cloud_tasks.worker.consumers.base import TaskConsumer
    from cloud_tasks.worker.consumers.lease_extender import LeaseExtender

__all__ = ["OpenBackends"]

_LEASE_GROWTH = 10
"""Longest lease of a task that has run for long, in first leases, where requests cost money."""
_EVENT_OVERHEAD = 8 * 1024
"""Bytes of an event-queue message that are reserved for everything but the result."""


class OpenBackends:
    """Opens what the configuration names.

    Args:
        registry: Plugins to use; None for the installed ones that the configuration names, and no others.
        stack: Closes what was opened.
    """

    def __init__(
        self,
        config: WorkerConfig,
        data: Any,
        *,
        environ: Mapping[str, str],
        registry: Registry | None,
        stack: ExitStack,
        log: Log,
    ) -> None:
        self._config = config
        self._data = data
        self._environ = environ
        self._given_registry = registry
        self._stack = stack
        self._log = log
        self._logs_routed = False
        self._secret_variables: set[str] = set()
        self.compute_name = (data.compute or data.provider or "").lower()
        self.is_on_instance = bool(self.compute_name) and (config.source is None or bool(data.is_spot))
        """Whether this worker watches for the termination of its instance."""
        self.sinks = self._open_sinks()
        self.backend: QueueBackend | None = None
        """Backend of the task queue; None with a local source, like the next two."""
        self.tasks: Queue | None = None
        self.leases: LeaseExtender | None = None
        if config.source is None:
            from cloud_tasks.worker.consumers.lease_extender import LeaseExtender

            self.backend = self.registry.queue(config.queue_backend)
            self.tasks = self._open_queue(self.backend, data.queue_name)
            lease, traits = self._lease(self.backend), self.backend.traits
            longest = min(lease * _LEASE_GROWTH, traits.max_lease) if traits.bills_requests else None
            self.leases = LeaseExtender(self.tasks, lease, log=log, longest=longest)

    @cached_property
    def registry(self) -> Registry:
        """Plugins that the job names, and no others."""
        from cloud_tasks.registry import Registry

        self._route_plugin_logs()
        return self._given_registry or Registry(only={self._config.queue_backend, self.compute_name} - {""})

    def secret_variables(self) -> tuple[str, ...]:
        """Return the variables with secrets of the backends that this worker opens."""
        if self.is_on_instance:
            from cloud_tasks.errors import CloudTasksError
            from cloud_tasks.worker.supervisor.environment import secret_variables

            # Without the plugin, the watch reports the problem.
            with suppress(CloudTasksError):
                backend = self.registry.compute(self.compute_name)
                self._secret_variables.update(secret_variables(backend.settings, backend.name))
        return tuple(sorted(self._secret_variables))

    def instance_side(self) -> InstanceSide:
        """Open this instance's own view of itself. Raises `CloudTasksError`."""
        from cloud_tasks.plugin import InstanceContext
        from cloud_tasks.worker.supervisor.environment import settings_from_environment

        backend = self.registry.compute(self.compute_name)
        settings = settings_from_environment(backend.settings, backend.name, self._environ)
        context = InstanceContext(job_id=self._data.job_id or "")
        return self._stack.enter_context(backend.open_instance(settings, context))

    @property
    def max_event_bytes(self) -> int | None:
        """Maximum size of a message of the event queue; None without an event queue."""
        if not self._config.events_to_queue:
            return None
        return self.registry.queue(self._config.queue_backend).traits.max_message_bytes

    @property
    def max_result_bytes(self) -> int | None:
        """Maximum size of a result: the configured limit, or what fits into a message of the event queue."""
        configured, carried = self._config.max_result_bytes, self.max_event_bytes
        if carried is None:
            return configured
        available = max(carried // 2, carried - _EVENT_OVERHEAD)
        return available if configured is None else min(configured, available)

    @cached_property
    def spool(self) -> Spool:
        """The spool, with the reports that an earlier worker of this job left in it."""
        data = self._data
        destination = [
            os.path.abspath(data.event_log_file) if self._config.events_to_file else None,
            [self._config.queue_backend, data.event_log_queue_name] if self._config.events_to_queue else None,
        ]
        folder = os.path.abspath(data.event_spool_dir)
        spool = Spool(folder, destination=json.dumps(destination), limit=data.event_spool_bytes)
        spool.take_over()
        if spool:
            self._log.warning(
                f"An earlier worker left {format_bytes(spool.size)} of reports in {folder}; they are sent first"
            )
        return spool

    def open_consumer(
        self,
        completion: CompletionHandler,
        *,
        max_losses: int,
        on_change: Callable[[], None],
        on_refused: Callable[[str], None],
    ) -> TaskConsumer:
        """Return the consumer of tasks.

        Args:
            max_losses: Number of interrupted attempts after which a task is dead.
            on_change: Called from a thread when there may be new tasks.
            on_refused: Called from a thread with the reason if the task queue refuses this worker.
        """
        if self._config.source is not None:
            return self._local_consumer(on_change)
        from cloud_tasks.worker.consumers.queue import QueueConsumer

        assert self.backend is not None
        assert self.tasks is not None
        assert self.leases is not None
        return QueueConsumer(
            self.tasks,
            self.backend.traits,
            self.leases,
            slots=self._config.slots,
            max_losses=max_losses,
            on_malformed=completion.report_malformed,
            on_dead=completion.report_dead,
            on_unused=completion.release_unstarted,
            on_change=on_change,
            on_refused=on_refused,
            log=self._log,
        )

    def _route_plugin_logs(self) -> None:
        if not self._logs_routed:
            from cloud_tasks.worker.supervisor.plugin_logs import route_plugin_logs

            self._logs_routed = True
            route_plugin_logs(self._log, self._stack)

    def _local_consumer(self, on_change: Callable[[], None]) -> TaskConsumer:
        from cloud_tasks.worker.consumers.local import LocalConsumer
        from cloud_tasks.worker.consumers.local_source import open_local_source

        data = self._data
        is_selected = None
        if data.resume or data.retry_failed:
            from cloud_tasks.worker.consumers.resume import select_tasks

            spooled, retry_failed = self.spool.paths, bool(data.retry_failed)
            is_selected = select_tasks(data.event_log_file, spooled=spooled, retry_failed=retry_failed)
        return LocalConsumer(
            lambda: open_local_source(self._config.source, plugins=self._all_plugins, settings_of=self._settings_of),
            skip=data.tasks_to_skip or 0,
            limit=data.max_num_tasks,
            allow_empty=bool(data.allow_empty),
            is_selected=is_selected,
            on_change=on_change,
        )

    def _lease(self, backend: QueueBackend) -> timedelta:
        from datetime import timedelta

        return min(timedelta(seconds=self._data.lease), backend.traits.max_lease)

    def _open_queue(self, backend: QueueBackend, name: str, *, for_events: bool = False) -> Queue:
        from cloud_tasks.errors import InputError
        from cloud_tasks.plugin import QueueContext

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
        return self._stack.enter_context(backend.open(self._settings_of(backend), context))

    def _all_plugins(self) -> Registry:
        from cloud_tasks import builtin
        from cloud_tasks.registry import Registry

        self._route_plugin_logs()
        return self._given_registry or Registry(builtins=[("builtin", builtin)])

    def _settings_of(self, backend: Backend) -> Any:
        from cloud_tasks.worker.supervisor.environment import secret_variables, settings_from_environment

        self._secret_variables.update(secret_variables(backend.settings, backend.name))
        return settings_from_environment(backend.settings, backend.name, self._environ)

    def _open_sinks(self) -> Sequence[DurableSink]:
        sinks: list[DurableSink] = []
        if self._config.events_to_file:
            sinks.append(EventFile(self._data.event_log_file))
            self._stack.callback(sinks[-1].close)
        if self._config.events_to_queue:
            backend = self.registry.queue(self._config.queue_backend)
            queue = self._open_queue(backend, self._data.event_log_queue_name, for_events=True)
            sinks.append(EventQueue(queue, max_message_bytes=backend.traits.max_message_bytes))
        return [*sinks, *self._open_forwarders()]

    def _open_forwarders(self) -> Sequence[DurableSink]:
        names = [name.strip() for name in (self._data.event_sinks or "").split(",") if name.strip()]
        if not names:
            return ()
        from cloud_tasks.plugin import EventSinkContext
        from cloud_tasks.worker.reporting.sink_forwarder import SinkForwarder

        registry = self._all_plugins()
        context = EventSinkContext(job_id=self._data.job_id or "")
        forwarders = []
        for name in names:
            backend = registry.event_sink(name)
            sink = self._stack.enter_context(backend.open(self._settings_of(backend), context))
            forwarders.append(SinkForwarder(name, sink, flush_period=self._data.flush_period, log=self._log))
            self._stack.callback(forwarders[-1].close)
        return forwarders
