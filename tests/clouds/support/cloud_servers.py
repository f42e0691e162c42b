"""Somebody else's server program as a process of ours, on a port of loopback that was free.

Invariants, each with a test in `tests/clouds/test_support.py`:

1. A program that is missing skips the test, and fails it on CI; either says how to get it.
2. A server that is given answers; it ends with its context, by its own process id.
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
from typing import NoReturn

import pytest

__all__ = ["await_port", "free_port", "missing", "program_of", "running", "serving"]

_PATIENCE = 60.0
_FAREWELL = 10.0


def missing(what: str, *, how: str) -> NoReturn:
    """Skip, and fail on CI, which is meant to have everything.

    Args:
        how: To get it.
    """
    reason = f"{what}: {how}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def program_of(distribution: str, *, what: str) -> str:
    """The path of the program that a Python distribution has under its own name; `missing` where it is not installed.

    Args:
        what: It is, in words.
    """
    beside = Path(sys.executable).with_name(distribution)
    found = str(beside) if beside.exists() else shutil.which(distribution)
    return found or missing(f"{what} is not there", how=f"pip install {distribution}")


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
    """A server that answers, in a folder of its own; both end with the context.

    Args:
        name: Of the server, in words.
        port: That the command tells it to listen on.
        environment: Besides that of this process.
        stdout: None: its log.
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
    """A process that works in the folder of its log and is ended with the context: asked first, then killed."""
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
            process.wait(_FAREWELL)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_port(process: subprocess.Popen[str], port: int, *, name: str, log: Path) -> None:
    """Wait until the process listens; fails with the end of its log when it ends instead, or takes more than 60 s."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"{name} did not start: {log.read_text(errors='replace')[-2000:]}", pytrace=False)
        time.sleep(0.02)
