"""A real Redis server for the test run, which a test can kill and start again with its data."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class RedisServer:
    """A server on a port of its own, which writes each change to disk before it answers.

    Args:
        configuration: Lines of its configuration file. An argument could be read by every user of this machine.
    """

    username, password = "worker", "right"
    """An account with a password; the default account has none, unless the configuration sets one."""

    def __init__(self, program: str, folder: Path, configuration: str = "") -> None:
        self._port = _free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._log = folder / "server.log"
        place = ["--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(folder)]
        durability = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        account = ["--user", self.username, "on", f">{self.password}", "~*", "&*", "+@all"]
        file = folder / "redis.conf"
        file.write_text(configuration)
        self._command = [program, str(file), *place, *durability, *account]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and return when it answers."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output)
        deadline = time.monotonic() + 20
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"redis-server did not start:\n{self._log.read_text()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill the server, as a power failure does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Kill the server and start it with its data."""
        self.kill()
        self.start()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) in (b"+PONG\r\n", b"-NOAUTH")
        except OSError:
            return False


@contextmanager
def _running(folder: Path, configuration: str = "") -> Iterator[RedisServer]:
    program = shutil.which("redis-server")
    if program is None:
        reason = "redis-server is not installed; get it with: apt-get install redis-server"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    server = RedisServer(program, folder, configuration)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with _running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def secured_redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server with the password ``SEKRET-4711``."""
    with _running(tmp_path_factory.mktemp("secured-redis"), "requirepass SEKRET-4711\n") as server:
        yield server.url


@pytest.fixture
def unused_port() -> int:
    """A port on which nothing listens."""
    return _free_port()


@pytest.fixture(scope="session")
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url
