"""`WorkerData`: the argument of a task's function besides the task."""

from __future__ import annotations

from collections.abc import Mapping
from os import chmod, environ, makedirs
from os.path import abspath, dirname
from typing import Any

from cloud_tasks.worker.common.os_errors import mark_own_failure
from cloud_tasks.worker.common.private_folder import PRIVATE, create_private_folder
from cloud_tasks.worker.common.secrets import SECRETS_DIR, Secrets
from cloud_tasks.worker.common.shared_flags import SharedFlags

__all__ = ["WorkerData"]


class WorkerData:
    """Options of the worker, description of the instance, and state of the attempt.

    Each task has a copy of its own: attributes that a program sets before `Worker.run` exist in every task, those that
    a task sets exist only there. Options that were not given are None.
    """

    args: Any
    """Parsed command line (`argparse.Namespace`)."""
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
    """Seconds between heartbeat events; 0 for none."""
    instance_type: str | None
    num_cpus: int | None
    memory_gb: float | None
    """Memory of the instance in GB."""
    local_ssd_gb: float | None
    boot_disk_gb: float | None
    is_spot: bool | None
    price_per_hour: float | None
    """Price of the instance in US dollars per hour."""
    num_simultaneous_tasks: int
    max_runtime: float
    """Time limit of an attempt in seconds."""
    max_memory_allowed_per_task: float | None
    """Limit of the resident memory of one task's processes, in GB."""
    shutdown_grace_period: float
    """Seconds that running tasks have at a shutdown."""
    retry_on_exit: bool | None
    retry_on_exception: bool | None
    retry_on_timeout: bool | None
    simulate_spot_termination_after: float | None
    simulate_spot_termination_delay: float | None

    def __init__(self, flags: SharedFlags | None = None) -> None:
        self._flags = flags or SharedFlags()
        self._task_id = ""
        self._scratch = ""
        self._scratch_is_used = False
        self._keeps_output = False
        """Whether events of successful attempts, too, have the end of the output."""
        self.attempt = 0
        """Number of the attempt, from 1."""
        self.slot: int | None = None
        """Number of the slot, from 0; unique among the running tasks of a worker."""
        folder = environ.get(SECRETS_DIR)
        self.secrets: Mapping[str, str] = Secrets(abspath(folder) if folder else "")
        """Secrets of the job by name (``run.secrets``): files in ``CLOUD_TASKS_SECRETS_DIR``, read when used."""

    @property
    def received_termination_notice(self) -> bool:
        """Whether the provider has announced that it reclaims this instance; may become true while the task runs."""
        return self._flags.termination_notice

    @property
    def received_shutdown_request(self) -> bool:
        """Whether the worker is shutting down; may become true while the task runs."""
        return self._flags.shutdown_request

    @property
    def seed(self) -> int:
        """Seed for random number generators, from 0 to 2**63 - 1.

        It depends on the job's id, the task's id and the number of the attempt only, so it is the same on every machine
        and in every run: the first 63 bits of the SHA-256 of ``[job_id, task_id, attempt]`` in JSON.

        Raises:
            RuntimeError: No task is running.
        """
        if not self.attempt:
            raise RuntimeError("no seed: no task is running")
        import hashlib
        import json

        text = json.dumps([getattr(self, "job_id", None), self._task_id, self.attempt])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    @property
    def scratch_dir(self) -> str:
        """Directory of this attempt, created on first access and removed when the attempt has ended.

        Raises:
            RuntimeError: No task is running.
        """
        if not self._scratch:
            raise RuntimeError("no scratch directory: no task is running")
        self._scratch_is_used = True
        try:
            try:
                create_private_folder(self._scratch)
            except (FileNotFoundError, PermissionError):
                # The worker had created the parent, which a task may have removed or closed.
                parent = dirname(self._scratch)
                makedirs(parent, exist_ok=True)
                chmod(parent, PRIVATE)
                create_private_folder(self._scratch)
        except OSError as error:
            mark_own_failure(error, "cannot create the scratch folder")
            raise
        return self._scratch
