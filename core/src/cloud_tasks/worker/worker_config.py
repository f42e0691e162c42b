"""What this worker is going to do, decided from its options before the first fork. Light: every task process has it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from cloud_tasks.errors import InputError
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.common.shared_flags import SharedFlags
from cloud_tasks.worker.common.worker_data import WorkerData
from cloud_tasks.worker.forkserver.config import ForkserverConfig
from cloud_tasks.worker.forkserver.spawn import SPAWN_ADVICE, Program, other_threads
from cloud_tasks.worker.task_process.runner import Function

__all__ = ["WorkerConfig"]

_LOCAL_RESULT_BYTES = 256 * 1024 * 1024


class WorkerConfig:
    """Where tasks come from, where events go, and how task processes are made."""

    __slots__ = (
        "capture",
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
        self.source: Any = None
        """The local task source; None: the queue."""
        self.queue_backend = ""
        self.slots = 1
        self.events_to_file = False
        self.events_to_queue = False
        self.capture = False
        self.log_dir: str | None = None
        self.max_result_bytes: int | None = None
        self.scratch_root = ""
        self.spawn: bool | None = None
        """Whether each task process is a fresh interpreter; None: if ``worker_init`` leaves threads."""

    @classmethod
    def of(cls, data: Any, task_source: Any, *, is_task: bool = False) -> WorkerConfig:
        """Fills those attributes of ``data`` whose default depends on others.

        Args:
            is_task: This process was spawned for a task.

        Raises:
            InputError: The options contradict each other.
        """
        plan = cls(data)
        plan.queue_backend = (data.queue or data.provider or "").lower()
        data.queue_name = data.queue_name or data.job_id
        queue_is_named = bool(plan.queue_backend and data.queue_name)
        if data.task_file is not None:
            plan.source = data.task_file
        elif not queue_is_named:
            plan.source = task_source
            if task_source is None:
                raise InputError(
                    "there is nothing to work on", hint="give --task-file FILE, or --provider and --job-id for a queue"
                )
        plan._check(data)
        local = plan.source is not None
        if data.event_log_to_file is None:
            data.event_log_to_file = local
        if data.event_log_to_queue is None:
            data.event_log_to_queue = not local
        if data.event_log_to_queue and not queue_is_named:
            raise InputError("events cannot go to a queue that is not named", hint="give --provider and --job-id")
        data.event_log_queue_name = f"{data.queue_name}-events" if data.event_log_to_queue else None
        plan.events_to_file, plan.events_to_queue = data.event_log_to_file, data.event_log_to_queue
        data.slots_were_given = data.num_simultaneous_tasks is not None
        plan.slots = data.num_simultaneous_tasks or data.num_cpus or 1
        data.num_simultaneous_tasks = plan.slots
        plan.capture = data.capture_output if data.capture_output is not None else not local
        # With a queue the supervisor lowers it to what the queue carries; only it knows the plugin.
        limit = None if data.event_log_to_queue else _LOCAL_RESULT_BYTES
        plan.max_result_bytes = data.max_result_bytes if data.max_result_bytes is not None else limit
        plan.spawn = True if is_task else _spawn(data.start_method)
        root = os.environ.get("TMPDIR") or "/tmp"
        plan.scratch_root = os.path.join(root, f"cloud-tasks-{os.getpid()}-{os.urandom(6).hex()}")
        if data.task_log_dir is not None:
            plan.log_dir = os.path.abspath(data.task_log_dir)
        elif data.log_store is not None:
            # Between the end of a task and the upload.
            plan.log_dir = os.path.join(plan.scratch_root, "logs")
        return plan

    def order(
        self, function: Function, on_init: Callable[[WorkerData], Any] | None, flags: SharedFlags
    ) -> ForkserverConfig:
        """What a template is told."""
        if self.log_dir is not None:
            os.makedirs(self.log_dir, exist_ok=True)
        return ForkserverConfig(
            function,
            self.data,
            on_init=on_init,
            capture=self.capture,
            log_dir=self.log_dir,
            limits=(self.max_result_bytes, getattr(self.data, "result_store", None)),
            program=Program(flags),
            environments=self._slot_environments(),
            spawn=self.spawn,
            reuse=getattr(self.data, "reuse_processes", None) or 1,
        )

    def _slot_environments(self) -> list[dict[str, str]]:
        """Which devices the tasks of each slot see: ``gpus_per_task`` of those that this worker may use, or of all."""
        count = getattr(self.data, "gpus_per_task", None)
        if not count:
            return [{}] * self.slots
        allowed = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        names = allowed or [str(place) for place in range(count * self.slots)]
        slots = [names[slot * count : (slot + 1) * count] for slot in range(self.slots)]
        return [{"CUDA_VISIBLE_DEVICES": ",".join(names)} for names in slots]

    @staticmethod
    def _check(data: Any) -> None:
        if data.start_method not in (None, "fork", "spawn"):
            raise InputError(f'--start-method is "{data.start_method}"', hint="it is fork or spawn")
        slots = data.num_simultaneous_tasks
        if slots is not None and slots < 1:
            raise InputError(f"--num-simultaneous-tasks is {slots}", hint="at least 1 is needed")
        if data.num_cpus is not None and data.num_cpus < 1:
            raise InputError(f"--num-cpus is {data.num_cpus}", hint="at least 1 is needed")
        if data.max_runtime <= 0:
            raise InputError(f"--max-runtime is {data.max_runtime:g}", hint="give seconds above zero")
        if data.max_attempts < 1:
            raise InputError(f"--max-attempts is {data.max_attempts}", hint="at least 1 is needed")
        if (data.reuse_processes or 1) > 1 and (data.task_log_dir is not None or data.log_store is not None):
            raise InputError(
                "tasks that share a process share its output too", hint="leave out --reuse-processes, or the logs"
            )
        for name in (
            "keepalive_interval",
            "shutdown_grace_period",
            "idle_limit",
            "max_lifetime",
            "max_losses",
            "event_spool_bytes",
        ):
            value = getattr(data, name)
            if value is not None and value < 0:
                raise InputError(f"--{name.replace('_', '-')} is {value:g}", hint="it cannot be negative")


def _spawn(method: str | None) -> bool | None:
    """Whether task processes are fresh interpreters; None: that depends on ``worker_init``."""
    if method is not None:
        return method == "spawn"
    if sys.platform == "darwin":
        # Its system libraries may use threads of their own, which a fork cuts off.
        return True
    names = other_threads()
    if names:
        Log(verbose=False).warning(f"The program has threads ({names}), so {SPAWN_ADVICE}")
        return True
    return None
