"""What a supervisor is told, and how it ends."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Exit", "SupervisorSettings"]


class Exit:
    """Exit codes."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    INTERRUPTED = 130
    TERMINATED = 143


class SupervisorSettings(NamedTuple):
    """Seconds throughout; None: no limit."""

    slots: int
    max_runtime: float
    grace: float
    term_to_kill: float
    """Between SIGTERM and SIGKILL at a time-out."""
    keepalive_interval: float
    idle_limit: float | None
    max_lifetime: float | None
    scratch_root: str
    log_tasks: bool
    """Whether each task is logged at INFO; else at DEBUG."""
    progress_interval: float = 0.0
    memory_gb: float | None = None
    """What the processes of one task may have resident."""
    max_result_bytes: int | None = None
    reuse: int = 1
    """How many tasks one process does."""
