"""`WorkerData`: what a task's function is told besides its task."""

from __future__ import annotations

import os
from typing import Any

from cloud_tasks.worker.common.shared_flags import SharedFlags

__all__ = ["WorkerData"]


class WorkerData:
    """The worker's options, the machine's description, and where this attempt stands.

    A task gets a copy of its own: attributes that a program sets before `Worker.start` are there in every task,
    those that a task sets are gone with it. Options that were not given are None.
    """

    args: Any
    """What the program's argument parser made of the command line (`argparse.Namespace`)."""
    provider: str | None
    project_id: str | None
    job_id: str | None
    queue_name: str | None
    exactly_once_queue: bool
    event_log_to_queue: bool
    event_log_queue_name: str | None
    event_log_to_file: bool
    event_log_file: str | None
    keepalive_interval: float
    """Seconds; 0: none are sent."""
    instance_type: str | None
    num_cpus: int | None
    memory_gb: float | None
    local_ssd_gb: float | None
    boot_disk_gb: float | None
    is_spot: bool | None
    price_per_hour: float | None
    """US dollars."""
    num_simultaneous_tasks: int
    max_runtime: float
    """Seconds that one attempt may take."""
    max_memory_allowed_per_task: float | None
    """GB."""
    shutdown_grace_period: float
    """Seconds."""
    retry_on_exit: bool | None
    retry_on_exception: bool | None
    retry_on_timeout: bool | None
    simulate_spot_termination_after: float | None
    simulate_spot_termination_delay: float | None

    def __init__(self, flags: SharedFlags | None = None) -> None:
        self._flags = flags or SharedFlags()
        self._scratch = ""
        self._scratch_is_used = False
        self.attempt = 0
        """1 for the first attempt of a task."""
        self.slot: int | None = None
        """From 0 to the number of simultaneous tasks less one; no two running tasks of a worker have the same."""

    @property
    def received_termination_notice(self) -> bool:
        """Whether the provider said that it will take this machine away; may become true while the task runs."""
        return self._flags.termination_notice

    @property
    def received_shutdown_request(self) -> bool:
        """Whether the worker was asked to end; may become true while the task runs."""
        return self._flags.shutdown_request

    @property
    def scratch_dir(self) -> str:
        """A directory for this attempt alone, made when first asked for and removed when the attempt has ended."""
        if not self._scratch:
            raise RuntimeError("there is a scratch directory only while a task runs")
        self._scratch_is_used = True
        os.makedirs(self._scratch, mode=0o700, exist_ok=True)
        return self._scratch
