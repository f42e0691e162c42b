"""A real NATS server for the test run, which a test can kill and start again with its data."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

if TYPE_CHECKING:
    from cloud_tasks_nats.settings import NatsSettings


def _free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class NatsServer:
    """A server on a port of its own, with its files in a folder.

    Args:
        configuration: Further lines of its configuration file. An argument could be read by every user of this machine.
    """

    username, password = "worker", "SEKRET-4711"

    def __init__(self, program: str, folder: Path, configuration: str = "") -> None:
        self._port = _free_port()
        self.url = f"nats://127.0.0.1:{self._port}"
        self._log = folder / "server.log"
        file = folder / "nats.conf"
        file.touch(0o600)
        place = f'listen: "127.0.0.1:{self._port}"\njetstream {{ store_dir: "{folder}" }}\n'
        file.write_text(place + (configuration or self._account()))
        self._command = [program, "--config", str(file)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and return when it answers."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output)
        deadline = time.monotonic() + 20
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"nats-server did not start:\n{self._log.read_text()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill the server, which keeps each message but may forget the latest acks."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Stop the server and start it with its data."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        self.start()

    def reader(self, settings: NatsSettings) -> NatsSettings:
        """Return the settings of an account without permission to send."""
        return attrs.evolve(settings, username="reader")

    def _account(self) -> str:
        worker = f'{{ user: "{self.username}", password: "{self.password}" }}'
        reader = f'{{ user: reader, password: "{self.password}", permissions: {{ publish: "nothing" }} }}'
        return f"authorization {{ users: [ {worker}, {reader} ] }}\n"

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False


@contextmanager
def _running(folder: Path, configuration: str = "") -> Iterator[NatsServer]:
    program = shutil.which("nats-server")
    if program is None:
        reason = "nats-server is not installed; get it with: apt-get install nats-server"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    server = NatsServer(program, folder, configuration)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server with the password ``SEKRET-4711``."""
    with _running(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def token_nats_url(tmp_path: Path) -> Iterator[str]:
    """Address of a server with the token ``SEKRET-4712``."""
    with _running(tmp_path, 'authorization { token: "SEKRET-4712" }\n') as server:
        yield server.url


@pytest.fixture
def unused_port() -> int:
    """A port on which nothing listens."""
    return _free_port()
