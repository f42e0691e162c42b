"""A Redis server for the test run, on a free port of this machine."""

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


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) in (b"+PONG\r\n", b"-NOAUTH")
    except OSError:
        return False


@contextmanager
def _server(folder: Path, *options: str) -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        reason = "redis-server is not installed; get it with: apt-get install redis-server"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "no"]
    log = folder / "server.log"
    with (
        log.open("wb") as output,
        subprocess.Popen([program, *options, *arguments], stdout=output, stderr=output) as server,
    ):
        try:
            deadline = time.monotonic() + 20
            while not _answers(port):
                if server.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"redis-server did not start:\n{log.read_text()}")
                time.sleep(0.02)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with _server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def secured_redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server with the password ``SEKRET-4711``."""
    folder = tmp_path_factory.mktemp("secured-redis")
    # Not an argument, which every user of this machine can read. A file comes before all options.
    (folder / "redis.conf").write_text("requirepass SEKRET-4711\n")
    with _server(folder, str(folder / "redis.conf")) as url:
        yield url
