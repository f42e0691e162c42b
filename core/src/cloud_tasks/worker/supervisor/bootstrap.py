"""Puts a supervisor together from the worker's plan, runs it, and takes everything apart again."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from cloud_tasks.errors import CloudTasksError
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.common.shared_flags import SharedFlags
from cloud_tasks.worker.reporting.event_encoder import EventEncoder
from cloud_tasks.worker.reporting.reporter import Report, Reporter
from cloud_tasks.worker.supervisor.completion import CompletionHandler
from cloud_tasks.worker.supervisor.open_backends import OpenBackends
from cloud_tasks.worker.supervisor.retry_policy import RetryRules
from cloud_tasks.worker.supervisor.settings import Exit, SupervisorSettings
from cloud_tasks.worker.supervisor.startup_log import log_configuration
from cloud_tasks.worker.supervisor.supervisor import Supervisor
from cloud_tasks.worker.worker_config import WorkerConfig

if TYPE_CHECKING:
    import socket

    from cloud_tasks.registry import Registry
    from cloud_tasks.worker.consumers.base import TaskConsumer
    from cloud_tasks.worker.reporting.log_upload import LogUploader

__all__ = ["supervise"]


def supervise(
    plan: WorkerConfig,
    data: Any,
    flags: SharedFlags,
    *,
    end: socket.socket,
    on_termination_notice: Callable[[], Any] | None,
    registry: Registry | None = None,
) -> int:
    """Run the worker; returns the exit code.

    Args:
        end: The socket of the zygote, a child of this process.
        registry: None: the installed plugins that the plan names.
    """
    log = Log(verbose=data.verbose > 0)
    try:
        with ExitStack() as stack:
            # Closing its socket is what ends the zygote; the crew, once there is one, waits for that.
            stack.callback(end.close)
            return _Assembly(plan, data, flags, log, registry, stack).run(end, on_termination_notice)
    except CloudTasksError as error:
        log.error(str(error))
        return Exit.BAD_INPUT if type(error).__name__ in ("InputError", "PluginError") else Exit.FAILED


class _Assembly:
    """The parts of one supervisor and how they are connected."""

    def __init__(
        self, plan: WorkerConfig, data: Any, flags: SharedFlags, log: Log, registry: Registry | None, stack: ExitStack
    ) -> None:
        self._plan = plan
        self._data = data
        self._flags = flags
        self._log = log
        self._registry = registry
        self._stack = stack
        self._events = EventEncoder()
        self._supervisor: Supervisor | None = None
        self._logs: LogUploader | None = None

    def run(self, end: socket.socket, on_termination_notice: Callable[[], Any] | None) -> int:
        data, stack = self._data, self._stack
        log_configuration(self._log, data, self._plan)
        stack.callback(self._power_off)
        rules = RetryRules.of(data)
        connections = OpenBackends(
            self._plan,
            data,
            environ=os.environ,
            registry=self._registry,
            stack=stack,
            on_lost=self._on_lost_leases,
            log=self._log,
        )
        reporter = self._reporter(connections)
        backend = connections.backend
        endings = CompletionHandler(
            rules,
            self._events,
            reporter,
            counts_deliveries=None if backend is None else backend.traits.reports_delivery_count,
            max_event_bytes=connections.max_event_bytes,
            logs=self._log_uploads(reporter),
        )
        supervisor = Supervisor(
            self._settings(connections.max_result_bytes),
            end=end,
            feed=lambda supervisor: self._feed(connections, supervisor, endings, rules),
            reporter=reporter,
            endings=endings,
            events=self._events,
            flags=self._flags,
            log=self._log,
        )
        self._supervisor = supervisor
        stack.callback(endings.close, self._plan.scratch_root)
        stack.callback(supervisor.close)
        self._watch(connections, supervisor, on_termination_notice)
        reporter.start()
        if connections.leases is not None:
            connections.leases.start()
            stack.callback(connections.leases.close)
        return self._finish(supervisor, reporter, self._work(supervisor, reporter))

    def _watch(
        self, connections: OpenBackends, supervisor: Supervisor, on_termination_notice: Callable[[], Any] | None
    ) -> None:
        """Look out for the end of this machine, where there is one to be expected."""
        data = self._data
        simulated = data.simulate_spot_termination_after
        is_machine = bool(connections.compute_name) and (self._plan.source is None or bool(data.is_spot))
        if not is_machine and simulated is None:
            return
        from cloud_tasks.worker.supervisor.termination_watch import TerminationWatch

        notices = TerminationWatch(supervisor, callback=on_termination_notice, stack=self._stack, log=self._log)
        if is_machine:
            notices.watch(connections.registry, connections.compute_name, data, environ=os.environ, events=self._events)
        if simulated is not None:
            notices.simulate(simulated, data.simulate_spot_termination_delay)

    def _work(self, supervisor: Supervisor, reporter: Reporter) -> int:
        try:
            return supervisor.run()
        except Exception as error:
            import traceback

            trace = traceback.format_exc()
            self._log.error(f"The supervisor failed: {error}\n{trace}")
            reporter.put(Report((self._events.make("fatal_exception", exception=str(error), stack_trace=trace),)))
            return Exit.FAILED

    def _finish(self, supervisor: Supervisor, reporter: Reporter, code: int) -> int:
        failure = supervisor.feed.failure
        if failure and code == Exit.DONE:
            self._log.error(failure)
            code = Exit.BAD_INPUT if self._plan.source is not None else Exit.DONE
        reason = supervisor.stop_reason or failure or "all tasks are done"
        reporter.put(Report((self._events.make("worker_stopped", reason=reason, exit_code=code),)))
        # What it has just received is given back through the reporter.
        supervisor.feed.close()
        if self._logs is not None:
            self._logs.close(self._data.flush_period)
        rest = reporter.close(self._data.flush_period)
        if rest:
            self._log.error(rest)
            code = code or Exit.FAILED
        self._log.info(f"Worker ended: {reason}; {supervisor.finished} tasks were attempted")
        return code

    def _reporter(self, connections: OpenBackends) -> Reporter:
        backend, leases = connections.backend, connections.leases

        def on_acked(lease_ids: Sequence[str]) -> None:
            if leases is not None:
                leases.drop(lease_ids)

        def confirm(lease_ids: Sequence[str]) -> Collection[str]:
            return () if leases is None else leases.confirm(lease_ids)

        return Reporter(
            connections.sinks,
            tasks=connections.tasks,
            max_delay=0.0 if backend is None else backend.traits.delay.total_seconds(),
            confirm=confirm,
            on_acked=on_acked,
            spool=connections.spool,
            log=self._log,
        )

    def _log_uploads(self, reporter: Reporter) -> LogUploader | None:
        data, folder = self._data, self._plan.log_dir
        if data.log_store is None or folder is None:
            return None

        from cloud_tasks.worker.reporting.log_upload import LogUploader

        def on_problem(text: str) -> None:
            self._log.warning(text)
            reporter.put(Report((self._events.make("non_fatal_exception", exception=text),)))

        self._logs = LogUploader(
            folder, data.log_store, keep=data.task_log_dir is not None, on_problem=on_problem, log=self._log
        )
        return self._logs

    def _feed(
        self, connections: OpenBackends, supervisor: Supervisor, endings: CompletionHandler, rules: RetryRules
    ) -> TaskConsumer:
        def nothing() -> None:
            return

        return connections.feed(endings, max_losses=rules.max_losses, on_change=lambda: supervisor.post(nothing))

    def _settings(self, max_result_bytes: int | None) -> SupervisorSettings:
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
            max_result_bytes=max_result_bytes,
            progress_interval=data.progress_interval,
            reuse=data.reuse_processes or 1,
            memory_gb=data.max_memory_allowed_per_task,
            log_tasks=plan.source is not None or data.verbose > 0,
        )

    def _power_off(self) -> None:
        """What the user wants done when this worker is through, whatever the reason."""
        command = self._data.power_off_command
        if command:
            import subprocess

            self._log.info(f"Running the power-off command: {command}")
            subprocess.run(command, shell=True, check=False, stdin=subprocess.DEVNULL)

    def _on_lost_leases(self, lease_ids: Sequence[str]) -> None:
        self._log.warning(f"{len(lease_ids)} leases ended early; others may be doing these tasks too")
        supervisor = self._supervisor
        if supervisor is not None:
            supervisor.post(lambda: supervisor.lost_leases(lease_ids))
