"""Start and end of the supervisor process: opens the backends, wires the parts, runs the supervisor, closes all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from cloud_tasks import exit_codes
from cloud_tasks.errors import CloudTasksError
from cloud_tasks.worker.common.formatting import counted
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.common.secret_variables import take_variables
from cloud_tasks.worker.common.shared_flags import SharedFlags
from cloud_tasks.worker.reporting.event_encoder import EventEncoder
from cloud_tasks.worker.reporting.reporter import Report, Reporter
from cloud_tasks.worker.supervisor.delivered_secrets import delivered_variables
from cloud_tasks.worker.supervisor.event_loop import EventLoop
from cloud_tasks.worker.supervisor.execution.completion import CompletionHandler
from cloud_tasks.worker.supervisor.execution.retry_policy import RetryRules
from cloud_tasks.worker.supervisor.open_backends import OpenBackends
from cloud_tasks.worker.supervisor.parts import SupervisorParts
from cloud_tasks.worker.supervisor.settings import SupervisorSettings
from cloud_tasks.worker.supervisor.startup_log import log_configuration
from cloud_tasks.worker.supervisor.supervisor import Supervisor
from cloud_tasks.worker.supervisor.thread_failures import handle_thread_failures
from cloud_tasks.worker.worker_config import WorkerConfig

if TYPE_CHECKING:
    import socket

    from cloud_tasks.registry import Registry
    from cloud_tasks.worker.reporting.log_upload import LogUploader

__all__ = ["supervise"]


def supervise(
    config: WorkerConfig,
    data: Any,
    flags: SharedFlags,
    *,
    zygote: socket.socket,
    on_termination_notice: Callable[[], Any] | None,
    registry: Registry | None = None,
) -> int:
    """Run a worker in this process and return its exit code.

    Args:
        data: The `WorkerData` with the values of all options.
        zygote: Socket of the zygote, a child of this process.
        on_termination_notice: Called once, in a thread, when the provider announces that it reclaims this instance.
        registry: Plugins to use; None for the installed ones that the configuration names.
    """
    log = Log(verbose=data.verbose > 0)
    try:
        with ExitStack() as stack:
            # The zygote exits when its socket is closed; the fork-server client, once created, waits for that.
            stack.callback(zygote.close)
            return _Bootstrap(config, data, flags, log, registry, stack).run(zygote, on_termination_notice)
    except CloudTasksError as error:
        log.error(str(error))
        return exit_codes.BAD_INPUT if type(error).__name__ in ("InputError", "PluginError") else exit_codes.RUN_FAILED


def _name_process(log: Log) -> None:
    """Give this process the name by which the instance's boot guard finds the worker, also in a container."""
    name = os.environ.get("CLOUD_TASKS_PROCESS_NAME")
    if name:
        try:
            with open("/proc/self/comm", "w") as file:
                file.write(name)
        except OSError as error:
            log.warning(f"The process cannot be named {name}, so the instance may not recognize its worker: {error}")


def _started(log: Log) -> Mapping[str, float]:
    """Note for the program that started this one that a worker runs; return the seconds of its steps, by name.

    Variables and file are those of a shipped program (`cloud_tasks.shipping`); elsewhere there are none.
    """
    if file := os.environ.pop("CLOUD_TASKS_STARTED_FILE", ""):
        try:
            with open(file, "w"):
                pass
        except OSError as error:
            log.warning(f"The start cannot be noted in {file}: {error.strerror}")
    steps = {}
    for word in os.environ.pop("CLOUD_TASKS_START_STEPS", "").split():
        name, _, seconds = word.partition("=")
        with suppress(ValueError):
            steps[name] = float(seconds)
    return steps


def _instance_age() -> float:
    """Return the seconds since the start of the instance's script; 0 on other machines."""
    try:
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - float(os.environ["CLOUD_TASKS_BOOT_UPTIME"]))
    except (KeyError, ValueError, AttributeError, OSError):
        # Without such a clock, the lifetime counts from the start of the worker.
        return 0.0


class _Bootstrap:
    """Creates the parts of one supervisor and ends them in reverse order."""

    def __init__(
        self, config: WorkerConfig, data: Any, flags: SharedFlags, log: Log, registry: Registry | None, stack: ExitStack
    ) -> None:
        self._config = config
        self._data = data
        self._flags = flags
        self._log = log
        self._registry = registry
        self._stack = stack
        self._events = EventEncoder(run_id=data.run_id)
        self._fail: Callable[[str, str], None] = lambda reason, trace: None
        self._refused: Callable[[str], None] = lambda reason: None
        self._thread_failure = ""
        self._secrets: Mapping[str, str] = {}

    def run(self, zygote: socket.socket, on_termination_notice: Callable[[], Any] | None) -> int:
        data, stack, config, log = self._data, self._stack, self._config, self._log
        _name_process(log)
        steps = _started(log)
        log_configuration(log, data, config)
        environ = {**os.environ, **delivered_variables()}
        # A later worker of this program needs them, too.
        stack.callback(lambda: os.environ.update(self._secrets))
        stack.callback(self._power_off)
        stack.enter_context(handle_thread_failures(self._on_thread_failed))
        rules = RetryRules.of(data)
        backends = OpenBackends(config, data, environ=environ, registry=self._registry, stack=stack, log=log)
        secret_variables = backends.secret_variables()
        self._secrets = take_variables(secret_variables)
        reporter = self._open_reporter(backends)
        logs = self._open_log_uploader(reporter)
        backend = backends.backend
        completion = CompletionHandler(
            rules,
            self._events,
            reporter,
            counts_deliveries=None if backend is None else backend.traits.reports_delivery_count,
            max_event_bytes=backends.max_event_bytes,
            logs=logs,
        )
        loop = EventLoop()
        stack.callback(loop.close)
        consumer = backends.open_consumer(
            completion,
            max_losses=rules.max_losses,
            on_change=loop.wake,
            on_refused=lambda reason: self._refused(reason),
        )
        parts = SupervisorParts(loop, zygote, consumer, reporter, completion, self._events, self._flags, log)
        settings = self._settings(backends.max_result_bytes, secret_variables, steps)
        supervisor = Supervisor(settings, parts)
        stack.callback(supervisor.close)
        self._fail = lambda reason, trace: loop.post(lambda: supervisor.fail(reason, trace))
        self._refused = lambda reason: loop.post(lambda: supervisor.on_queue_refused(reason))
        if self._thread_failure:
            self._fail(self._thread_failure, "")
        self._watch_for_termination(backends, supervisor, loop, on_termination_notice)
        reporter.start()
        if backends.leases is not None:
            backends.leases.start(lambda lease_ids: self._on_leases_lost(supervisor, loop, lease_ids))
            stack.callback(backends.leases.close)
        code = self._finish(supervisor, parts, logs, self._run(supervisor, reporter))
        if self._thread_failure and backends.leases is not None:
            backends.leases.give_back()
        return code

    def _on_thread_failed(self, reason: str, trace: str) -> None:
        """Shut down. Called from the thread."""
        self._thread_failure = self._thread_failure or reason
        self._log.error(trace)
        self._fail(reason, trace)

    def _run(self, supervisor: Supervisor, reporter: Reporter) -> int:
        try:
            return supervisor.run()
        except Exception as error:
            import traceback

            trace = traceback.format_exc()
            self._log.error(f"The supervisor failed: {error}", block=trace)
            reporter.put(Report((self._events.encode("fatal_exception", exception=str(error), stack_trace=trace),)))
            return exit_codes.RUN_FAILED

    def _finish(self, supervisor: Supervisor, parts: SupervisorParts, logs: LogUploader | None, code: int) -> int:
        """Report the end of the worker, send what is left, and return the exit code."""
        failure, flush_period = parts.consumer.failure, self._data.flush_period
        if failure and code == exit_codes.COMPLETED and self._config.source is not None:
            self._log.error(failure)
            code = exit_codes.BAD_INPUT
        elif failure:
            # The loop may have ended before the callback ran.
            supervisor.on_queue_refused(failure)
            code = code or exit_codes.RUN_FAILED
        if code == exit_codes.COMPLETED:
            code = self._code_of_tasks(supervisor)
        reason = supervisor.stop_reason or failure or "all tasks are done"
        parts.reporter.put(Report((self._events.encode("worker_stopped", reason=reason, exit_code=code),)))
        # Tasks that it has just received are released through the reporter.
        parts.consumer.close()
        if logs is not None:
            logs.close(flush_period)
        unsent = parts.reporter.close(flush_period)
        if unsent:
            self._log.error(unsent)
            code = code or exit_codes.RUN_FAILED
        if self._thread_failure:
            code = code or exit_codes.RUN_FAILED
        self._log.info(f"Worker ended: {reason}; {self._result_of_tasks(supervisor)}")
        return code

    def _code_of_tasks(self, supervisor: Supervisor) -> int:
        """Return the exit code of a worker that met no problem itself."""
        if supervisor.stop_reason and self._config.source is not None:
            # No other worker runs the rest of a local source.
            return exit_codes.RUN_FAILED
        failed = supervisor.failed
        return exit_codes.code_of_finished(failed, supervisor.completed + failed, self._config.accepted)

    def _result_of_tasks(self, supervisor: Supervisor) -> str:
        attempted = f"{counted(supervisor.finished, 'task')} attempted"
        if not supervisor.failed:
            return attempted
        retry = (
            "; retry them with --retry-failed"
            if self._config.source is not None and self._data.event_log_to_file
            else ""
        )
        return f"{attempted}, {supervisor.failed} failed{retry}"

    def _watch_for_termination(
        self,
        backends: OpenBackends,
        supervisor: Supervisor,
        loop: EventLoop,
        callback: Callable[[], Any] | None,
    ) -> None:
        """Watch for the termination notice of this instance, real or simulated."""
        data = self._data
        simulated = data.simulate_spot_termination_after
        if not backends.is_on_instance and simulated is None:
            return
        from cloud_tasks.worker.supervisor.termination_watch import TerminationWatch

        watch = TerminationWatch(
            lambda reason, seconds_left: loop.post(lambda: supervisor.on_termination_notice(reason, seconds_left)),
            callback=callback,
            stack=self._stack,
            log=self._log,
        )
        if backends.is_on_instance:
            try:
                side = backends.instance_side()
            except CloudTasksError as error:
                self._log.warning(f"Termination notices cannot be received: {error}")
            else:
                watch.start(side, interval=data.notice_interval, events=self._events)
        if simulated is not None:
            watch.simulate(simulated, data.simulate_spot_termination_delay)

    def _open_reporter(self, backends: OpenBackends) -> Reporter:
        backend, leases = backends.backend, backends.leases

        def on_acked(lease_ids: Sequence[str]) -> None:
            if leases is not None:
                leases.drop(lease_ids)

        def confirm(lease_ids: Sequence[str]) -> Collection[str]:
            return () if leases is None else leases.confirm(lease_ids)

        return Reporter(
            backends.sinks,
            tasks=backends.tasks,
            max_delay=0.0 if backend is None else backend.traits.delay.total_seconds(),
            confirm=confirm,
            on_acked=on_acked,
            spool=backends.spool,
            on_refused=lambda reason: self._refused(reason),
            is_billed=backend is not None and backend.traits.bills_requests,
            log=self._log,
        )

    def _open_log_uploader(self, reporter: Reporter) -> LogUploader | None:
        data, folder = self._data, self._config.log_dir
        if data.log_store is None or folder is None:
            return None

        from cloud_tasks.worker.reporting.log_upload import LogUploader

        def on_problem(text: str) -> None:
            self._log.warning(text)
            reporter.put(Report((self._events.encode("non_fatal_exception", exception=text),)))

        keep = data.task_log_dir is not None
        return LogUploader(folder, data.log_store, keep=keep, on_problem=on_problem, log=self._log)

    def _settings(
        self, max_result_bytes: int | None, secret_variables: tuple[str, ...], steps: Mapping[str, float]
    ) -> SupervisorSettings:
        data, config = self._data, self._config
        return SupervisorSettings(
            slots=config.slots,
            max_runtime=data.max_runtime,
            grace=data.shutdown_grace_period,
            term_to_kill=data.timeout_kill_period,
            keepalive_interval=data.keepalive_interval if config.events_to_queue else 0.0,
            idle_limit=data.idle_limit if config.source is None else None,
            max_lifetime=data.max_lifetime,
            drain_after=data.drain_after if config.source is None else None,
            age=_instance_age(),
            start_steps=steps,
            scratch_root=config.scratch_root,
            max_result_bytes=max_result_bytes,
            secret_variables=secret_variables,
            progress_interval=data.progress_interval,
            reuse=data.reuse_processes or 1,
            memory_gb=data.max_memory_allowed_per_task,
            command=config.command,
            log_tasks=config.source is not None or data.verbose > 0,
            folders=(config.scratch_root, *(() if config.log_dir is None else (config.log_dir,))),
        )

    def _on_leases_lost(self, supervisor: Supervisor, loop: EventLoop, lease_ids: Sequence[str]) -> None:
        self._log.warning(
            f"{counted(len(lease_ids), 'lease')} expired early; other workers may be running the same tasks"
        )
        loop.post(lambda: supervisor.on_leases_lost(lease_ids))

    def _power_off(self) -> None:
        """Run the user's command for the end of the worker, whatever the reason of the end."""
        command = self._data.power_off_command
        if command:
            import subprocess

            self._log.info(f"Running the power-off command: {command}")
            subprocess.run(command, shell=True, check=False, stdin=subprocess.DEVNULL)
