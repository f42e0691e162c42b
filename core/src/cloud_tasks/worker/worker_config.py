"""Configuration of a worker, derived from its options before the first fork.

Every task process has this module in memory, so it imports the light part of the standard library only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from cloud_tasks.errors import InputError
from cloud_tasks.exit_codes import AcceptedFailures
from cloud_tasks.folders import check_folder
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.common.os_errors import os_error_text
from cloud_tasks.worker.common.private_folder import create_private_folder
from cloud_tasks.worker.common.secrets import SECRETS_DIR
from cloud_tasks.worker.common.shared_flags import SharedFlags
from cloud_tasks.worker.common.worker_data import WorkerData
from cloud_tasks.worker.forkserver.config import ForkserverConfig
from cloud_tasks.worker.forkserver.spawn import SPAWN_ADVICE, Program, other_threads
from cloud_tasks.worker.task_process.function_call import Function

__all__ = ["Command", "WorkerConfig"]

_LOCAL_RESULT_BYTES = 256 * 1024 * 1024
_DEFAULT_SPOOL = "cloud-tasks-spool"


class Command(Protocol):
    """A shell command that is the function of a worker."""

    def check(self, task_id: str, data: Mapping[str, Any]) -> None:
        """Check it with the data of a task. Raises `InputError`."""

    def line(self, task_id: str, data: Mapping[str, Any], *, attempt: int, slot: int | None, scratch: str) -> str:
        """Return the line of an attempt, for people; empty if there is none."""


class WorkerConfig:
    """Source of tasks, destination of events, and the way to start task processes."""

    __slots__ = (
        "accepted",
        "capture",
        "command",
        "data",
        "events_to_file",
        "events_to_queue",
        "log_dir",
        "max_result_bytes",
        "queue_backend",
        "scratch_root",
        "slots",
        "source",
        "spawn",
    )

    def __init__(self, data: WorkerData) -> None:
        self.data = data
        self.command: Command | None = None
        """The command that the tasks run; None for a Python function."""
        self.source: Any = None
        """Local task source; None for the queue."""
        self.queue_backend = ""
        """Name of the queue's backend, lower case; empty for none."""
        self.slots = 1
        self.events_to_file = False
        self.events_to_queue = False
        self.accepted = AcceptedFailures()
        """Failed tasks with which the worker exits with code 0."""
        self.capture = False
        self.log_dir: str | None = None
        self.max_result_bytes: int | None = None
        self.scratch_root = ""
        self.spawn: bool | None = None
        """Whether each task process is a new interpreter; None: only if ``worker_init`` leaves threads."""

    @classmethod
    def of(cls, data: Any, task_source: Any, *, is_task: bool = False) -> WorkerConfig:
        """Return the configuration; set the attributes of ``data`` whose default depends on others.

        Args:
            data: The `WorkerData` with the values of all options.
            is_task: Whether this process was spawned for a task.

        Raises:
            InputError: An option is invalid, or options contradict each other.
        """
        config = cls(data)
        config.queue_backend = (data.queue or data.provider or "").lower()
        queue_is_named = bool(config.queue_backend and data.queue_name)
        if data.task_file is not None:
            config.source = data.task_file
        elif not queue_is_named:
            if config.queue_backend and data.job_id:
                raise InputError(
                    f"no queue given: each run of job {data.job_id} has queues with names of their own",
                    where="--queue-name",
                    hint=f"give the full name, which `cloud-tasks status --job-id {data.job_id}` shows",
                )
            config.source = task_source
            if task_source is None:
                raise InputError(
                    "no task source given", hint="add --task-file FILE, or --provider and --queue-name for a queue"
                )
        config._check(data)
        try:
            # A spawned task process has no use for it.
            config.accepted = AcceptedFailures() if is_task else AcceptedFailures.parse(str(data.accept_failures))
        except ValueError as error:
            raise InputError(str(error), where="--accept-failures") from error
        local = config.source is not None
        if data.event_log_to_file is None:
            data.event_log_to_file = local
        if data.event_log_to_queue is None:
            data.event_log_to_queue = not local
        if data.event_log_to_queue and not queue_is_named:
            raise InputError(
                "no queue to send events to", where="--event-log-to-queue", hint="add --provider and --queue-name"
            )
        events_name = data.event_log_queue_name or f"{data.queue_name}-events"
        data.event_log_queue_name = events_name if data.event_log_to_queue else None
        config.events_to_file, config.events_to_queue = data.event_log_to_file, data.event_log_to_queue
        data.slots_were_given = data.num_simultaneous_tasks is not None
        config.slots = data.num_simultaneous_tasks or data.num_cpus or 1
        data.num_simultaneous_tasks = config.slots
        config.capture = data.capture_output if data.capture_output is not None else not local
        data._keeps_output = data._keeps_output or bool(data.capture_output)
        # With a queue the supervisor, which loads the plugin, lowers it to the queue's message size.
        limit = None if data.event_log_to_queue else _LOCAL_RESULT_BYTES
        config.max_result_bytes = data.max_result_bytes if data.max_result_bytes is not None else limit
        config.spawn = True if is_task else _uses_spawn(data.start_method)
        for name in ("log_store", "result_store"):
            setattr(data, name, _absolute(getattr(data, name)))
        for name in ("log_store", "result_store", "task_log_dir"):
            _check_folder(name, getattr(data, name))
        if data.event_spool_dir != _DEFAULT_SPOOL:
            # Where the default cannot be used, reports wait in memory.
            _check_folder("event_spool_dir", data.event_spool_dir)
        if os.environ.get(SECRETS_DIR) and not is_task:
            _check_secrets(data)
        root = os.environ.get("TMPDIR") or "/tmp"
        config.scratch_root = os.path.join(root, f"cloud-tasks-{os.getpid()}-{os.urandom(6).hex()}")
        if data.task_log_dir is not None:
            config.log_dir = os.path.abspath(data.task_log_dir)
        elif data.log_store is not None:
            # Logs are here between the end of an attempt and the upload.
            config.log_dir = os.path.join(config.scratch_root, "logs")
        return config

    def forkserver_config(
        self, function: Function, on_init: Callable[[WorkerData], Any] | None, flags: SharedFlags
    ) -> ForkserverConfig:
        """Return the configuration of the fork server.

        Raises:
            InputError: There is no folder for logs, or task processes would be new interpreters, which cannot execute
                this program.
        """
        program = Program(flags)
        if self.spawn and program.problem:
            raise InputError(program.problem, where="--start-method spawn", hint="save it to a file, or use fork")
        if self.log_dir is not None:
            try:
                if self.log_dir.startswith(self.scratch_root):
                    os.makedirs(os.path.dirname(self.scratch_root), exist_ok=True)
                    create_private_folder(self.scratch_root)
                os.makedirs(self.log_dir, exist_ok=True)
            except OSError as error:
                raise InputError(f"cannot create the folder: {os_error_text(error)}", where="--task-log-dir") from error
        return ForkserverConfig(
            function,
            self.data,
            on_init=on_init,
            capture=self.capture,
            log_dir=self.log_dir,
            limits=(self.max_result_bytes, getattr(self.data, "result_store", None)),
            program=program,
            environments=self._slot_environments(),
            spawn=self.spawn,
            reuse=getattr(self.data, "reuse_processes", None) or 1,
        )

    def _slot_environments(self) -> list[dict[str, str]]:
        """Return the environment of each slot: ``gpus_per_task`` of the devices that this worker may use."""
        count = getattr(self.data, "gpus_per_task", None)
        if not count:
            return [{}] * self.slots
        allowed = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        names = allowed or [str(index) for index in range(count * self.slots)]
        slots = [names[slot * count : (slot + 1) * count] for slot in range(self.slots)]
        return [{"CUDA_VISIBLE_DEVICES": ",".join(names)} for names in slots]

    @staticmethod
    def _check(data: Any) -> None:
        if data.start_method not in (None, "fork", "spawn"):
            raise InputError(f'expected fork or spawn, got "{data.start_method}"', where="--start-method")
        slots = data.num_simultaneous_tasks
        if slots is not None and slots < 1:
            raise InputError(f"expected at least 1, got {slots}", where="--num-simultaneous-tasks")
        if data.num_cpus is not None and data.num_cpus < 1:
            raise InputError(f"expected at least 1, got {data.num_cpus}", where="--num-cpus")
        if data.max_runtime <= 0:
            raise InputError(f"expected a number of seconds above 0, got {data.max_runtime:g}", where="--max-runtime")
        if data.max_attempts < 1:
            raise InputError(f"expected at least 1, got {data.max_attempts}", where="--max-attempts")
        if (data.reuse_processes or 1) > 1 and (data.task_log_dir is not None or data.log_store is not None):
            raise InputError(
                "tasks that share a process cannot have separate logs",
                where="--reuse-processes",
                hint="remove it, or --task-log-dir and --log-store",
            )
        for name in (
            "keepalive_interval",
            "shutdown_grace_period",
            "idle_limit",
            "max_lifetime",
            "drain_after",
            "max_losses",
            "event_spool_bytes",
        ):
            value = getattr(data, name)
            if value is not None and value < 0:
                raise InputError(f"expected 0 or more, got {value:g}", where=f"--{name.replace('_', '-')}")


def _absolute(store: str | None) -> str | None:
    """Return a folder by its full path: a task may change its working folder.

    A relative one is in the folder of the configuration, where that is on this machine.
    """
    if not store or "://" in store:
        return store
    return os.path.abspath(os.path.join(os.environ.get("CLOUD_TASKS_SUBMIT_DIR") or "", store))


def _check_folder(name: str, folder: str | None) -> None:
    """Raise `InputError` if an option names a folder that cannot be used; URLs are not checked."""
    if folder and "://" not in folder:
        try:
            check_folder(folder)
        except ValueError as error:
            raise InputError(str(error), where=f"--{name.replace('_', '-')}") from error


def _check_secrets(data: Any) -> None:
    """Have the full path of the folder of secrets in its variable: a task may have another working folder."""
    try:
        len(data.secrets)
    except OSError as error:
        raise InputError(f"cannot read the folder of the secrets: {os_error_text(error)}", where=SECRETS_DIR) from error
    os.environ[SECRETS_DIR] = os.path.abspath(os.environ[SECRETS_DIR])


def _uses_spawn(method: str | None) -> bool | None:
    """Return whether task processes are new interpreters; None if that depends on ``worker_init``."""
    if method is not None:
        return method == "spawn"
    if sys.platform == "darwin":
        # System libraries of macOS may have threads, which a fork does not copy.
        return True
    names = other_threads()
    if names:
        Log(verbose=False).warning(f"The program has threads ({names}), so {SPAWN_ADVICE}")
        return True
    return None
