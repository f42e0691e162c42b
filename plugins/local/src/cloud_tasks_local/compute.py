"""Instances that are processes of this machine: each a supervised process tree with its own folder.

Invariants, each with a test:

1. One client token starts at most one instance, for any launcher and number of calls, and whenever a launcher is
   killed: the instance record precedes the start, and the runner process registers itself.
2. Any process that opens the same state folder finds all instances, and never looks outside that folder.
3. After `terminate` no process of the instance runs.
4. The environment of a script has no variable of the controller, and the secrets of the request, which are in no file.
"""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cloud_tasks.errors import LaunchFailedError, LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import (
    Headroom,
    Image,
    Instance,
    InstanceState,
    InstanceType,
    LaunchRequest,
    Offer,
    ProvisioningModel,
    Region,
)
from cloud_tasks.plugin import ComputeContext
from cloud_tasks.plugin.kit import tail_of_file
from cloud_tasks_local.catalog import REGION, ZONE, image, instance_types
from cloud_tasks_local.instance_folder import InstanceFolder, InstanceLockedError
from cloud_tasks_local.private_files import StateFolder, write_private
from cloud_tasks_local.processes import MARKER, instance_processes, kill_all, signal_process
from cloud_tasks_local.settings import LocalSettings

__all__ = ["LocalCompute"]

_START_TIMEOUT = timedelta(seconds=10)
_KILL_TIMEOUT = 2.0
_PREFIXES = ("CLOUD_TASKS_", "RMS_CLOUD_TASKS_")
"""Variables of the controller, which no instance of a cloud has either."""
_RUNNER_PROGRAM = """
import sys
sys.path.insert(0, sys.argv[2])
from cloud_tasks_local.instance_runner import main
sys.exit(main(sys.argv[1]))
"""


class LocalCompute:
    """The `Compute` of one state folder."""

    def __init__(self, settings: LocalSettings, context: ComputeContext) -> None:
        self._settings = settings
        self._submit_dir = context.submit_dir.absolute()
        self._secret_variables = frozenset(context.secret_variables)
        self._state = StateFolder(settings.state_dir)
        self._root = settings.state_dir / "instances"

    def regions(self) -> Sequence[Region]:
        return (Region(name=REGION, zones=(ZONE,), description="this machine"),)

    def images(self) -> Sequence[Image]:
        return (image(),)

    def instance_types(self) -> Sequence[InstanceType]:
        return instance_types(self._settings)

    def headroom(self, offer: Offer) -> Headroom | None:
        return None

    def launch(self, request: LaunchRequest) -> Instance:
        self._check(request)
        name = f"local-{quote(request.client_token, safe='')}"
        folder = InstanceFolder(self._job_folder(request.job_id) / name)
        try:
            self._write_intent(folder, request)
            if not folder.process.exists() and not folder.ended.exists():
                self._start_runner(folder, request.secrets)
        except OSError as error:
            if error.errno == errno.EMFILE:
                limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
                raise LaunchFailedError(
                    f"cannot start an instance: too many open files (limit: {limit:,})",
                    hint="raise the limit with `ulimit -n`",
                ) from error
            raise LaunchRefusedError(
                f"cannot start an instance in {folder.path}: {error.strerror or error}",
                scope=RefusalScope.ACCOUNT,
                retry_after=timedelta(seconds=30),
                reason=type(error).__name__,
                needs_action=error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOENT),
            ) from error
        instance = self._instance(folder)
        if instance is None:
            raise ProviderError(f"folder {folder.path} was removed during the launch", transient=True)
        return instance

    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        folders = (folder for folder in self._folders(job_id) if include_terminated or not folder.ended.exists())
        found = (self._instance(folder) for folder in folders)
        return tuple(
            instance
            for instance in found
            if instance is not None and (include_terminated or instance.state is not InstanceState.TERMINATED)
        )

    def terminate(self, instance_ids: Sequence[str]) -> None:
        requested = frozenset(instance_ids)
        folders = [
            folder for folder in self._folders(None) if folder.path.name in requested and not folder.ended.exists()
        ]
        for folder in folders:
            # On a full disk, an instance is terminated all the same.
            with suppress(OSError):
                folder.terminating.touch(0o600)
            _signal_runner(folder, signal.SIGTERM)
        deadline = time.monotonic() + self._settings.shutdown_grace + _KILL_TIMEOUT
        remaining = [folder.path.name for folder in folders if not _await_exit(folder, deadline)]
        if remaining:
            raise ProviderError(f"cannot kill all processes of {', '.join(remaining)}", transient=True)

    def console_log(self, instance_id: str) -> str:
        for folder in self._folders(None):
            if folder.path.name == instance_id:
                return tail_of_file(folder.console)
        return ""

    def close(self) -> None:
        """Do nothing: no resource stays open."""

    def _check(self, request: LaunchRequest) -> None:
        if request.offer.zone != ZONE:
            raise LaunchRefusedError(
                f'zone "{request.offer.zone}" not found; the only zone is "{ZONE}"',
                scope=RefusalScope.ZONE,
                retry_after=timedelta(days=1),
                reason="UNKNOWN_ZONE",
            )
        name = request.offer.instance_type.name
        if name not in {known.name for known in self.instance_types()}:
            raise LaunchRefusedError(
                f'instance type "{name}" not found',
                scope=RefusalScope.INSTANCE_TYPE,
                retry_after=timedelta(days=1),
                reason="UNKNOWN_INSTANCE_TYPE",
            )

    def _write_intent(self, folder: InstanceFolder, request: LaunchRequest) -> None:
        if folder.instance.exists():
            return
        self._state.make(folder.path)
        # Two launches with one token write the same script, so either may be read.
        draft = folder.script.with_name(f".{folder.script.name}.{os.urandom(4).hex()}")
        write_private(draft, request.startup_script)
        os.replace(draft, folder.script)
        folder.write_once(folder.instance, self._record(folder, request))

    def _record(self, folder: InstanceFolder, request: LaunchRequest) -> Mapping[str, Any]:
        spot = (
            request.offer.provisioning_model is ProvisioningModel.SPOT and self._settings.spot_mean_lifetime is not None
        )
        return {
            "instance_id": folder.path.name,
            "job_id": request.job_id,
            "client_token": request.client_token,
            "instance_type": request.offer.instance_type.name,
            "zone": request.offer.zone,
            "purchase": request.offer.provisioning_model.value,
            "boot_disk_type": request.offer.boot_disk.disk_type,
            "price_per_hour": str(request.offer.price_per_hour.usd),
            "labels": dict(request.labels),
            "created_at": datetime.now(UTC).isoformat(),
            "max_lifetime": None if request.max_lifetime is None else request.max_lifetime.total_seconds(),
            "startup_timeout": None if request.startup_timeout is None else request.startup_timeout.total_seconds(),
            "spot_lifetime": self._spot_lifetime(request.client_token) if spot else None,
            "spot_notice": self._settings.spot_notice,
            "shutdown_grace": self._settings.shutdown_grace,
        }

    def _spot_lifetime(self, client_token: str) -> float:
        """Return the seconds until the simulated interruption: exponentially distributed, and constant per token."""
        assert self._settings.spot_mean_lifetime is not None
        return random.Random(client_token).expovariate(1.0 / self._settings.spot_mean_lifetime)

    def _start_runner(self, folder: InstanceFolder, secrets: Mapping[str, str]) -> None:
        """Start the runner process, which gets the secrets through a pipe and gives them to the script only."""
        package_root = str(Path(__file__).resolve().parent.parent)
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in self._secret_variables and not name.startswith(_PREFIXES)
        }
        environment = inherited | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "CLOUD_TASKS_INSTANCE_ID": folder.path.name,
            "CLOUD_TASKS_SUBMIT_DIR": str(self._submit_dir),
            "CLOUD_TASKS_LOCAL_STATE_DIR": str(self._settings.state_dir),
            MARKER: str(folder.path),
        }
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", _RUNNER_PROGRAM, str(folder.path), package_root],
            env=environment,
            input=json.dumps(dict(secrets)).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal must not reach an instance that is starting
            check=False,
        )
        if not (folder.process.exists() or folder.ended.exists() or folder.terminating.exists()):
            raise LaunchRefusedError(
                f"the runner process of {folder.path.name} did not start",
                scope=RefusalScope.ACCOUNT,
                retry_after=timedelta(seconds=30),
                reason="NOT_STARTED",
                hint=f"check the files in {folder.path}",
            )

    def _job_folder(self, job_id: str) -> Path:
        return self._root / quote(job_id, safe="").replace(".", "%2E")

    def _folders(self, job_id: str | None) -> Iterator[InstanceFolder]:
        jobs = _subfolders(self._root) if job_id is None else [self._job_folder(job_id)]
        for job in jobs:
            for path in _subfolders(job):
                yield InstanceFolder(path)

    def _instance(self, folder: InstanceFolder) -> Instance | None:
        """Return the instance of a folder; None without an instance record."""
        try:
            record = folder.read(folder.instance)
            if record is None:
                return None
            created_at = datetime.fromisoformat(record["created_at"])
            state = _state(folder, created_at)
            started_at = _started_at(folder, created_at)
            ended = folder.read(folder.ended) if state is InstanceState.TERMINATED else None
            return Instance(
                instance_id=record["instance_id"],
                job_id=record["job_id"],
                state=state,
                instance_type=record["instance_type"],
                zone=record["zone"],
                provisioning_model=ProvisioningModel(record["purchase"]),
                created_at=created_at,
                client_token=record["client_token"],
                boot_disk_type=record["boot_disk_type"],
                labels=record["labels"],
                address="localhost",
                started_at=started_at,
                # This machine's clock may have been set back.
                ended_at=max(datetime.fromisoformat(ended["at"]), started_at or created_at) if ended else None,
                reason=ended["reason"] if ended else "",
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ProviderError(f"cannot read the instance record {folder.instance}: {error}") from error


def _subfolders(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            return sorted(path / entry.name for entry in entries if entry.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ProviderError(f"cannot list {path}: {error.strerror}") from error


def _state(folder: InstanceFolder, created_at: datetime) -> InstanceState:
    if folder.ended.exists():
        return InstanceState.TERMINATED
    if folder.is_held():
        return InstanceState.STOPPING if folder.terminating.exists() else InstanceState.RUNNING
    if not folder.process.exists() and datetime.now(UTC) - created_at < _START_TIMEOUT:
        return InstanceState.STOPPING if folder.terminating.exists() else InstanceState.STARTING
    # The runner process was killed, or the launcher before it started one.
    if instance_processes(folder.path):
        return InstanceState.STOPPED
    _record_end(folder, "runner process killed" if folder.process.exists() else "never started")
    return InstanceState.RUNNING if folder.is_held() and not folder.ended.exists() else InstanceState.TERMINATED


def _started_at(folder: InstanceFolder, created_at: datetime) -> datetime | None:
    """Return when the runner process registered itself; None before."""
    process = folder.read(folder.process)
    if process is None:
        return None
    # Records of earlier versions have no time.
    return max(datetime.fromisoformat(process["at"]), created_at) if "at" in process else created_at


def _signal_runner(folder: InstanceFolder, number: signal.Signals) -> None:
    process = folder.read(folder.process)
    if process is not None and folder.is_held():
        signal_process(process["pid"], process["started"], number)


def _await_exit(folder: InstanceFolder, deadline: float) -> bool:
    """Wait until the deadline for the runner to exit, then kill the instance's processes; return whether none is
    left."""
    poll = 0.002
    while folder.is_held() and time.monotonic() < deadline:
        time.sleep(poll)
        poll = min(poll * 1.5, 0.05)
    if folder.ended.exists():
        return True
    _signal_runner(folder, signal.SIGKILL)
    left = kill_all(folder.path)
    _record_end(folder, "terminated")
    return not left and not folder.is_held()


def _record_end(folder: InstanceFolder, reason: str) -> None:
    """Record the end of an instance without processes; without disk space, the next listing does."""
    ended = {"at": datetime.now(UTC).isoformat(), "reason": reason, "exit_code": None}
    try:
        with folder.hold():
            folder.write_once(folder.ended, ended)
    except (InstanceLockedError, OSError):
        return
