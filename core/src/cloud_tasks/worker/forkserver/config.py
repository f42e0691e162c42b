"""Configuration of the fork server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cloud_tasks.worker.common.worker_data import WorkerData
from cloud_tasks.worker.forkserver.spawn import Program
from cloud_tasks.worker.task_process.assignment import ResultLimits
from cloud_tasks.worker.task_process.function_call import Function

__all__ = ["ForkserverConfig"]


class ForkserverConfig:
    """Configuration of the fork server, complete before the first fork."""

    __slots__ = (
        "capture",
        "data",
        "environments",
        "function",
        "is_first",
        "limits",
        "log_dir",
        "on_init",
        "program",
        "reuse",
        "slots",
        "spawn",
    )

    def __init__(
        self,
        function: Function,
        data: WorkerData,
        *,
        on_init: Callable[[WorkerData], Any] | None,
        capture: bool,
        log_dir: str | None,
        limits: ResultLimits,
        program: Program,
        environments: Sequence[dict[str, str]],
        spawn: bool | None = None,
        reuse: int = 1,
    ) -> None:
        self.function = function
        self.data = data
        self.on_init = on_init
        self.capture = capture
        self.log_dir = log_dir
        self.limits = limits
        self.program = program
        self.slots = len(environments)
        self.environments = environments
        """Additional environment variables of the tasks of each slot."""
        self.spawn = spawn
        """Whether each task process is a new interpreter; None: only if `on_init` leaves threads."""
        self.reuse = reuse
        """Number of tasks per process."""
        self.is_first = True
        """Whether this is the worker's first fork server."""
