"""Third-party server programs, started on a free port of the loopback interface.

Invariants, each with a test in `tests/clouds/test_support.py`:

1. A missing program skips the test, and fails it on CI; both messages say how to install it.
2. A yielded server accepts connections; it ends with its context, by its own process id.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from missing import missing

__all__ = ["await_port", "free_port", "program_of", "running", "serving"]

_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 10.0


def program_of(distribution: str, *, what: str) -> str:
    """Return the path of the program that a Python distribution installs under its own name; call `missing` without it.

    Args:
        what: Description of the program.
    """
    beside = Path(sys.executable).with_name(distribution)
    found = str(beside) if beside.exists() else shutil.which(distribution)
    return found or missing(f"{what} is not installed", how=f"pip install {distribution}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    name: str,
    command: Sequence[str],
    *,
    port: int,
    environment: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Run a server in its own temporary folder until the end of the context; yield it once it accepts connections.

    Args:
        name: Description of the server.
        port: Port in the command.
        environment: Variables in addition to those of this process.
        stdout: None for the log.
    """
    with tempfile.TemporaryDirectory(prefix="cloud-tasks-server-") as folder:
        log = Path(folder) / "log"
        with running(command, log=log, environment=environment, stdin=stdin, stdout=stdout) as process:
            await_port(process, port, name=name, log=log)
            yield process


@contextmanager
def running(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Run a process in the folder of its log until the end of the context: SIGTERM, then SIGKILL."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=log.parent,
            env={**os.environ, **(environment or {})},
            stdin=stdin,
            stdout=output if stdout is None else stdout,
            stderr=output,
            text=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_port(process: subprocess.Popen[str], port: int, *, name: str, log: Path) -> None:
    """Wait until the process listens; fail the test with the end of its log if it exits instead, or after 60 s."""
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"{name} did not start: {log.read_text(errors='replace')[-2000:]}", pytrace=False)
        time.sleep(0.02)
