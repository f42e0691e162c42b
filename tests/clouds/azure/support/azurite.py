"""The Azure Storage emulator azurite: its queue and blob services as separate processes.

Azurite is not vendored. Differences from Azure: the name of a deleted queue is free at once; there is no throttling, no
sign-in with Microsoft Entra ID over plain http, and no network latency.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import attrs
from cloud_servers import await_port, free_port, running
from missing import missing

__all__ = ["Azurite", "azurite_server"]

VERSION = "3.35.0"
ACCOUNT = "standin"
_KEY = base64.b64encode(b"the key of an emulator, useless elsewhere").decode()
_ROOT = Path(__file__).parents[4]
_INSTALLED = _ROOT / ".cache" / "stand-ins" / "node_modules" / ".bin"
_HOW = f"install Node.js, then run npm install --prefix .cache/stand-ins azurite@{VERSION} in the folder of the project"


@attrs.frozen(kw_only=True)
class Azurite:
    """A storage account, empty at first."""

    queue_endpoint: str
    """``http://127.0.0.1:PORT/ACCOUNT``."""
    blob_endpoint: str
    clock: Path
    """File with the milliseconds by which the clock is ahead."""

    @property
    def account(self) -> str:
        return ACCOUNT

    @property
    def key(self) -> str:
        return _KEY

    @property
    def connection_string(self) -> str:
        parts = {
            "DefaultEndpointsProtocol": "http",
            "AccountName": ACCOUNT,
            "AccountKey": _KEY,
            "QueueEndpoint": self.queue_endpoint,
            "BlobEndpoint": self.blob_endpoint,
        }
        return ";".join(f"{name}={value}" for name, value in parts.items())

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the environment that points commands and workers here."""
        return {"AZURE_STORAGE_CONNECTION_STRING": self.connection_string}

    def advance(self, duration: timedelta) -> None:
        """Advance the clock."""
        ahead = int(self.clock.read_text() or 0) + round(duration.total_seconds() * 1000)
        written = self.clock.with_suffix(".new")
        written.write_text(str(ahead))
        written.replace(self.clock)

    def queues(self) -> list[str]:
        """Return the names of all queues."""
        from azure.storage.queue import QueueServiceClient

        with QueueServiceClient.from_connection_string(self.connection_string) as service:
            return sorted(str(each.name) for each in service.list_queues())

    def blobs(self, *containers: str) -> list[str]:
        """Return ``container/name`` of all blobs, or of those in some containers."""
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient.from_connection_string(self.connection_string) as service:
            return sorted(
                f"{container.name}/{blob}"
                for container in service.list_containers()
                if not containers or container.name in containers
                for blob in service.get_container_client(str(container.name)).list_blob_names()
            )


@contextmanager
def azurite_server() -> Iterator[Azurite]:
    """Run an empty account; skip the test if azurite is not installed."""
    programs = {kind: _program(f"azurite-{kind}") for kind in ("queue", "blob")}
    with tempfile.TemporaryDirectory(prefix="cloud-tasks-azurite-") as folder, ExitStack() as stack:
        clock = Path(folder) / "clock"
        clock.write_text("0")
        ports = {kind: free_port() for kind in programs}
        started = {
            kind: stack.enter_context(_service(kind, program, Path(folder), ports[kind]))
            for kind, program in programs.items()
        }
        for kind, process in started.items():
            await_port(process, ports[kind], name="azurite", log=Path(folder) / f"{kind}.log")
        yield Azurite(
            queue_endpoint=f"http://127.0.0.1:{ports['queue']}/{ACCOUNT}",
            blob_endpoint=f"http://127.0.0.1:{ports['blob']}/{ACCOUNT}",
            clock=clock,
        )


def _service(kind: str, program: str, folder: Path, port: int) -> AbstractContextManager[subprocess.Popen[str]]:
    shim = Path(__file__).with_name("azurite_clock.cjs")
    environment = {
        "AZURITE_ACCOUNTS": f"{ACCOUNT}:{_KEY}",
        "CLOUD_TASKS_CLOCK": str(folder / "clock"),
        "NODE_OPTIONS": f'--require "{shim}"',
    }
    options = [f"--{kind}Host", "127.0.0.1", f"--{kind}Port", str(port)]
    options += ["--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    return running([program, *options], log=folder / f"{kind}.log", environment=environment)


def _program(name: str) -> str:
    local = _INSTALLED / name
    found = shutil.which(name) or (str(local) if local.exists() else None)
    if found is None or shutil.which("node") is None:
        missing(f"{name if found is None else 'node'} is not installed", how=_HOW)
    return found
