"""Puts a supervisor together from the worker's plan, runs it, and takes everything apart again."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloud_tasks.errors import CloudTasksError
from cloud_tasks.model import TerminationNotice
from cloud_tasks.plugin import EventSinkContext, InstanceContext, Queue, QueueBackend, QueueContext
from cloud_tasks.worker.configuration import log_configuration
from cloud_tasks.worker.endings import Endings
from cloud_tasks.worker.environment import settings_from_environment
from cloud_tasks.worker.events import EventMaker
from cloud_tasks.worker.feed import Feed
from cloud_tasks.worker.leases import Leases
from cloud_tasks.worker.local_feed import LocalFeed
from cloud_tasks.worker.log import Log
from cloud_tasks.worker.machine import Machine
from cloud_tasks.worker.plan import Plan
from cloud_tasks.worker.report import EventFile, EventQueue, MainSink, Report, Reporter
from cloud_tasks.worker.retry import RetryRules
from cloud_tasks.worker.shared import SharedFlags
from cloud_tasks.worker.supervisor import Exit, Supervisor, SupervisorSettings

if TYPE_CHECKING:
    from cloud_tasks.registry import Registry

__all__ = ["supervise"]

_EVENT_ROOM = 8 * 1024
"""Bytes of an event-queue message that are kept for all but the result."""
_NOTICE_MARGIN = 3.0
"""Seconds before the machine is taken away at which unfinished tasks are released."""


def supervise(
    plan: Plan,
    data: Any,
    flags: SharedFlags,
    *,
    zygote: int,
    end: socket.socket,
    on_termination_notice: Callable[[], Any] | None,
    registry: Registry | None = None,
) -> int:
    """Run the worker; returns the exit code.

    Args:
        zygote: The pid of the zygote, a child of this process.
        end: Its socket.
        registry: None: the installed plugins that the plan names.
    """
    log = Log(verbose=data.verbose > 0)
    try:
        with ExitStack() as stack:
            # Closing its socket is what ends the zygote; the crew, once there is one, waits for that.
            stack.callback(end.close)
            return _Assembly(plan, data, flags, log, registry, stack).run(zygote, end, on_termination_notice)
    except CloudTasksError as error:
        log.error(str(error))
        return Exit.BAD_INPUT if type(error).__name__ in ("InputError", "PluginError") else Exit.FAILED


def gpu_environment(slot: int, gpus_per_task: int | None, environ: Mapping[str, str]) -> dict[str, str]:
    """The devices of a slot: ``gpus_per_task`` of those that this worker may use, or of all."""
    if not gpus_per_task:
        return {}
    allowed = [name for name in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    places = range(slot * gpus_per_task, (slot + 1) * gpus_per_task)
    chosen = [allowed[place] for place in places if place < len(allowed)] if allowed else [str(p) for p in places]
    return {"CUDA_VISIBLE_DEVICES": ",".join(chosen)}


class _Assembly:
    """The parts of one supervisor and how they are connected."""

    def __init__(
        self, plan: Plan, data: Any, flags: SharedFlags, log: Log, registry: Registry | None, stack: ExitStack
    ) -> None:
        self._plan = plan
        self._data = data
        self._flags = flags
        self._log = log
        self._stack = stack
        self._environ = os.environ
        self._compute_name = (data.compute or data.provider or "").lower()
        self._given_registry = registry
        self._events = EventMaker()
        self._tasks: Queue | None = None
        self._backend: QueueBackend | None = None
        self._leases: Leases | None = None
        self._supervisor: Supervisor | None = None

    def run(self, zygote: int, end: socket.socket, on_termination_notice: Callable[[], Any] | None) -> int:
        plan, data, stack = self._plan, self._data, self._stack
        log_configuration(self._log, data, plan)
        stack.callback(self._power_off)
        rules = RetryRules.of(data)
        sinks = self._open_sinks()
        max_delay = 0.0
        if plan.source is None:
            self._backend = self._registry.queue(plan.queue_backend)
            self._tasks = self._open_queue(self._backend, data.queue_name)
            max_delay = self._backend.traits.delay.total_seconds()
            self._leases = Leases(self._tasks, self._lease(), on_lost=self._on_lost_leases, log=self._log)
        reporter = Reporter(sinks, tasks=self._tasks, max_delay=max_delay, on_acked=self._drop_leases, log=self._log)
        counts = self._backend.traits.delivery_counts if self._backend is not None else None
        limit = self._registry.queue(plan.queue_backend).traits.max_message_bytes if plan.events_to_queue else None
        endings = Endings(rules, self._events, reporter, counts_deliveries=counts, max_event_bytes=limit)
        supervisor = Supervisor(
            self._settings(),
            zygote=zygote,
            end=end,
            feed=lambda supervisor: self._feed(supervisor, endings, rules),
            reporter=reporter,
            endings=endings,
            events=self._events,
            flags=self._flags,
            log=self._log,
        )
        self._supervisor = supervisor
        stack.callback(endings.close, plan.scratch_root)
        stack.callback(supervisor.close)
        machine = self._machine(on_termination_notice)
        if machine is not None:
            stack.callback(machine.close)
            machine.start()
        reporter.start()
        if self._leases is not None:
            self._leases.start()
            stack.callback(self._leases.close)
        self._simulate_notice(on_termination_notice)
        try:
            code = supervisor.run()
        except Exception as error:
            trace = traceback.format_exc()
            self._log.error(f"The supervisor failed: {error}\n{trace}")
            reporter.put(Report((self._events.make("fatal_exception", exception=str(error), stack_trace=trace),)))
            code = Exit.FAILED
        return self._finish(supervisor, reporter, code)

    def _finish(self, supervisor: Supervisor, reporter: Reporter, code: int) -> int:
        failure = supervisor.feed.failure
        if failure and code == Exit.DONE:
            self._log.error(failure)
            code = Exit.BAD_INPUT if self._plan.source is not None else Exit.DONE
        reason = supervisor.stop_reason or failure or "all tasks are done"
        reporter.put(Report((self._events.make("worker_stopped", reason=reason, exit_code=code),)))
        if not reporter.close(self._data.flush_period):
            self._log.error(f"{reporter.backlog[0]} reports could not be made: {reporter.problem}")
            code = code or Exit.FAILED
        supervisor.feed.close()
        self._log.info(f"Worker ended: {reason}; {supervisor.finished} tasks were attempted")
        return code

    def _settings(self) -> SupervisorSettings:
        data, plan = self._data, self._plan
        return SupervisorSettings(
            slots=plan.slots,
            max_runtime=data.max_runtime,
            grace=data.shutdown_grace_period,
            term_to_kill=data.timeout_kill_period,
            keepalive_interval=data.keepalive_interval if plan.events_to_queue else 0.0,
            idle_limit=data.idle_limit if plan.source is None else None,
            max_lifetime=data.max_lifetime,
            scratch_root=plan.scratch_root,
            max_result_bytes=self._max_result_bytes(),
            progress_interval=data.progress_interval,
            memory_gb=data.max_memory_allowed_per_task,
            slot_environment=lambda slot: gpu_environment(slot, data.gpus_per_task, self._environ),
            log_tasks=plan.source is not None or data.verbose > 0,
        )

    def _max_result_bytes(self) -> int | None:
        """What the user allows, and at most what a message of the event queue can carry beside the event itself."""
        wanted = self._plan.max_result_bytes
        if not self._plan.events_to_queue:
            return wanted
        carried = self._registry.queue(self._plan.queue_backend).traits.max_message_bytes
        room = max(carried // 2, carried - _EVENT_ROOM)
        return room if wanted is None else min(wanted, room)

    def _power_off(self) -> None:
        """What the user wants done when this worker is through, whatever the reason."""
        command = self._data.power_off_command
        if command:
            self._log.info(f"Running the power-off command: {command}")
            subprocess.run(command, shell=True, check=False, stdin=subprocess.DEVNULL)

    @cached_property
    def _registry(self) -> Registry:
        """The plugins that the job names, and no others. Not needed, and not imported, with a local source alone."""
        from cloud_tasks.registry import Registry

        return self._given_registry or Registry(only={self._plan.queue_backend, self._compute_name} - {""})

    # -- queues, sinks, source -------------------------------------------------------------------------------------

    def _lease(self) -> timedelta:
        assert self._backend is not None
        return min(timedelta(seconds=self._data.lease), self._backend.traits.max_lease)

    def _open_queue(self, backend: QueueBackend, name: str, *, for_events: bool = False) -> Queue:
        data = self._data
        context = QueueContext(
            job_id=data.job_id or name,
            name=name,
            lease=min(timedelta(seconds=data.lease), backend.traits.max_lease),
            exactly_once=bool(data.exactly_once_queue) and not for_events,
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
            backend = self._registry.queue(self._plan.queue_backend)
            queue = self._open_queue(backend, self._data.event_log_queue_name, for_events=True)
            sinks.append(EventQueue(queue, max_message_bytes=backend.traits.max_message_bytes))
        return [*sinks, *self._open_copies()]

    def _open_copies(self) -> Sequence[MainSink]:
        names = [name.strip() for name in (self._data.event_sinks or "").split(",") if name.strip()]
        if not names:
            return ()
        from cloud_tasks import builtin
        from cloud_tasks.registry import Registry
        from cloud_tasks.worker.copies import Copies

        registry = self._given_registry or Registry(builtins=[("builtin", builtin)])
        context = EventSinkContext(job_id=self._data.job_id or "")
        copies = []
        for name in names:
            backend = registry.event_sink(name)
            settings = settings_from_environment(backend.settings, backend.name, self._environ)
            sink = self._stack.enter_context(backend.open(settings, context))
            copies.append(Copies(name, sink, patience=self._data.flush_period, log=self._log))
            self._stack.callback(copies[-1].close)
        return copies

    def _feed(self, supervisor: Supervisor, endings: Endings, rules: RetryRules) -> Feed:
        data, plan = self._data, self._plan

        def nothing() -> None:
            return

        def on_change() -> None:
            supervisor.post(nothing)

        if plan.source is not None:
            from cloud_tasks import builtin

            wanted = None
            if data.resume or data.retry_failed:
                from cloud_tasks.worker.resume import wanted_tasks

                wanted = wanted_tasks(data.event_log_file, retry_failed=bool(data.retry_failed))
            return LocalFeed(
                lambda: builtin.open_task_source(None, plan.source, base_dir=Path.cwd()),
                skip=data.tasks_to_skip or 0,
                limit=data.max_num_tasks,
                wanted=wanted,
                on_change=on_change,
            )
        from cloud_tasks.worker.queue_feed import QueueFeed

        assert self._backend is not None
        assert self._tasks is not None
        assert self._leases is not None
        return QueueFeed(
            self._tasks,
            self._backend.traits,
            self._leases,
            slots=plan.slots,
            max_losses=rules.max_losses,
            on_malformed=endings.malformed,
            on_dead=endings.dead_on_arrival,
            on_change=on_change,
            log=self._log,
        )

    def _drop_leases(self, lease_ids: Sequence[str]) -> None:
        if self._leases is not None:
            self._leases.drop(lease_ids)

    def _on_lost_leases(self, lease_ids: Sequence[str]) -> None:
        self._log.warning(f"{len(lease_ids)} leases ended early; others may be doing these tasks too")
        supervisor = self._supervisor
        if supervisor is not None:
            supervisor.post(lambda: supervisor.lost_leases(lease_ids))

    # -- the machine -----------------------------------------------------------------------------------------------

    def _machine(self, callback: Callable[[], Any] | None) -> Machine | None:
        if not self._compute_name or (self._plan.source is not None and not self._data.is_spot):
            return None
        try:
            backend = self._registry.compute(self._compute_name)
            settings = settings_from_environment(backend.settings, backend.name, self._environ)
            context = InstanceContext(job_id=self._data.job_id or "")
            side = self._stack.enter_context(backend.open_instance(settings, context))
        except CloudTasksError as error:
            self._log.warning(f"Termination notices cannot be seen: {error}")
            return None

        def on_identity(instance_id: str) -> None:
            self._events.instance_id = instance_id

        return Machine(
            side,
            interval=self._data.notice_interval,
            on_identity=on_identity,
            on_notice=lambda notice: self._on_notice(notice, callback),
            log=self._log,
        )

    def _on_notice(self, notice: TerminationNotice, callback: Callable[[], Any] | None) -> None:
        """Called from a thread."""
        self._flags.set_termination_notice()
        supervisor = self._supervisor
        if supervisor is not None:
            left = None if notice.at is None else notice.at.timestamp() - time.time() - _NOTICE_MARGIN
            supervisor.post(lambda: supervisor.on_notice(notice.reason, left))
        if callback is not None:
            try:
                callback()
            except Exception as error:
                self._log.warning(f"on_termination_notice failed: {type(error).__name__}: {error}")

    def _simulate_notice(self, callback: Callable[[], Any] | None) -> None:
        after, delay = self._data.simulate_spot_termination_after, self._data.simulate_spot_termination_delay
        if after is None:
            return
        from datetime import UTC, datetime

        def notice() -> None:
            at = None if delay is None else datetime.fromtimestamp(time.time() + delay + _NOTICE_MARGIN, UTC)
            self._on_notice(TerminationNotice(at=at, reason="simulated spot termination"), callback)

        timer = threading.Timer(after, notice)
        timer.daemon = True
        timer.start()
        self._stack.callback(timer.cancel)
