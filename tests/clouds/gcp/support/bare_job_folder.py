"""Working directory for Google Cloud whose instances are bare machines, and a store that checks their identity."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bare_machine import DISK, TEMPLATE
from cloud_storage import CloudStorage
from gcp_job_folder import REFERENCE_OPTIONS, GcpJobFolder, gcp_job_folder

__all__ = ["BareJobFolder", "bare_job_folder"]


class BareJobFolder:
    """A job that is shipped.

    Args:
        folder: Its working directory; `GcpJobFolder.folder` is that of the project.
        emulator: ``host:port`` of the Pub/Sub emulator.
    """

    def __init__(self, folder: GcpJobFolder, emulator: str, store: CloudStorage) -> None:
        self._store = store
        self.commands = folder
        self.folder = folder.folder
        self._emulator = emulator

    def configure(self, *, environment: Mapping[str, str] = {}, **run: object) -> tuple[str, ...]:
        """Write the configuration; return the arguments of ``run``."""
        settings = {
            "job_id": "craters",
            "program": "find_craters.py",
            "staging": "gs://bucket/staging",
            "environment": {"PUBSUB_EMULATOR_HOST": self._emulator, **environment},
            "scaling_check_interval": 1,
            "instance_termination_delay": 0,
            **run,
        }
        if settings["program"] is None:
            del settings["program"]
        config = self.commands.write_config({"run": settings})
        return ("--config", str(config), "--task-file", "tasks.json", *REFERENCE_OPTIONS, "--max-instances", "1")

    def run(self, *, environment: Mapping[str, str] = {}, **run: object) -> subprocess.CompletedProcess[str]:
        """Run the job to its end."""
        return self.commands.run("run", *self.configure(environment=environment, **run))

    def downloads(self) -> list[str]:
        """Return the names of the files that instances have downloaded, of all jobs of the store."""
        return [path.rpartition("/")[2] for _, path in self._store.server.calls if path.startswith("/bucket/")]

    def machines(self) -> list[Path]:
        """Return the root folders of the machines so far, the oldest first."""
        roots = (self.folder / "machines").rglob("root/startup-script")
        return [file.parent for file in sorted(roots, key=lambda file: file.stat().st_mtime)]


@contextmanager
def bare_job_folder(
    folder: Path, *, emulator: str, store: CloudStorage, cache: Path, root: Path, disk: str = ""
) -> Iterator[BareJobFolder]:
    """Yield a working directory.

    Args:
        cache: Cache of the controller; it keeps locks.
        root: Root folder that the machines are copies of.
        disk: Size of their disk below ``/opt``; empty for that of this machine.
    """
    variables = {TEMPLATE: str(root), **({DISK: disk} if disk else {})}
    before = {name: os.environ.get(name) for name in (TEMPLATE, DISK)}
    os.environ |= variables
    try:
        with gcp_job_folder(folder, emulator=emulator) as commands:
            commands.environment |= {
                "CLOUD_TASKS_CACHE_DIR": str(cache),
                "STORAGE_EMULATOR_HOST": store.server.url,
                "CLOUD_TASKS_GCP_METADATA_URL": store.settings.metadata_url,
                "NO_GCE_CHECK": "true",
            }
            yield BareJobFolder(commands, emulator, store)
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
