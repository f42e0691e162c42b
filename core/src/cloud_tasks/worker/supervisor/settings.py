"""Settings of a supervisor."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cloud_tasks.worker.worker_config import Command

__all__ = ["SupervisorSettings"]


class SupervisorSettings(NamedTuple):
    """Settings of a supervisor. Times are in seconds; None means no limit."""

    slots: int
    """Number of tasks that run at a time."""
    max_runtime: float
    """Time limit of an attempt."""
    grace: float
    """Time that running tasks have at a shutdown."""
    term_to_kill: float
    """Time between SIGTERM and SIGKILL when an attempt exceeds its time limit."""
    keepalive_interval: float
    """Time between heartbeat events; 0 for none."""
    idle_limit: float | None
    """Time without a task after which the worker shuts down."""
    max_lifetime: float | None
    """Time after which the worker shuts down."""
    scratch_root: str
    """Parent of the scratch folders."""
    log_tasks: bool
    """Whether each task is logged at INFO; else at DEBUG."""
    progress_interval: float = 0.0
    """Time between two progress lines in the log; 0 for none."""
    memory_gb: float | None = None
    """Limit of the resident memory of one task's processes, in GB."""
    max_result_bytes: int | None = None
    secret_variables: tuple[str, ...] = ()
    """Variables that the processes of tasks do not inherit."""
    folders: tuple[str, ...] = ()
    """Folders of the output and the scratch files of tasks."""
    reuse: int = 1
    """Number of tasks that one process runs."""
    command: Command | None = None
    """The shell command that tasks run; None for a function."""
    drain_after: float | None = None
    """Time after which the worker leases no further tasks, and ends when its tasks have finished."""
    age: float = 0.0
    """Age of the instance, from whose start both lifetimes count; 0 for a worker that was started by hand."""
    start_steps: Mapping[str, float] = MappingProxyType({})
    """Seconds of the steps before the worker, by name; none for a worker that was not shipped."""
